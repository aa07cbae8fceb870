"""Candidate: one implementation on offer for a key."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

from oneiric.core._key import Key
from oneiric.core._names import check_domain, check_name
from oneiric.core.errors import InvalidCandidateError
from oneiric.core.security import is_factory_string

__all__ = ["BUILTIN_DOMAINS", "Candidate", "CandidateSource", "CheckedRow", "Factory", "candidates_of_checked"]

#: Domains with a bridge of their own; any other lower-case name is a custom domain.
BUILTIN_DOMAINS: Final = ("adapter", "service", "task", "event", "workflow", "action")

type Factory = Callable[..., Any] | str

_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})


class CandidateSource(StrEnum):
    """Where a candidate came from; the values are those of published manifests and snapshots."""

    LOCAL_PKG = "local_pkg"
    ENTRY_POINT = "entry_point"
    REMOTE_MANIFEST = "remote_manifest"
    MANUAL = "manual"


class CheckedRow(Protocol):
    """A row of which every value was checked by the rules of a `Candidate`; one that is None was not stated."""

    @property
    def domain(self) -> str:
        """Its domain."""

    @property
    def key(self) -> str:
        """What it implements."""

    @property
    def provider(self) -> str:
        """Its own name among the candidates of the key."""

    @property
    def priority(self) -> int | None:
        """Its rank, if it was stated."""

    @property
    def stack_level(self) -> int | None:
        """Its rank among equal priorities, if it was stated."""

    @property
    def opt_in(self) -> bool | None:
        """Whether it wins only when selected, if it was stated."""

    def described(self, shared: Mapping[str, Any]) -> dict[str, Any]:
        """Return the other fields by name, as the candidate is to have them, with *shared* in the metadata.

        All but ``source`` and ``origin``: ``factory`` is always among them.
        """


class _PutOff:
    """What a candidate has beside its fields: the answer that ranking asks of each, and the row it was made of."""

    __slots__ = ("_common", "row", "unconditional")

    #: True when nothing but its rank decides: it is not opt-in, and the machine has no say.
    unconditional: bool
    #: What it was made of by `candidates_of_checked`; None when it was made otherwise.
    row: CheckedRow | None
    #: What it has in common with those that were made with it: its source, and what goes to the metadata.
    _common: tuple[CandidateSource, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Candidate(_PutOff):
    """One implementation on offer: what it stands for, how it is made, and what decides its rank.

    Its identity is ``(domain, key, provider, origin)``; two candidates are equal only if they are the same object.

    Attributes:
        domain: A built-in domain, or any lower-case name.
        key: What it implements, such as ``"cache"``.
        provider: Its own name among the candidates of the key, such as ``"redis"``.
        factory: Called to make an instance, or ``"module:attr"`` that names such a callable. It is called
            ``factory(settings, **needs)``, without ``settings`` when there is no ``settings_model``.
        priority: Rank among the candidates of the key, highest first; None asks the path heuristic, which says 0
            where it knows nothing.
        stack_level: Rank among equal priorities, highest first; None counts as 0.
        source: How it came in.
        origin: The package, catalogue or manifest digest it came from; `withdraw` goes by it, and
            ``ONEIRIC_STACK_ORDER`` is matched with it.
        capabilities: What it can do, asked for by ``resolve(capabilities=…)``.
        version: Its own version, for people.
        settings_model: ``"module:Class"`` of the model its settings are validated with.
        requires_extra: The requirement that brings its SDK, such as ``"oneiric-adapters-cache[redis]"``.
        opt_in: True when it needs a server, an account or a key: it wins only when selected.
        requires_python: PEP 440 specifier set, such as ``">=3.13"``.
        requires_os: ``sys.platform`` names it runs on (``linux``, ``darwin``); empty is any.
        requires_packages: Requirements such as ``"redis>=6"`` that must be installed.
        conflicts_with: Requirements of which none may be installed.
        blocking: True when the factory blocks: it is called in a thread of its own.
        exclusive: True when two instances cannot exist at once (a port, a single-writer file): it is swapped
            break-before-make.
        needs: Parameter name of the factory → key of the component handed in as a live proxy.
        metadata: Whatever else its domain wants to know; read-only.

    Raises:
        InvalidCandidateError: A field breaks its rule; the message names both.
    """

    domain: str
    key: str
    provider: str
    factory: Factory
    priority: int | None = None
    stack_level: int | None = None
    source: CandidateSource = CandidateSource.LOCAL_PKG
    origin: str = "local"
    capabilities: tuple[str, ...] = ()
    version: str | None = None
    settings_model: str | None = None
    requires_extra: str | None = None
    opt_in: bool = False
    requires_python: str | None = None
    requires_os: tuple[str, ...] = ()
    requires_packages: tuple[str, ...] = ()
    conflicts_with: tuple[str, ...] = ()
    blocking: bool = False
    exclusive: bool = False
    needs: Mapping[str, Key[Any]] = _EMPTY
    metadata: Mapping[str, Any] = _EMPTY

    def __post_init__(self) -> None:
        check_domain(self.domain)
        check_name("key", self.key)
        check_name("provider", self.provider)
        factory = self.factory
        if isinstance(factory, str):
            if not is_factory_string(factory):
                raise InvalidCandidateError("factory", f"must read 'module:attr', not {factory[:80]!r}", str(self))
        elif not callable(factory):
            raise InvalidCandidateError("factory", f"must be callable or 'module:attr', not {factory!r}", str(self))
        if self.priority is not None and type(self.priority) is not int:
            raise InvalidCandidateError("priority", f"must be an int or None, not {self.priority!r}", str(self))
        if self.stack_level is not None and type(self.stack_level) is not int:
            raise InvalidCandidateError("stack_level", f"must be an int or None, not {self.stack_level!r}", str(self))
        self._freeze()

    def _freeze(self) -> None:
        """Make the collections immutable; nothing is copied that already is."""
        kinds = {type(self.capabilities), type(self.requires_os), type(self.requires_packages)}
        if kinds != _TUPLES or type(self.conflicts_with) is not tuple:
            self._freeze_sequences()
        if type(self.needs) is not MappingProxyType:
            object.__setattr__(self, "needs", MappingProxyType(dict(self.needs)))
        if type(self.metadata) is not MappingProxyType:
            object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))
        if self.settings_model is not None and not is_factory_string(self.settings_model):
            raise InvalidCandidateError("settings_model", f"must read 'module:Class', not {self.settings_model!r}")
        origin: object = self.origin
        if not isinstance(origin, str) or not 0 < len(origin) <= _LONGEST_ORIGIN:
            raise InvalidCandidateError("origin", f"must be a string of 1 to {_LONGEST_ORIGIN} characters", str(self))
        requires = self.requires_python or self.requires_packages or self.conflicts_with or self.requires_extra
        if requires:
            self._check_requirements()
        _set_unconditional(self, not (requires or self.requires_os or self.opt_in))
        for parameter, needed in self.needs.items():
            key: object = needed
            if not isinstance(key, Key) or not parameter.isidentifier():
                raise InvalidCandidateError("needs", f"maps parameter names to keys, not {parameter!r}: {needed!r}")

    def _complete(self) -> None:
        """Fill in the fields that were put off; two threads that do it at once write the same."""
        assert self.row is not None  # noqa: S101 - else no field is empty
        source, shared = self._common
        values = {**_LATER, **self.row.described(shared), "source": source}
        values["metadata"] = MappingProxyType(values["metadata"])
        for name, value in values.items():
            object.__setattr__(self, name, value)

    if not TYPE_CHECKING:  # a type checker would take every name for an attribute

        def __getattr__(self, name: str) -> Any:
            """Answer for a field that was put off; asked only where a slot is empty."""
            if name == "unconditional":  # it was copied or unpickled: that makes fields only
                _set_unconditional(self, not (self.opt_in or is_constrained(self)))
            elif name == "row":
                return None
            elif name in _LATER:
                self._complete()
            else:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            return object.__getattribute__(self, name)

    def _freeze_sequences(self) -> None:
        for name in _TUPLE_FIELDS:
            value = getattr(self, name)
            if type(value) is not tuple:
                if isinstance(value, str):
                    raise InvalidCandidateError(name, f"must be a sequence of strings, not {value!r}", str(self))
                object.__setattr__(self, name, tuple(value))

    def _check_requirements(self) -> None:
        # Imported here: most candidates state none.
        from oneiric.core._requirements import check_requirement, check_specifiers  # noqa: PLC0415

        if self.requires_python:
            check_specifiers("requires_python", self.requires_python, str(self))
        if self.requires_extra:
            check_requirement("requires_extra", self.requires_extra, str(self))
        for name in ("requires_packages", "conflicts_with"):
            for requirement in getattr(self, name):
                check_requirement(name, requirement, str(self))

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """``(domain, key, provider, origin)``: registering the same identity again replaces the row."""
        return (self.domain, self.key, self.provider, self.origin)

    def __str__(self) -> str:
        return f"{self.domain}:{self.key}/{self.provider}"

    def __repr__(self) -> str:
        stated = [f"{self.domain}:{self.key}/{self.provider}", f"origin={self.origin!r}"]
        stated += [f"{name}={value!r}" for name in ("priority", "stack_level") if (value := getattr(self, name))]
        return f"<Candidate {' '.join(stated)}>"

    def replace(self, **changes: Any) -> "Candidate":
        """Return a copy with some fields changed, validated anew.

        Raises:
            InvalidCandidateError: A changed field breaks its rule.
            TypeError: A name is not a field.
        """
        return Candidate(**{field.name: getattr(self, field.name) for field in fields(self)} | changes)


_LONGEST_ORIGIN: Final = 500
_TUPLES: Final = {tuple}
_TUPLE_FIELDS: Final = ("capabilities", "requires_os", "requires_packages", "conflicts_with")


def is_constrained(candidate: Candidate) -> bool:
    """Tell whether the machine has a say in the candidate's eligibility."""
    return bool(
        candidate.requires_extra
        or candidate.requires_packages
        or candidate.conflicts_with
        or candidate.requires_os
        or candidate.requires_python
    )


