"""Policy: what the operator decided, apart from what is on offer."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from oneiric.core._candidate import Candidate
from oneiric.core._environment import Environment
from oneiric.core._names import check_domain, check_name
from oneiric.core.errors import ConfigurationError

__all__ = ["Policy", "Selection", "StackOrder", "path_priority"]

STACK_ORDER_VARIABLE: Final = "ONEIRIC_STACK_ORDER"

#: What a path segment below a package's top directory says about the components in it.
_SEGMENT_PRIORITY: Final = {
    "vendor": 90,
    "adapters": 80,
    "services": 70,
    "tasks": 60,
    "events": 60,
    "workflows": 60,
}
_DEEPEST: Final = 10

type Selections = Mapping[str, Mapping[str, "Selection"]]


@dataclass(frozen=True, slots=True)
class Selection:
    """An explicit choice of a provider, and where it was made.

    Attributes:
        provider: The provider chosen.
        origin: File and line, environment variable, or ``"swap"``.
        by: Who chose, where that is known.
        at: When, in seconds since the epoch, where that is known.
    """

    provider: str
    origin: str = "policy"
    by: str | None = None
    at: float | None = None

    def __str__(self) -> str:
        return f"{self.origin} by {self.by}" if self.by else self.origin


class StackOrder(Mapping[str, int]):
    """The operator's priority for whole packages, as ``ONEIRIC_STACK_ORDER`` states it.

    A name matches the package an origin starts with: ``oneiric`` matches the origin ``oneiric.adapters.cache``. The
    longest matching name counts.

    Args:
        priorities: Package name → priority.
        origin: Where it was stated, for explanations.
    """

    __slots__ = ("_priorities", "origin")

    def __init__(self, priorities: Mapping[str, int] | None = None, origin: str = STACK_ORDER_VARIABLE) -> None:
        self._priorities = dict(priorities or {})
        self.origin = origin

    @classmethod
    def parse(cls, text: str, origin: str = STACK_ORDER_VARIABLE) -> "StackOrder":
        """Read ``sites:100,splashstand:50,oneiric:10``; a bare name counts 10 per place, the first name highest.

        Raises:
            ConfigurationError: An entry is malformed or a name comes twice; the message names it.
        """
        entries = [entry.strip() for entry in text.split(",") if entry.strip()]
        priorities: dict[str, int] = {}
        for place, entry in enumerate(entries):
            name, colon, number = (part.strip() for part in entry.partition(":"))
            try:
                priority = int(number) if colon else 10 * (len(entries) - place)
            except ValueError:
                raise _malformed(entry, origin, "its priority is not an integer") from None
            if not name or any(character.isspace() for character in name):
                raise _malformed(entry, origin, "it has no package name")
            if name in priorities:
                raise _malformed(entry, origin, f"package {name!r} is named twice")
            priorities[name] = priority
        return cls(priorities, origin)

    def match(self, package: str) -> tuple[str, int] | None:
        """Return the name that covers *package*, and its priority; None when none does."""
        name = package
        while name:
            priority = self._priorities.get(name)
            if priority is not None:
                return name, priority
            name = name.rpartition(".")[0]
        return None

    def __getitem__(self, name: str) -> int:
        return self._priorities[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._priorities)

    def __len__(self) -> int:
        return len(self._priorities)

    def __repr__(self) -> str:
        return f"StackOrder({self._priorities!r})"


def _malformed(entry: str, origin: str, problem: str) -> ConfigurationError:
    return ConfigurationError(
        f"entry {entry[:80]!r} cannot be read: {problem}",
        "name:priority entries, as in sites:100,oneiric:10",
        key=origin,
    )


def path_priority(package: str, path: str) -> int:
    """Infer a priority from where in its package a component lies.

    Only the segments below the package's top directory count, never where the package is installed: the strongest of
    ``vendor 90, adapters 80, services 70, tasks|events|workflows 60``, minus the depth (at most 10), else 0.
    """
    segments = path.replace("\\", "/").strip("/").split("/")
    top = package.partition(".")[0]
    if top not in segments:
        return 0
    below = segments[len(segments) - segments[::-1].index(top) :]
    strongest = max((_SEGMENT_PRIORITY.get(segment, 0) for segment in below), default=0)
    return strongest - min(len(below), _DEEPEST) if strongest else 0


@dataclass(frozen=True, slots=True)
class Policy:
    """The operator's decisions: selections, tenants, stack order; and the machine they are judged on.

    Args:
        selections: Domain → key → provider, or a `Selection` that says where the choice was made.
        tenants: Tenant → selections that overlay the base ones.
        stack_order: Priorities of whole packages; a mapping or a `StackOrder`.
        environment: Facts about the machine; by default those of this process.

    Raises:
        InvalidCandidateError: A domain, key, provider or tenant breaks the grammar of names.
    """

    selections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tenants: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    stack_order: Mapping[str, int] = field(default_factory=StackOrder)
    environment: Environment = field(default_factory=Environment.current)

    def __post_init__(self) -> None:
        object.__setattr__(self, "selections", _frozen(self.selections))
        tenants = {check_name("tenant", tenant): _frozen(overlay) for tenant, overlay in self.tenants.items()}
        object.__setattr__(self, "tenants", MappingProxyType(tenants))
        if not isinstance(self.stack_order, StackOrder):
            object.__setattr__(self, "stack_order", StackOrder(self.stack_order, "policy"))

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> "Policy":
        """Make the policy of a process without settings: no selections, ``ONEIRIC_STACK_ORDER`` honoured.

        Raises:
            ConfigurationError: The variable is malformed; the message names the entry.
        """
        text = (os.environ if environ is None else environ).get(STACK_ORDER_VARIABLE, "")
        return cls(stack_order=StackOrder.parse(text))

    def selection_for(self, domain: str, key: str, tenant: str | None = None) -> Selection | None:
        """Return the configured selection of *tenant* alone, or the base one when it is None."""
        selections = self.selections if tenant is None else self.tenants.get(tenant)
        if not selections:
            return None
        found: Selection | None = selections.get(domain, _NONE).get(key)
        return found

    def priority_of(self, candidate: Candidate) -> int:
        """Return the priority a candidate ranks with: the operator's, else its own, else the path heuristic's."""
        return (
            self.explain_priority(candidate)[0]
            if self.stack_order or candidate.priority is None
            else candidate.priority
        )

    def explain_priority(self, candidate: Candidate) -> tuple[int, str]:
        """Return the priority a candidate ranks with, and where that number came from."""
        order = self.stack_order
        if order and isinstance(order, StackOrder) and (matched := order.match(candidate.origin)):
            return matched[1], f"{order.origin} {matched[0]}"
        if candidate.priority is not None:
            return candidate.priority, f"stated by {candidate.origin}"
        path = candidate.metadata.get("path")
        if isinstance(path, str) and (inferred := path_priority(str(candidate.metadata.get("package", "")), path)):
            return inferred, f"path {path}"
        return 0, "default"


_NONE: Final[Mapping[str, Any]] = MappingProxyType({})


def _frozen(selections: Mapping[str, Mapping[str, Any]]) -> Selections:
    """Check and freeze selections, and give plain strings the form that carries an origin."""
    return MappingProxyType(
        {
            check_domain(domain): MappingProxyType(
                {check_name("key", key): _selection(choice) for key, choice in chosen.items()}
            )
            for domain, chosen in selections.items()
        }
    )


def _selection(choice: object) -> Selection:
    selection = choice if isinstance(choice, Selection) else Selection(choice)  # type: ignore[arg-type]  # checked below
    check_name("provider", selection.provider)
    return selection
