"""Documents: bytes of a file in, a bounded tree of plain values with line numbers out.

Owned here: what all three formats have in common: the limits on size, depth and number of nodes, and the
file itself.
"""

import hashlib
import math
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, time
from pathlib import Path as FilePath
from typing import Any, Final

from oneiric.core.errors import ConfigurationError
from oneiric.runtime.settings._origin import Origin, Path, dotted

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_NODES",
    "SUFFIXES",
    "Document",
    "bounded",
    "read_document",
    "too_deep",
    "too_many",
]

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 32
MAX_NODES: Final = 50_000

#: File name suffixes of the formats.
SUFFIXES: Final = {".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".json": "json"}


@dataclass(slots=True)
class Document:
    """A parsed document.

    Attributes:
        data: The outermost table.
        lines: Path of a node → the line its key, or its place in a list, begins on.
        spread: Nodes whose content runs over several lines without a position of its own for each part.
        digest: SHA-256 of the bytes it was parsed from, in hexadecimal.
    """

    data: dict[str, Any]
    lines: dict[Path, int] = field(default_factory=dict)
    spread: set[Path] = field(default_factory=set)
    digest: str = ""

    def line(self, path: Path) -> int | None:
        """Return the line of a node, or of the nearest one above it; None where that would be a guess."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return None if length < len(path) and path[:length] in self.spread else self.lines[path[:length]]
        return None

    def origin(self, file: str, path: Path) -> Origin:
        """Return the origin of a node."""
        return Origin("file", file, self.line(path))


def read_document(path: FilePath) -> Document:
    """Read and parse one file by its suffix.

    Raises:
        ConfigurationError: The file cannot be read, is too large, or is not what its suffix says; file and,
            where known, line are named.
    """
    parse = _parser(path)
    raw = _raw(path)
    document = parse(_text(raw, str(path)), str(path))
    bounded(document, str(path))
    document.digest = hashlib.sha256(raw).hexdigest()
    return document


def _parser(path: FilePath) -> Callable[[str, str], Document]:
    # Each parser is imported when a file asks for it: a TOML configuration never loads yaml.
    match SUFFIXES.get(path.suffix.lower()):
        case "yaml":
            from oneiric.runtime.settings._yaml import parse_yaml as parse  # noqa: PLC0415 - see above
        case "toml":
            from oneiric.runtime.settings._toml import parse_toml as parse  # noqa: PLC0415 - see above
        case "json":
            from oneiric.runtime.settings._json import parse_json as parse  # noqa: PLC0415 - see above
        case _:
            raise ConfigurationError(
                f"its suffix {path.suffix!r} names no known format",
                f"one of {', '.join(SUFFIXES)}",
                file=str(path),
            )
    return parse


def _raw(path: FilePath) -> bytes:
    file = str(path)
    try:
        with path.open("rb", buffering=0) as stream:
            if not stat.S_ISREG(path.stat().st_mode):
                raise ConfigurationError("is not a regular file", "a TOML, YAML or JSON file", file=file)
            raw = stream.read(MAX_BYTES + 1) or b""
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a usable path"
        raise ConfigurationError(
            f"cannot be read: {reason}", "check the path and its permissions", file=file
        ) from error
    if len(raw) > MAX_BYTES:
        raise ConfigurationError(
            f"is larger than {MAX_BYTES} bytes", "a smaller file, or a directory of them", file=file
        )
    return raw


def _text(raw: bytes, file: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
    raise ConfigurationError("is not UTF-8 text", "save it as UTF-8", file=file, line=line)


def bounded(document: Document, file: str) -> None:
    """Check the limits on a parsed tree, and bring its values down to what all formats share.

    Dates and times, which only TOML has, become text. Infinities and NaN are refused.

    Raises:
        ConfigurationError: A limit is broken or a number is not finite.
    """
    nodes = 0

    def plain(value: Any, path: Path) -> Any:
        nonlocal nodes
        nodes += 1
        if nodes > MAX_NODES:
            raise too_many(file)
        if len(path) > MAX_DEPTH:
            raise too_deep(file, document.line(path))
        if isinstance(value, dict):
            return {name: plain(below, (*path, name)) for name, below in value.items()}
        if isinstance(value, list):
            return [plain(below, (*path, place)) for place, below in enumerate(value)]
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigurationError("is not a finite number", None, file, document.line(path), dotted(path))
        return value.isoformat() if isinstance(value, date | time) else value

    document.data = plain(document.data, ())


def too_deep(file: str, line: int | None) -> ConfigurationError:
    """Return the error for a document nested too deep."""
    return ConfigurationError(f"is nested deeper than {MAX_DEPTH} levels", "flatter settings", file, line)


def too_many(file: str, line: int | None = None) -> ConfigurationError:
    """Return the error for a document with too many nodes."""
    return ConfigurationError(f"holds more than {MAX_NODES} values", "fewer settings", file, line)
