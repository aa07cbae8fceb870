"""What discovery found, registered and refused: frozen values."""

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["DiscoveredCatalog", "DiscoveredPlugin", "DiscoveryProblem", "DiscoveryReport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveredCatalog:
    """A catalogue that was registered.

    Attributes:
        name: Of its entry point.
        distribution: That brought it, in its normalised spelling.
        package: Import name; the origin of its candidates.
        path: Of the file.
        registered: Number of candidates.
    """

    name: str
    distribution: str
    package: str
    path: str
    registered: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveredPlugin:
    """A plugin that was loaded and registered.

    Attributes:
        group: Entry-point group, such as ``"oneiric.adapters"``.
        name: Of its entry point.
        distribution: That brought it; the origin of its candidates.
        value: The callable, as the entry point states it.
        registered: Number of candidates.
    """

    group: str
    name: str
    distribution: str
    value: str
    registered: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryProblem:
    """A catalogue or plugin that was left out.

    Attributes:
        kind: ``"catalog"`` or ``"plugin"``.
        name: Of its entry point.
        distribution: That brought it.
        reason: What failed, in a sentence.
        hint: What to try, or None.
    """

    kind: str
    name: str
    distribution: str
    reason: str
    hint: str | None = None

    def __str__(self) -> str:
        sentence = f"{self.kind} {self.name!r} of {self.distribution}: {self.reason}"
        return sentence if self.hint is None else f"{sentence}. Try: {self.hint}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryReport:
    """Everything one discovery did, in order of entry-point names.

    Attributes:
        catalogs: What was registered from catalogue files.
        plugins: What was registered by code.
        errors: What was left out, and why.
    """

    catalogs: tuple[DiscoveredCatalog, ...] = ()
    plugins: tuple[DiscoveredPlugin, ...] = ()
    errors: tuple[DiscoveryProblem, ...] = ()

    @property
    def registered(self) -> int:
        """Number of candidates registered."""
        return sum(each.registered for each in self.catalogs) + sum(each.registered for each in self.plugins)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain data: ``catalogs``, ``plugins``, ``errors``, ``registered``."""
        return {
            "catalogs": [asdict(each) for each in self.catalogs],
            "plugins": [asdict(each) for each in self.plugins],
            "errors": [asdict(each) for each in self.errors],
            "registered": self.registered,
        }
