"""Discovery: everything installed that offers candidates, registered; whatever is broken, reported."""

import re
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Final, Protocol

from oneiric.core._candidate import Candidate
from oneiric.core._requirements import normalized
from oneiric.core.catalog._entry_points import EntryPoint, entry_points_of
from oneiric.core.catalog._files import find_catalog, parse_catalog
from oneiric.core.catalog._report import (
    DiscoveredCatalog,
    DiscoveredPlugin,
    DiscoveryProblem,
    DiscoveryReport,
)
from oneiric.core.errors import CatalogError, OneiricError, RegistrationError

__all__ = ["CATALOG_GROUP", "PLUGIN_GROUPS", "discover"]

#: Entry points whose value is a package with a ``catalog.toml``.
CATALOG_GROUP: Final = "oneiric.catalogs"
#: Entry points whose value is a callable that returns candidates or metadata.
PLUGIN_GROUPS: Final = (
    "oneiric.actions",
    "oneiric.adapters",
    "oneiric.events",
    "oneiric.services",
    "oneiric.tasks",
    "oneiric.workflows",
)

_PACKAGE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*\Z")


class Registrar(Protocol):
    """What discovery asks of a resolver."""

    def apply(self, add: Iterable[Candidate] = ()) -> int:
        """Take in candidates, all or none."""
        ...


def discover(
    resolver: Registrar,
    *,
    plugins: bool = False,
    allowed_distributions: Collection[str] | None = None,
    deadline_seconds: float = 10.0,
) -> DiscoveryReport:
    """Register everything that installed distributions offer.

    Catalogues are read from their files: no package is imported and no code of one runs. Each catalogue and
    each plugin is one revision, all or nothing; one that is broken is a line in the report and touches no
    other. Two distributions that claim one entry-point name are both refused, so that neither stands in for
    the other.

    Args:
        resolver: Takes the candidates.
        plugins: Also load the code of plugin entry points, each in a thread of its own.
        allowed_distributions: The only distributions that may offer anything; None allows all.
        deadline_seconds: How long one plugin may take to import and answer.

    Returns:
        What was registered and what was left out, in order of entry-point names.
    """
    groups = {CATALOG_GROUP, *PLUGIN_GROUPS} if plugins else {CATALOG_GROUP}
    discovery = _Discovery(resolver, deadline_seconds)
    for entry_point in discovery.permitted(entry_points_of(groups), allowed_distributions):
        try:
            discovery.take(entry_point)
        except OneiricError as error:
            discovery.refuse(entry_point, error.message, error.hint)
    return discovery.report()


class _Discovery:
    """One run: what was registered so far, and what was refused."""

    def __init__(self, resolver: Registrar, deadline_seconds: float) -> None:
        self._resolver = resolver
        self._deadline_seconds = deadline_seconds
        self._identities: dict[tuple[str, str, str, str], EntryPoint] = {}
        self._catalogs: list[DiscoveredCatalog] = []
        self._plugins: list[DiscoveredPlugin] = []
        self._problems: list[DiscoveryProblem] = []

    def report(self) -> DiscoveryReport:
        return DiscoveryReport(
            catalogs=tuple(self._catalogs), plugins=tuple(self._plugins), errors=tuple(self._problems)
        )

    def refuse(self, entry_point: EntryPoint, reason: str, hint: str | None = None) -> None:
        kind = "catalog" if entry_point.group == CATALOG_GROUP else "plugin"
        problem = DiscoveryProblem(
            kind=kind, name=entry_point.name, distribution=entry_point.distribution, reason=reason, hint=hint
        )
        self._problems.append(problem)

    def permitted(self, found: list[EntryPoint], allowed: Collection[str] | None) -> list[EntryPoint]:
        """Leave out, with a line each, what is not allowed and what is claimed twice."""
        if allowed is not None:
            names = {normalized(name) for name in allowed}
            for entry_point in found:
                if entry_point.distribution not in names:
                    self.refuse(entry_point, "its distribution is not one of those that are allowed")
            found = [entry_point for entry_point in found if entry_point.distribution in names]
        claims = Counter((entry_point.group, entry_point.name) for entry_point in found)
        for entry_point in found:
            if claims[entry_point.group, entry_point.name] > 1:
                rivals = [each for each in found if each[:2] == entry_point[:2]]
                owners = " and ".join(sorted({each.distribution for each in rivals}))
                self.refuse(
                    entry_point,
                    f"its name is claimed {len(rivals)} times, by {owners}: none of them is used",
                    "uninstall the one you did not mean, or name the other in allowed_distributions",
                )
        return [entry_point for entry_point in found if claims[entry_point.group, entry_point.name] == 1]

    def take(self, entry_point: EntryPoint) -> None:
        """Register what one entry point offers.

        Raises:
            OneiricError: It is broken; nothing of it was registered.
        """
        if entry_point.group == CATALOG_GROUP:
            self._take_catalog(entry_point)
        else:
            self._take_plugin(entry_point)

    def _take_catalog(self, entry_point: EntryPoint) -> None:
        package = entry_point.value
        if not _PACKAGE.match(package):
            raise CatalogError(f"{package[:80]!r} is not the name of a package", "a dotted name, such as 'acme.cache'")
        path, content = find_catalog(package)
        candidates = parse_catalog(content, package, path)
        self._register(entry_point, candidates)
        self._catalogs.append(
            DiscoveredCatalog(
                name=entry_point.name,
                distribution=entry_point.distribution,
                package=package,
                path=path,
                registered=len(candidates),
            )
        )

    def _take_plugin(self, entry_point: EntryPoint) -> None:
        from oneiric.core.catalog._plugins import load_plugin  # noqa: PLC0415 - brings threading; not for a listing

        candidates = load_plugin(entry_point, self._deadline_seconds)
        self._register(entry_point, candidates)
        self._plugins.append(DiscoveredPlugin(**entry_point._asdict(), registered=len(candidates)))

    def _register(self, entry_point: EntryPoint, candidates: tuple[Candidate, ...]) -> None:
        for candidate in candidates:
            if (first := self._identities.get(candidate.identity)) is not None:
                offered = f"{candidate} from {candidate.origin!r}"
                raise RegistrationError(f"{offered} is already offered by {first.name!r} of {first.distribution}")
        if candidates:
            self._resolver.apply(add=candidates)
        self._identities |= dict.fromkeys((candidate.identity for candidate in candidates), entry_point)
