"""Where a value came from, and the trees of values that carry it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from oneiric.core.errors import ConfigurationError

__all__ = ["DEFAULT", "Layer", "Origin", "Path", "dotted", "leaves", "refuse", "walk"]

type Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from.

    Attributes:
        kind: ``file``, ``environment``, ``command line``, ``argument`` (given by the calling code),
            ``profile`` or ``default``.
        name: The file's path, the variable's or the profile's name; None where the kind says it all.
        line: 1-based line, or None where it is not known for certain.
    """

    kind: Literal["file", "environment", "command line", "argument", "profile", "default"]
    name: str | None = None
    line: int | None = None

    @property
    def is_text(self) -> bool:
        """Whether the source knows nothing but text, so that the model decides the type."""
        return self.kind in {"environment", "command line"}

    def __str__(self) -> str:
        if self.kind == "file":
            return f"{self.name}:{self.line}" if self.line else str(self.name)
        return f"{self.kind} {self.name}" if self.name else self.kind


DEFAULT: Final = Origin("default")


@dataclass(slots=True)
class Layer:
    """A tree of plain values and the origin of every node in it.

    Attributes:
        data: The outermost table.
        origins: Path of a node → where it came from.
        overridden: Path of a value → where the values came from that it replaced, strongest first.
    """

    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[Path, Origin] = field(default_factory=dict)
    overridden: dict[Path, list[Origin]] = field(default_factory=dict)

    def origin(self, path: Path) -> Origin:
        """Return the origin of a node, or of the nearest node above it."""
        for length in range(len(path), 0, -1):
            found = self.origins.get(path[:length])
            if found is not None:
                return found
        return DEFAULT

    def put(self, path: Path, value: Any, origin_of: Callable[[Path], Origin]) -> None:
        """Set a node below tables, making those that are missing; tables are merged, all else replaced.

        Args:
            path: Where the node stands.
            value: The node.
            origin_of: Tells the origin of each node on the way and below.
        """
        table: dict[Any, Any] = self.data
        for depth, name in enumerate(path[:-1], start=1):
            if not isinstance(table.get(name), dict):
                self._replace(table, path[:depth], {})
            self.origins[path[:depth]] = origin_of(path[:depth])
            table = table[name]
        if isinstance(value, dict) and value and isinstance(table.get(path[-1]), dict):
            for inner, leaf in leaves(value):
                self.put((*path, *inner), leaf, origin_of)
            return
        self._replace(table, path, value)
        for inner, _ in walk(value):
            self.origins[(*path, *inner)] = origin_of((*path, *inner))

    def merge(self, stronger: "Layer") -> None:
        """Lay *stronger* over this layer."""
        for path, value in list(leaves(stronger.data)):
            self.put(path, value, stronger.origin)
        for path, origins in stronger.overridden.items():
            self.overridden[path] = [*origins, *self.overridden.get(path, [])]

    def _replace(self, table: dict[Any, Any], path: Path, value: Any) -> None:
        """Set a node and drop what is known of everything that stood below it."""
        for inner, before in walk(table.get(path[-1])):
            origin = self.origins.pop((*path, *inner), None)
            if origin is not None and not (isinstance(before, dict) and before):
                self.overridden.setdefault((*path, *inner), []).insert(0, origin)
        table[path[-1]] = value


def walk(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield every node of a tree with its path below the root, the root first."""
    yield path, value
    items: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for name, below in items:
        yield from walk(below, (*path, name))


def leaves(table: Mapping[str, Any], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield every value that is not a table with content: scalars, lists and empty tables."""
    for name, value in table.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


def dotted(path: Iterable[str | int]) -> str:
    """Write a path as people do: ``adapters.selections.cache``, list places as numbers."""
    return ".".join(str(part)[:200] for part in path)


def refuse(problem: str, hint: str | None, path: Path, origin: Origin) -> ConfigurationError:
    """Return the error for a node: file and line where it came from a file, else its origin in words."""
    if origin.kind == "file":
        return ConfigurationError(problem, hint, origin.name, origin.line, dotted(path) or None)
    whence = "" if origin.kind == "default" else f" (from {origin})"
    return ConfigurationError(problem + whence, hint, key=dotted(path) or None)
