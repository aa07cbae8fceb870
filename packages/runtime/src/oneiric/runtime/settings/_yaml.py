"""YAML, cut down to what settings need and nobody is surprised by.

Built from the parser's events, so that nothing is ever expanded or constructed: anchors, aliases, merge
keys, tags, duplicate keys and further documents are refused where they stand. Plain scalars are read as
YAML 1.2 does, less what it leaves to surprise: ``true``/``false``, ``null``/``~``, decimal integers and
floats; everything else (``no``, ``012``, ``0x1F``, ``12:30:45``, ``2024-01-01``, ``.inf``) is text. Keys
are always text.

Source: YAML 1.2.2, section 10.3 (core schema).
"""

import re
from typing import Any, Final

import yaml

from oneiric.core.errors import ConfigurationError
from oneiric.runtime.settings._document import MAX_DEPTH, MAX_NODES, Document, too_deep, too_many
from oneiric.runtime.settings._origin import Path, dotted

__all__ = ["parse_yaml"]

#: libyaml where PyYAML was built with it: the same events, several times as fast.
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_CONSTANTS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
#: Python refuses to read longer integers from text; so do we, before it does.
_MAX_DIGITS: Final = 4000


def parse_yaml(text: str, file: str) -> Document:
    """Parse one YAML document whose root is a mapping.

    Raises:
        ConfigurationError: The text is not YAML, or uses what is refused; file, line and key are named.
    """
    builder = _Builder(file)
    problem, line = "", None
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem, line = str(error.problem or error.context), mark.line + 1 if mark else None
    except yaml.YAMLError as error:
        problem = str(getattr(error, "reason", None) or "unreadable characters")
    if problem:
        # Raised out here: PyYAML's error quotes the text around it, and that may hold a secret.
        raise ConfigurationError(f"is not valid YAML: {problem}", None, file, line)
    return builder.finished()


class _Table:
    """A mapping under construction."""

    __slots__ = ("content", "key", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content: dict[str, Any] = {}
        self.key: str | None = None


class _List:
    """A sequence under construction."""

    __slots__ = ("content", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content: list[Any] = []


class _Builder:
    """Turn events into a tree, refusing what settings do without."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._stack: list[_Table | _List] = []
        self._document = Document({})
        self._root: Any = None
        self._documents = 0
        self._nodes = 0

    def take(self, event: Any) -> None:
        line = event.start_mark.line + 1
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise self._refused("a second document", "one document per file", line)
            case yaml.AliasEvent():
                raise self._refused(f"an alias, *{event.anchor}", "write the value out", line)
            case yaml.NodeEvent():
                self._node(event, line)
            case yaml.CollectionEndEvent():
                self._stack.pop()

    def finished(self) -> Document:
        if self._root is not None and not isinstance(self._root, dict):
            raise ConfigurationError("must be a mapping of settings", "key: value lines", self._file)
        self._document.data = self._root or {}
        return self._document

    def _node(self, event: Any, line: int) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise too_many(self._file, line)
        if event.anchor is not None:
            raise self._refused(f"an anchor, &{event.anchor}", "write the value out where it is used", line)
        if event.tag is not None:
            raise self._refused(f"a tag, {event.tag[:80]}", "plain values", line)
        parent = self._stack[-1] if self._stack else None
        if isinstance(parent, _Table) and parent.key is None:
            self._key(parent, event, line)
            return
        path = self._child_path(parent)
        self._document.lines.setdefault(path, line)
        if isinstance(event, yaml.ScalarEvent):
            self._place(parent, self._scalar(event, path, line))
            return
        if len(self._stack) > MAX_DEPTH:
            raise too_deep(self._file, line)
        opened = _Table(path) if isinstance(event, yaml.MappingStartEvent) else _List(path)
        self._place(parent, opened.content)
        self._stack.append(opened)

    def _key(self, table: _Table, event: Any, line: int) -> None:
        if not isinstance(event, yaml.ScalarEvent):
            raise self._refused("a key that is not a name", "plain keys", line)
        key = event.value
        if key == "<<" and event.implicit[0]:
            raise self._refused("a merge key, <<", "write the values out", line)
        path = (*table.path, key)
        if path in self._document.lines:
            raise ConfigurationError("is given twice", "remove one of the two", self._file, line, dotted(path))
        self._document.lines[path] = line
        table.key = key

    @staticmethod
    def _child_path(parent: _Table | _List | None) -> Path:
        if parent is None:
            return ()
        return (*parent.path, parent.key or "") if isinstance(parent, _Table) else (*parent.path, len(parent.content))

    def _place(self, parent: _Table | _List | None, value: Any) -> None:
        if parent is None:
            self._root = value
        elif isinstance(parent, _Table):
            parent.content[parent.key or ""] = value
            parent.key = None
        else:
            parent.content.append(value)

    def _scalar(self, event: Any, path: Path, line: int) -> Any:
        text = event.value
        if not event.implicit[0]:  # quoted, or a block of text
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if len(text) > _MAX_DIGITS and text.lstrip("+-").isdigit():
            raise ConfigurationError("has too many digits", None, self._file, line, dotted(path))
        if _INTEGER.match(text):
            return int(text)
        return float(text) if _FLOAT.match(text) else text

    def _refused(self, what: str, hint: str, line: int) -> ConfigurationError:
        path = self._stack[-1].path if self._stack else ()
        return ConfigurationError(f"settings may not hold {what[:200]}", hint, self._file, line, dotted(path) or None)
