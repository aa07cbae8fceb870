"""Filters: which events of its topics a handler wants. Data, not code: nothing in them is evaluated."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from oneiric.core.errors import DispatchError
from oneiric.runtime.events._envelope import EventEnvelope

__all__ = ["ABSENT", "EventFilter", "below", "same"]

#: Stands where there is nothing; nothing equals it.
ABSENT: Final = object()
_NAMES: Final = {
    "path": "path",
    "field": "path",
    "equals": "equals",
    "value": "equals",
    "any_of": "any_of",
    "one_of": "any_of",
    "in": "any_of",
    "exists": "exists",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """One condition on an event; a handler's conditions must all hold.

    Attributes:
        path: ``topic``, ``headers.NAME``, ``payload.a.b`` or, for short, ``a.b``; a number is a place in a list.
        equals: What stands there; compared with ``==`` and by type, so that ``True`` is not ``1``.
        any_of: One of these stands there, or None for no such condition.
        exists: Whether anything stands there, or None for no such condition.
    """

    path: str
    equals: Any = ABSENT
    any_of: tuple[Any, ...] | None = None
    exists: bool | None = None

    @classmethod
    def from_mapping(cls, stated: Mapping[str, Any]) -> Self:
        """Read a filter as manifests and settings write it.

        Raises:
            DispatchError: A name is not known, is given twice, or there is no condition.
        """
        fields: dict[str, Any] = {}
        for name, value in stated.items():
            if name not in _NAMES:
                raise DispatchError(f"an event filter has no {name!r}", "path with equals, any_of or exists")
            if _NAMES[name] in fields:
                raise DispatchError(f"an event filter states {_NAMES[name]!r} twice")
            fields[_NAMES[name]] = value
        if not isinstance(fields.get("path"), str) or not fields["path"]:
            raise DispatchError("an event filter has no path", "path: payload.tenant")
        if len(fields) < 2:
            raise DispatchError(f"the event filter on {fields['path']!r} has no condition", "equals, any_of or exists")
        if "any_of" in fields:
            if not isinstance(fields["any_of"], list | tuple):
                raise DispatchError(f"any_of of the event filter on {fields['path']!r} is no list")
            fields["any_of"] = tuple(fields["any_of"])
        if not isinstance(fields.get("exists"), bool | None):
            raise DispatchError(f"exists of the event filter on {fields['path']!r} is neither true nor false")
        return cls(**fields)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, which `from_mapping` reads."""
        stated = {
            "path": self.path,
            "any_of": None if self.any_of is None else list(self.any_of),
            "exists": self.exists,
        }
        stated |= {} if self.equals is ABSENT else {"equals": self.equals}
        return {name: value for name, value in stated.items() if value is not None or name == "equals"}

    def holds(self, envelope: EventEnvelope) -> bool:
        """Tell whether an event satisfies the filter."""
        return self.why_not(envelope) is None

    def why_not(self, envelope: EventEnvelope) -> str | None:
        """Return what keeps an event out, as a clause; None when nothing does. Values are not shown."""
        found = self._found(envelope)
        if self.exists is not None and self.exists != (found is not ABSENT):
            return f"{self.path} {'is not there' if self.exists else 'is there'}"
        if self.equals is not ABSENT and not same(found, self.equals):
            return f"{self.path} is not {self.equals!r}"
        if self.any_of is not None and not any(same(found, value) for value in self.any_of):
            return f"{self.path} is none of {', '.join(map(repr, self.any_of))}"
        return None

    def _found(self, envelope: EventEnvelope) -> Any:
        root, _, rest = self.path.partition(".")
        if root == "topic" and not rest:
            return envelope.topic
        if root == "headers" and rest:
            return envelope.headers.get(rest, ABSENT)
        found = envelope.payload
        for name in (rest if root == "payload" else self.path).split("."):
            if not name and root == "payload":
                return found
            found = below(found, name)
        return found


def below(value: Any, name: str) -> Any:
    """Return what stands under a name of a mapping, or at a place of a list; `ABSENT` where nothing does."""
    if isinstance(value, Mapping):
        return value.get(name, ABSENT)
    if isinstance(value, list | tuple) and name.isascii() and name.isdigit() and len(name) < 10:
        return value[int(name)] if int(name) < len(value) else ABSENT
    return ABSENT


def same(found: Any, wanted: Any) -> bool:
    """Compare by value and by type, so that ``True`` is not ``1``."""
    if isinstance(found, bool) is not isinstance(wanted, bool):
        return False
    return found is not ABSENT and bool(found == wanted)
