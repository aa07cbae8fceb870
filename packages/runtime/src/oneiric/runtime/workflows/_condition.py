"""Conditions: whether a node runs. Data, not code; they mean what the filters of events mean."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from oneiric.core.errors import DispatchError, WorkflowError
from oneiric.runtime.events._filters import ABSENT, EventFilter, same
from oneiric.runtime.workflows._template import Reference, Scope, read_reference

__all__ = ["Condition", "read_conditions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition of a node; all of them must hold.

    Attributes:
        reference: Where it looks.
        stated: What has to stand there.
    """

    reference: Reference
    stated: EventFilter

    def why_not(self, scope: Scope) -> str | None:
        """Return what keeps the node from running, as a clause; None when nothing does. Values are not shown."""
        found, stated = self.reference.find(scope), self.stated
        if stated.exists is not None and stated.exists != (found is not ABSENT):
            return f"{stated.path} {'is not there' if stated.exists else 'is there'}"
        if stated.equals is not ABSENT and not same(found, stated.equals):
            return f"{stated.path} is not {stated.equals!r}"
        if stated.any_of is not None and not any(same(found, value) for value in stated.any_of):
            return f"{stated.path} is none of {', '.join(map(repr, stated.any_of))}"
        return None


def read_conditions(stated: Any, nodes: Collection[str]) -> tuple[Condition, ...]:
    """Read ``when``: a mapping such as ``{path: nodes.check.output.ok, equals: true}``, or a list of them.

    Raises:
        WorkflowError: A condition or its path is malformed.
    """
    if stated is None:
        return ()
    conditions = [stated] if isinstance(stated, Mapping) else stated
    if not isinstance(conditions, list | tuple) or not all(isinstance(each, Mapping) for each in conditions):
        raise WorkflowError(f"`when` is {stated!r}", "{path: nodes.ID.output.NAME, equals: VALUE}, or a list of such")
    return tuple(_read(each, nodes) for each in conditions)


def _read(stated: Mapping[str, Any], nodes: Collection[str]) -> Condition:
    try:
        read = EventFilter.from_mapping(stated)
    except DispatchError as error:
        raise WorkflowError(error.message.replace("event filter", "condition"), error.hint) from error
    path = read.path.strip()
    if path.startswith("${") and path.endswith("}"):
        path = path[2:-1]
    return Condition(reference=read_reference(path, nodes), stated=read)
