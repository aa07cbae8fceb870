"""Templates: how a node's payload is filled in from the context and from what other nodes returned.

``${context.tenant}``, ``${nodes.extract.output.path}``, ``${item}``, ``${index}``, ``${run.id}``: a root and a path of
names and places in lists. Nothing is evaluated: there are no operators, calls, filters or defaults, and what is filled
in is not looked at again. ``$${`` stands for ``${``.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from oneiric.core.errors import WorkflowError
from oneiric.runtime.events._filters import ABSENT, below

__all__ = ["SKIPPED", "Reference", "Render", "Scope", "compiled", "fresh", "read_reference"]

#: The output of a node that was skipped: null to a template, absent to a condition.
SKIPPED: Final = object()
_PIECE: Final = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_ROOTS: Final = ("nodes", "context", "item", "index", "run")
_MOST_DEEP: Final = 64


@dataclass(slots=True)
class Scope:
    """What templates see.

    Attributes:
        context: Of the run.
        run: ``id`` and ``workflow``.
        outputs: Node → what it returned.
        item: The item of a fan-out, or `ABSENT`.
        index: Its place.
    """

    context: Any = None
    run: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    item: Any = ABSENT
    index: Any = ABSENT


type Render = Callable[[Scope], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One ``${…}``.

    Attributes:
        text: What stands between the braces.
        root: ``nodes``, ``context``, ``item``, ``index`` or ``run``.
        node: Whose output, where the root is ``nodes``.
        path: What is below.
    """

    text: str
    root: str
    node: str = ""
    path: tuple[str, ...] = ()

    def find(self, scope: Scope) -> Any:
        """Return what stands there, or `ABSENT`."""
        found = self._top(scope)
        for name in self.path:
            found = below(found, name)
        return found

    def _top(self, scope: Scope) -> Any:
        if self.root != "nodes":
            return getattr(scope, self.root)
        found = scope.outputs.get(self.node, ABSENT)
        return ABSENT if found is SKIPPED else found

    def _found_instead(self, scope: Scope) -> str:
        """Return what there is where the path ends; names only, since values may be secret."""
        found, where = self._top(scope), self.text.removesuffix("".join(f".{name}" for name in self.path))
        for name in self.path:
            deeper = below(found, name)
            if deeper is ABSENT:
                break
            found, where = deeper, f"{where}.{name}"
        if isinstance(found, Mapping):
            return f"{where} has: {', '.join(sorted(map(str, found))) or 'nothing'}"
        return f"{where} is of type {type(found).__name__}"

    def render(self, scope: Scope) -> Any:
        """Return a copy of what stands there; None for the output of a node that was skipped.

        Raises:
            WorkflowError: Nothing stands there.
        """
        found = self.find(scope)
        if found is ABSENT:
            if self.root == "nodes" and scope.outputs.get(self.node) is SKIPPED:
                return None
            raise WorkflowError(f"the template ${{{self.text}}} finds nothing ({self._found_instead(scope)})")
        return fresh(found)


def read_reference(text: str, nodes: Collection[str]) -> Reference:
    """Read what stands between the braces of a template, or the path of a condition.

    Args:
        text: Such as ``nodes.extract.output.path``.
        nodes: The ids there are: an id may hold dots.

    Raises:
        WorkflowError: It is malformed, or names a node that does not exist.
    """
    stated = text.strip()
    root, *path = stated.split(".")
    if root not in _ROOTS or not all(path):
        raise WorkflowError(
            f"the template ${{{text}}} is malformed",
            "${nodes.ID.output}, ${context}, ${item}, ${index}, ${run.id} or ${run.workflow}, and .names below",
        )
    if root == "run" and path not in (["id"], ["workflow"]):
        raise WorkflowError(f"the template ${{{text}}} asks for what a run does not have", "run.id or run.workflow")
    if root != "nodes":
        return Reference(text=stated, root=root, path=tuple(path))
    for place, name in enumerate(path):
        node = ".".join(path[:place])
        if name == "output" and node in nodes:
            return Reference(text=stated, root=root, node=node, path=tuple(path[place + 1 :]))
    if "output" not in path:
        raise WorkflowError(f"the template ${{{text}}} names no output", "${nodes.ID.output}")
    unknown = ".".join(path[: path.index("output")])
    raise WorkflowError(f"the template ${{{text}}} names a node {unknown!r} that does not exist")


def compiled(value: Any, nodes: Collection[str], references: list[Reference], depth: int = 0) -> Render | None:
    """Return what fills in a payload, or None for one that has nothing to fill in.

    A text that is nothing but one template becomes the value it stands for, of whatever type; in a longer one, texts
    stand as they are and other values as JSON. The names in mappings are no templates.

    Args:
        value: Plain data.
        nodes: The ids there are.
        references: What is referred to is added here.
        depth: How deep *value* lies in the payload.

    Raises:
        WorkflowError: A template is malformed, or the payload is nested too deeply.
    """
    if depth > _MOST_DEEP:
        raise WorkflowError(f"a payload is nested more than {_MOST_DEEP} levels deep")
    if isinstance(value, str):
        return _of_text(value, nodes, references)
    if isinstance(value, Mapping):
        below_it = {name: compiled(each, nodes, references, depth + 1) for name, each in value.items()}
        if not any(below_it.values()):
            return None
        parts = [(name, below_it[name] or _constant(each)) for name, each in value.items()]
        return lambda scope: {name: render(scope) for name, render in parts}
    if isinstance(value, list | tuple):
        rendered = [compiled(each, nodes, references, depth + 1) for each in value]
        if not any(rendered):
            return None
        items = [render or _constant(each) for render, each in zip(rendered, value, strict=True)]
        return lambda scope: [render(scope) for render in items]
    return None


def _of_text(text: str, nodes: Collection[str], references: list[Reference]) -> Render | None:
    if "${" not in text:
        return None
    parts: list[str | Reference] = []
    end = 0
    for found in _PIECE.finditer(text):
        parts.append(text[end : found.start()])
        end = found.end()
        if found[0] == "$${":
            parts.append("${")
        elif found[1] is None:
            raise WorkflowError(f"the template in {text!r} is not closed", "}, or $${ for the characters themselves")
        else:
            parts.append(read_reference(found[1], nodes))
    parts.append(text[end:])
    pieces = [part for part in parts if part != ""]
    references += [part for part in pieces if isinstance(part, Reference)]
    if len(pieces) == 1 and isinstance(pieces[0], Reference):
        return pieces[0].render
    return lambda scope: "".join(piece if isinstance(piece, str) else _text(piece.render(scope)) for piece in pieces)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _constant(value: Any) -> Render:
    return lambda _: fresh(value)


def fresh(value: Any) -> Any:
    """Return a copy of plain data that its receiver may change; anything else is returned as it is."""
    kind = type(value)
    if kind is dict:
        return {name: fresh(each) for name, each in value.items()}
    if kind is list:
        return [fresh(each) for each in value]
    return value
