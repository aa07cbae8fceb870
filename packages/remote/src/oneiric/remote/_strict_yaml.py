"""YAML, cut down to what a manifest needs: an authoring form, and never what is signed.

Built from the parser's events, so that nothing is ever expanded or constructed: anchors, aliases, merge keys, tags,
duplicate keys and further documents are refused where they stand. Plain scalars are text but for ``true``, ``false``,
``null``, ``~``, decimal integers and floats: ``no``, ``012``, ``12:30:45``, ``1e5`` and ``2026-01-01`` stay what they
look like.

Source: YAML 1.2.2, section 10.3 (core schema).
"""

import re
from typing import Any, Final

import yaml

from oneiric.core.errors import SchemaError
from oneiric.remote._strict_json import MAX_DEPTH

__all__ = ["parse_yaml"]

#: libyaml where PyYAML was built with it: the same events, several times as fast.
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\Z")
#: What both versions of YAML read as a number: the earlier one takes ``1e5`` for text.
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)\.[0-9]*)(?:[eE][-+][0-9]+)?\Z")
_CONSTANTS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_MOST_NODES: Final = 500_000
_MOST_NUMBER: Final = 400


def parse_yaml(data: bytes, what: str, *, max_bytes: int) -> Any:
    """Return the value of one YAML document.

    Raises:
        SchemaError: It is too long, is not UTF-8 or YAML, or uses what is refused here; the line is named.
    """
    if len(data) > max_bytes:
        raise SchemaError(f"{what} is {len(data)} bytes long, and {max_bytes} is the most")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SchemaError(f"{what} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    builder = _Builder(what)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" line {mark.line + 1}" if mark else ""
        raise SchemaError(f"{what}{line} is not valid YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, RecursionError) as error:
        problem = getattr(error, "reason", None) or "it cannot be read"
        raise SchemaError(f"{what} is not valid YAML: {problem}") from error
    return builder.root


class _Builder:
    """Turn events into a tree, refusing what manifests do without."""

    def __init__(self, what: str) -> None:
        self.root: Any = None
        self._what = what
        #: Collections that are open, each with the key its next value belongs to (tables only).
        self._stack: list[tuple[dict[str, Any] | list[Any], list[str]]] = []
        self._documents = 0
        self._nodes = 0

    def take(self, event: Any) -> None:
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise self._refused("a second document", event)
            case yaml.AliasEvent():
                raise self._refused(f"an alias, *{str(event.anchor)[:60]}", event)
            case yaml.NodeEvent():
                self._node(event)
            case yaml.CollectionEndEvent():
                self._stack.pop()

    def _node(self, event: Any) -> None:
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise self._refused(f"more than {_MOST_NODES} values", event)
        if event.anchor is not None:
            raise self._refused(f"an anchor, &{str(event.anchor)[:60]}", event)
        if event.tag is not None:
            raise self._refused(f"a tag, {str(event.tag)[:60]}", event)
        if self._stack and isinstance(self._stack[-1][0], dict) and not self._stack[-1][1]:
            self._key(*self._stack[-1], event)
        elif isinstance(event, yaml.ScalarEvent):
            self._place(self._scalar(event))
        else:
            if len(self._stack) > MAX_DEPTH:
                raise self._refused(f"more than {MAX_DEPTH} levels", event)
            opened: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
            self._place(opened)
            self._stack.append((opened, []))

    def _key(self, table: dict[str, Any] | list[Any], pending: list[str], event: Any) -> None:
        if not isinstance(event, yaml.ScalarEvent):
            raise self._refused("a key that is no name", event)
        if event.value == "<<" and event.implicit[0]:
            raise self._refused("a merge key, <<", event)
        if event.value in table:
            raise self._refused(f"{event.value[:60]!r} twice in one mapping", event)
        pending.append(event.value)

    def _place(self, value: Any) -> None:
        if not self._stack:
            self.root = value
            return
        container, pending = self._stack[-1]
        if isinstance(container, dict):
            container[pending.pop()] = value
        else:
            container.append(value)

    def _scalar(self, event: Any) -> Any:
        text = event.value
        if not event.implicit[0]:  # quoted, or a block of text
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _INTEGER.match(text):
            return int(text)
        return float(text) if len(text) <= _MOST_NUMBER and _FLOAT.match(text) else text

    def _refused(self, found: str, event: Any) -> SchemaError:
        line = event.start_mark.line + 1
        return SchemaError(f"{self._what} line {line} holds {found}, which manifests do without", "write the value out")
