"""Entries of a manifest → candidates, each with its own verdict."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from oneiric.core.catalog import candidate_from_row, candidates_of_checked
from oneiric.core.errors import FactoryNotAllowedError, InvalidCandidateError
from oneiric.core.resolution import Candidate, CandidateSource
from oneiric.core.security import BLOCKED_MODULES, FactoryAllowList, check_factory
from oneiric.remote._manifest_rows import RESERVED, Row, Rows, are_named_well

__all__ = ["Entries", "FactoryPolicy", "Refusal", "candidates_of"]

_NOTHING = FactoryAllowList(())


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FactoryPolicy:
    """Which modules remote factories may come from: nothing, but for what is listed.

    Attributes:
        domains: Domain → the modules its factories may come from.
        general: For the domains that are not listed; by default nothing.
    """

    domains: Mapping[str, FactoryAllowList] = field(default_factory=dict)
    general: FactoryAllowList = _NOTHING

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "FactoryPolicy":
        """Read ``ONEIRIC_FACTORY_ALLOWLIST`` for every domain: empty denies all, absent is ``oneiric``.

        Raises:
            ConfigurationError: An entry is not a dotted module name.
        """
        return cls(general=FactoryAllowList.from_environ(environ))

    def check(self, candidate: Candidate) -> None:
        """Refuse a candidate that names code from elsewhere; nothing is imported.

        Raises:
            FactoryNotAllowedError: Its factory or its settings model is outside what its domain may name.
        """
        allowed = self.domains.get(candidate.domain, self.general)
        # That it is a factory string, and blocks no module, was decided when the candidate was made of its row.
        for text in (candidate.factory, candidate.settings_model):
            if text is not None and not allowed.permits(str(text)):
                check_factory(text, allowed)

    def beginnings(self, domain: str) -> tuple[str, ...]:
        """Return how factory strings of a domain may begin; one that begins otherwise may be allowed all the same."""
        allowed = self.domains.get(domain, self.general)
        if type(allowed) is not FactoryAllowList:
            return ()
        tops = {prefix: prefix.partition(".")[0] for prefix in allowed.prefixes}
        safe = [prefix for prefix, top in tops.items() if BLOCKED_MODULES.isdisjoint({top, top.lstrip("_")})]
        return tuple(f"{prefix}{end}" for prefix in safe for end in ".:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why an entry was not taken.

    Attributes:
        number: Its place in the manifest, from 1.
        name: ``domain:key/provider`` as far as it states them.
        reason: One sentence.
        is_policy: True when the entry is well-formed, and this client does not want it.
    """

    number: int
    name: str
    reason: str
    is_policy: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"entry": self.number, "name": self.name, "reason": self.reason, "policy": self.is_policy}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """What became of a manifest's entries.

    Attributes:
        candidates: Those that were taken, in the order of the manifest.
        refused: The others.
    """

    candidates: tuple[Candidate, ...]
    refused: tuple[Refusal, ...] = ()


