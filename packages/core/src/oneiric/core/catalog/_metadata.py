"""Metadata that providers state in code, for those who register without a catalogue file."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from oneiric.core._candidate import Candidate, CandidateSource, Factory
from oneiric.core._key import Key
from oneiric.core.errors import InvalidCandidateError

__all__ = ["ActionMetadata", "AdapterMetadata", "register_action_metadata", "register_adapter_metadata"]


class PackageRegistrar(Protocol):
    """What the registration helpers ask of a resolver."""

    def register_from_pkg(
        self, package: str, path: str, candidates: Iterable[Candidate], priority: int | None = None
    ) -> int:
        """Take in the candidates of a package."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterMetadata:
    """Describe an adapter in code; `to_candidate` makes the candidate.

    Attributes:
        category: The key it serves, such as ``"cache"``.
        provider: Its name among the category's providers.
        factory: A callable, or ``"module:attr"``.
        version: Its own version.
        description: One line for people.
        capabilities: What it can do.
        stack_level: Rank among equal priorities.
        priority: Rank; None leaves it to the registration.
        source: How it came in.
        owner: Who answers for it.
        requires_secrets: Whether its settings hold secrets.
        settings_model: Class of its settings, or ``"module:Class"``.
        requires_extra: Requirement that brings its SDK.
        opt_in: True when it wins only if selected.
        blocking: True when the factory blocks.
        exclusive: True when two instances cannot exist at once.
        needs: Parameter of the factory → key of what is handed in.
        extras: Whatever else goes to the candidate's metadata.
    """

    category: str
    provider: str
    factory: Factory
    version: str | None = None
    description: str | None = None
    capabilities: Iterable[str] = ()
    stack_level: int | None = None
    priority: int | None = None
    source: CandidateSource = CandidateSource.LOCAL_PKG
    owner: str | None = None
    requires_secrets: bool | None = None
    settings_model: str | type[Any] | None = None
    requires_extra: str | None = None
    opt_in: bool = False
    blocking: bool = False
    exclusive: bool = False
    needs: Mapping[str, Key[Any]] = field(default_factory=dict)
    extras: Mapping[str, Any] = field(default_factory=dict)

    def to_candidate(self) -> Candidate:
        """Return the candidate of domain ``adapter`` that this describes.

        Raises:
            InvalidCandidateError: A field breaks its rule.
        """
        described = {
            "description": self.description,
            "owner": self.owner,
            "requires_secrets": self.requires_secrets,
        }
        return Candidate(
            domain="adapter",
            key=self.category,
            provider=self.provider,
            factory=self.factory,
            version=self.version,
            capabilities=_capabilities(self.capabilities),
            stack_level=self.stack_level,
            priority=self.priority,
            source=self.source,
            settings_model=_model_name(self.settings_model),
            requires_extra=self.requires_extra,
            opt_in=self.opt_in,
            blocking=self.blocking,
            exclusive=self.exclusive,
            needs=self.needs,
            metadata={**_stated(described), **self.extras},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionMetadata:
    """Describe an action in code; `to_candidate` makes the candidate.

    Attributes:
        key: The action, such as ``"compression.encode"``.
        provider: Its name among the providers of the key.
        factory: A callable, or ``"module:attr"``.
        version: Its own version.
        description: One line for people.
        domains: Domains it serves.
        capabilities: What it can do.
        stack_level: Rank among equal priorities.
        priority: Rank; None leaves it to the registration.
        source: How it came in.
        owner: Who answers for it.
        requires_secrets: Whether its settings hold secrets.
        side_effect_free: Whether it may be run twice without a difference.
        settings_model: Class of its settings, or ``"module:Class"``.
        requires_extra: Requirement that brings its SDK.
        extras: Whatever else goes to the candidate's metadata.
    """

    key: str
    provider: str
    factory: Factory
    version: str | None = None
    description: str | None = None
    domains: Iterable[str] = ()
    capabilities: Iterable[str] = ()
    stack_level: int | None = None
    priority: int | None = None
    source: CandidateSource = CandidateSource.LOCAL_PKG
    owner: str | None = None
    requires_secrets: bool | None = None
    side_effect_free: bool | None = None
    settings_model: str | type[Any] | None = None
    requires_extra: str | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)

    def to_candidate(self) -> Candidate:
        """Return the candidate of domain ``action`` that this describes.

        Raises:
            InvalidCandidateError: A field breaks its rule.
        """
        described = {
            "description": self.description,
            "domains": list(self.domains) or None,
            "owner": self.owner,
            "requires_secrets": self.requires_secrets,
            "side_effect_free": self.side_effect_free,
        }
        return Candidate(
            domain="action",
            key=self.key,
            provider=self.provider,
            factory=self.factory,
            version=self.version,
            capabilities=_capabilities(self.capabilities),
            stack_level=self.stack_level,
            priority=self.priority,
            source=self.source,
            settings_model=_model_name(self.settings_model),
            requires_extra=self.requires_extra,
            metadata={**_stated(described), **self.extras},
        )


def register_adapter_metadata(
    resolver: PackageRegistrar,
    package_name: str,
    package_path: str,
    adapters: Iterable[AdapterMetadata],
    priority: int | None = None,
) -> int:
    """Register adapters that a package states in code, in one revision.

    Args:
        resolver: Takes the candidates.
        package_name: The package's import name.
        package_path: The directory the adapters live in; only what lies below the package counts.
        adapters: What they are.
        priority: The priority of those that state none; None asks the path heuristic.

    Returns:
        The number of the revision that holds them.

    Raises:
        InvalidCandidateError: A field breaks its rule.
        DuplicateCandidateError: Two of them have the same category and provider.
    """
    candidates = [adapter.to_candidate() for adapter in adapters]
    return resolver.register_from_pkg(package_name, package_path, candidates, priority)


def register_action_metadata(
    resolver: PackageRegistrar,
    package_name: str,
    package_path: str,
    actions: Iterable[ActionMetadata],
    priority: int | None = None,
) -> int:
    """Register actions that a package states in code, in one revision; see `register_adapter_metadata`."""
    candidates = [action.to_candidate() for action in actions]
    return resolver.register_from_pkg(package_name, package_path, candidates, priority)


def _stated(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _capabilities(capabilities: Iterable[str]) -> tuple[str, ...]:
    if isinstance(capabilities, str):
        raise InvalidCandidateError("capabilities", f"must be a sequence of strings, not {capabilities!r}")
    return tuple(capabilities)


def _model_name(model: str | type[Any] | None) -> str | None:
    """Return ``module:Class`` of a model; a candidate names its model, so that listing it imports nothing."""
    if model is None or isinstance(model, str):
        return model
    if "." in model.__qualname__:
        raise InvalidCandidateError("settings_model", f"must be a class at the top of a module, not {model!r}")
    return f"{model.__module__}:{model.__qualname__}"