_AT_ONCE: Final = ("domain", "key", "provider", "priority", "stack_level", "origin")
#: Field → its default, of those that `candidates_of_checked` puts off.
_LATER: Final = {each.name: each.default for each in fields(Candidate) if each.name not in _AT_ONCE}

# A frozen class assigns through `object.__setattr__`, which looks the slot up by name; these are the slots.
_set_unconditional, _set_row, _set_common = (
    getattr(_PutOff, name).__set__ for name in ("unconditional", "row", "_common")
)
_set_domain, _set_key, _set_provider, _set_priority, _set_stack_level, _set_origin = (
    getattr(Candidate, name).__set__ for name in _AT_ONCE
)
_new: Final = object.__new__


def candidates_of_checked(
    rows: Iterable[CheckedRow], source: CandidateSource, origin: str, shared: Mapping[str, Any]
) -> list[Candidate]:
    """Make candidates of rows that were checked by whoever read them: nothing is checked again.

    Ranking needs few of the fields; the others are made of the row when one of them is first read.

    Args:
        rows: The rows.
        source: How they came in.
        origin: What they came from.
        shared: Goes to the metadata of each of the candidates, above the row's own.
    """
    common, made = (source, shared), []
    for row in rows:
        candidate = _new(Candidate)
        _set_domain(candidate, row.domain)
        _set_key(candidate, row.key)
        _set_provider(candidate, row.provider)
        _set_priority(candidate, row.priority)
        _set_stack_level(candidate, row.stack_level)
        _set_origin(candidate, origin)
        _set_unconditional(candidate, not row.opt_in)
        _set_row(candidate, row)
        _set_common(candidate, common)
        made.append(candidate)
    return made