def candidates_of(
    rows: Iterable[object],
    *,
    origin: str,
    policy: FactoryPolicy | None = None,
    about: Mapping[str, Any] | None = None,
    revoked: frozenset[str] = frozenset(),
    digest_required: bool = True,
) -> Entries:
    """Make candidates of a manifest's entries; what is wrong with one is no matter of the others.

    Args:
        rows: The entries.
        origin: What they come from; withdrawal goes by it.
        policy: Which factories may be named; by default none.
        about: Goes to each candidate's metadata as ``manifest``.
        revoked: SHA-256 of artifacts that must not be used any more.
        digest_required: Refuse an artifact without digest and size.
    """
    policy = policy or FactoryPolicy()
    shared = {"source": "remote", "manifest": dict(about or {})}
    listed = list(rows.read if isinstance(rows, Rows) else rows)
    usual = _usual(listed, policy, revoked, digest_required=digest_required)
    if _are_distinct(listed) and all(map(usual, listed)):
        return Entries(candidates=tuple(candidates_of_checked(listed, CandidateSource.REMOTE_MANIFEST, origin, shared)))
    taken: dict[tuple[str, str, str], Candidate] = {}
    refused: list[Refusal] = []
    for number, row in enumerate(listed, 1):
        if type(row) is Row and usual(row) and (identity := (row.domain, row.key, row.provider)) not in taken:
            (taken[identity],) = candidates_of_checked((row,), CandidateSource.REMOTE_MANIFEST, origin, shared)
            continue
        stated = row.as_dict() if type(row) is Row else row
        try:
            candidate = _candidate(stated, origin, shared, f"entry {number}")
            if candidate.identity[:3] in taken:
                raise InvalidCandidateError("provider", "is stated by an earlier entry too", str(candidate))
            _check_artifact(candidate, revoked, digest_required=digest_required)
            policy.check(candidate)
        except FactoryNotAllowedError as error:
            refused.append(Refusal(number=number, name=_name(stated), reason=error.message, is_policy=True))
        except InvalidCandidateError as error:
            refused.append(Refusal(number=number, name=_name(stated), reason=error.message))
        else:
            taken[candidate.identity[:3]] = candidate
    return Entries(candidates=tuple(taken.values()), refused=tuple(refused))


def _are_distinct(listed: Sequence[Any]) -> bool:
    """Tell whether all entries are rows of which no two have one identity."""
    if not {*map(type, listed)} <= {Row}:
        return False
    count = len(listed)
    # Mostly the keys alone differ, and a set of them is had at once.
    return len({row.key for row in listed}) == count or (
        len({(row.domain, row.key, row.provider) for row in listed}) == count
    )


def _usual(
    listed: Sequence[object], policy: FactoryPolicy, revoked: frozenset[str], *, digest_required: bool
) -> Callable[[Row], bool]:
    """Return a test that only rows pass of which nothing is left to be judged."""
    named_well = are_named_well([row for row in listed if type(row) is Row])
    beginnings: dict[str, tuple[str, ...]] = {}

    def is_usual(row: Row) -> bool:
        allowed = beginnings.get(row.domain)
        if allowed is None:
            allowed = beginnings[row.domain] = policy.beginnings(row.domain)
        if not row.factory.startswith(allowed):
            return False
        if row.settings_model is not None and not row.settings_model.startswith(allowed):
            return False
        if row.sha256 is None:
            if digest_required and row.uri is not None:
                return False
        elif row.sha256 in revoked or (digest_required and row.uri is not None and row.size is None):
            return False
        return named_well or are_named_well((row,))

    return is_usual


def _candidate(row: Any, origin: str, shared: Mapping[str, Any], where: str) -> Candidate:
    if isinstance(row, dict) and type(stated := row.get("metadata")) is dict and not RESERVED.isdisjoint(stated):
        row = {**row, "metadata": {name: value for name, value in stated.items() if name not in RESERVED}}
    return candidate_from_row(row, source=CandidateSource.REMOTE_MANIFEST, origin=origin, where=where, metadata=shared)


def _check_artifact(candidate: Candidate, revoked: frozenset[str], *, digest_required: bool) -> None:
    metadata = candidate.metadata
    digest = metadata.get("sha256")
    if digest is None and not digest_required:
        return
    if "remote_uri" in metadata and digest_required and (digest is None or "size" not in metadata):
        raise InvalidCandidateError("uri", "needs sha256 and size beside it", str(candidate))
    if digest in revoked:
        raise InvalidCandidateError("sha256", f"names an artifact that was revoked, {digest}", str(candidate))


def _name(row: Any) -> str:
    if not isinstance(row, Mapping):
        return "?"
    domain, key, provider = (str(row.get(name, "?"))[:80] for name in ("domain", "key", "provider"))
    return f"{domain}:{key}/{provider}"
