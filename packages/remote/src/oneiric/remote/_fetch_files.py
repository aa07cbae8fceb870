"""Local files: below a root that was allowed, and nothing but a plain file."""

import os
import re
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from oneiric.core.errors import FetchError, FetchRefusedError
from oneiric.remote._fetch_body import check_length
from oneiric.remote._fetch_values import Wanted

__all__ = ["local_path", "read_local"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Without O_NONBLOCK, opening a FIFO would wait for somebody to write to it.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CHUNK: Final = 1 << 18


def local_path(url: str) -> Path | None:
    """Return the path that *url* means, or None if it names something on the network.

    Raises:
        FetchRefusedError: It is a ``file://`` URL that is malformed or has a host or a query, or holds a NUL.
    """
    if not _SCHEME.match(url):
        path = url
    elif url[:7].lower() == "file://":
        try:
            split = urlsplit(url)
        except ValueError as error:
            raise FetchRefusedError(f"{url!r:.120} is refused: it is malformed: {error}") from error
        if split.netloc not in {"", "localhost"} or split.query or split.fragment or not split.path:
            raise FetchRefusedError(f"{url!r:.120} is refused: a file URL is file:///path and nothing more")
        path = unquote(split.path, errors="surrogateescape")
    else:
        return None
    if "\x00" in path or not path:
        raise FetchRefusedError(f"{url!r:.120} is refused: it is not a path")
    return Path(path)


def read_local(path: Path, roots: Sequence[Path], wanted: Wanted) -> bytearray:
    """Return the content of a file below one of *roots*.

    Links are followed first, and where they lead is what must be below a root; then the file is opened from the root
    down, through no link, so that nobody can put one in between.

    Raises:
        FetchRefusedError: It is outside the roots, no plain file, or larger than the limit.
        DigestError: It has more bytes than expected.
        FetchError: It does not exist or cannot be read.
    """
    shown = repr(str(path))
    try:
        root, below = _below(path.resolve(strict=True), roots, shown)
        with ExitStack() as opened:
            return _read(_open(root, below, opened), wanted, shown)
    except OSError as error:
        raise FetchError(
            f"{shown} cannot be read: {error.strerror or error}", "the path and its permissions"
        ) from error


def _below(path: Path, roots: Sequence[Path], shown: str) -> tuple[Path, tuple[str, ...]]:
    for root in roots:
        real = root.resolve()
        if path.is_relative_to(real) and path != real:
            return real, path.relative_to(real).parts
    raise FetchRefusedError(
        f"{shown} is refused: it leads to {str(path)!r}, below none of the {len(roots)} allowed directories",
        "an allowed root that holds it",
    )


def _open(root: Path, below: tuple[str, ...], opened: ExitStack) -> int:
    handle = os.open(root, _DIRECTORY)
    opened.callback(os.close, handle)
    for position, name in enumerate(below):
        handle = os.open(name, _FILE if position == len(below) - 1 else _DIRECTORY, dir_fd=handle)
        opened.callback(os.close, handle)
    return handle


def _read(handle: int, wanted: Wanted, shown: str) -> bytearray:
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        raise FetchRefusedError(f"{shown} is refused: it is not a plain file")
    check_length(wanted, shown, found.st_size)
    content = bytearray()
    while data := os.read(handle, _CHUNK):
        content += data
        check_length(wanted, shown, len(content))  # it may grow while it is read
    return content
