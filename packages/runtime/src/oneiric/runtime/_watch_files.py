"""What is on disk at one moment: the content of the watched files, and the directories that decide about it.

A path leads to its file through directories and links, any of which can be replaced. A look walks that way link by
link, so that whoever is notified of a change in a directory can tell whether it matters. Content is told apart by
digest; files whose inode, time and size are the same are not read again, unless they were written so recently that
the time of a second write could be the same.
"""
# ruff: noqa: PTH100, PTH112, PTH115, PTH116, PTH118, PTH120, PTH123, PTH208 - a way is text, entry by entry

import errno
import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

__all__ = ["FileState", "Look", "Scanner"]

type Stamp = tuple[int, int, int, int, int]

_MOST_LINKS: Final = 40
#: The coarsest times a file system keeps are two seconds apart.
_UNCERTAIN_NS: Final = 2_000_000_000
_UNREADABLE: Final = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileState:
    """One file, at the end of the way that leads to it.

    Attributes:
        way: Every directory entry on the way: when one of them is replaced, this may be another file.
        digest: SHA-256 of the content; None where there is no file, ``"unreadable"`` where it cannot be read.
        size: Its size in bytes; 0 where there is no file.
    """

    way: frozenset[str] = frozenset()
    digest: str | None = None
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a look at the disk found.

    Attributes:
        files: Path as it was asked for → the file.
        directories: Directories to watch → what identifies them; of one that is missing, the nearest above it.
        roots: Directories in which every file that looks like settings counts.
        entries: Every directory entry that matters.
    """

    files: Mapping[str, FileState] = field(default_factory=dict)
    directories: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    roots: frozenset[str] = frozenset()
    entries: frozenset[str] = frozenset()


class Scanner:
    """Looks at files and directories.

    Args:
        paths_of: The files and directories to look at; asked at each look. In a directory every file counts that
            has one of *suffixes* and does not begin with a dot.
        suffixes: Endings of the files that count in a directory, with their dot, in lower case.
        stat: What the system knows of an open file.
    """

    def __init__(
        self,
        paths_of: Callable[[], Iterable[str | os.PathLike[str]]],
        suffixes: Sequence[str],
        *,
        stat: Callable[[int], os.stat_result] = os.fstat,
    ) -> None:
        self._paths_of = paths_of
        self._stat = stat
        self._suffixes = tuple(suffixes)
        #: Of the last look and of this one: file → its stamp and digest, where that is certain.
        self._known: dict[str, tuple[Stamp, str]] = {}
        self._seen: dict[str, tuple[Stamp, str]] = {}

    def fits(self, name: str) -> bool:
        """Tell whether a file of that name counts in a directory."""
        return name.lower().endswith(self._suffixes) and not name.startswith(".")

    def is_relevant(self, look: Look, entry: str) -> bool:
        """Tell whether a change of a directory entry can matter, as far as *look* knows."""
        directory, _, name = entry.rpartition("/")
        return entry in look.entries or (directory in look.roots and self.fits(name))

    def look(self) -> Look:
        """Look at everything anew; safe to call from any thread, by one at a time."""
        files: dict[str, FileState] = {}
        directories: dict[str, tuple[int, int]] = {}
        roots: set[str] = set()
        entries: set[str] = set()
        for path in self._paths_of():
            asked = os.path.abspath(path)
            way = _walk(asked)
            entries |= way.entries
            if way.end is not None and os.path.isdir(way.end):
                roots.add(way.end)
                way.directories.add(way.end)
                files.update(self._below(asked, way.end, directories))
            else:
                files[asked] = self._state(way, frozenset())
            _identify(way.directories, directories)
        self._known, self._seen = self._seen, {}
        for state in files.values():
            entries |= state.way
        return Look(files=files, directories=directories, roots=frozenset(roots), entries=frozenset(entries))

    def _below(
        self, asked: str, directory: str, directories: dict[str, tuple[int, int]]
    ) -> Iterator[tuple[str, FileState]]:
        above = _walk(asked).entries
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            return
        for name in names:
            if self.fits(name):
                way = _walk(os.path.join(directory, name))
                if way.end is None or not os.path.isdir(way.end):
                    _identify(way.directories, directories)
                    yield os.path.join(asked, name), self._state(way, above)

    def _state(self, way: "_Way", above: frozenset[str]) -> FileState:
        entries = above | way.entries
        if way.end is None:
            return FileState(way=entries)
        try:
            with open(way.end, "rb") as file:
                found = self._stat(file.fileno())
                digest = self._digest(way.end, _stamp(found), file.read)
        except FileNotFoundError:
            return FileState(way=entries)
        except OSError:
            return FileState(way=entries, digest=_UNREADABLE, size=1)
        return FileState(way=entries, digest=digest, size=found.st_size)

    def _digest(self, path: str, stamp: Stamp, read: Callable[[], bytes]) -> str:
        known = self._known.get(path)
        if known is not None and known[0] == stamp:
            self._seen[path] = known
            return known[1]
        is_certain = time.time_ns() - max(stamp[2], stamp[3]) > _UNCERTAIN_NS
        digest = hashlib.sha256(read()).hexdigest()
        if is_certain:
            self._seen[path] = (stamp, digest)
        return digest


def _stamp(found: os.stat_result) -> Stamp:
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)


def _identify(paths: Iterable[str], into: dict[str, tuple[int, int]]) -> None:
    """Note what identifies each directory; of one that is gone since the walk, the nearest above it."""
    for path in paths:
        here = path
        while (identity := _identity(here)) is None and here != "/":
            here = os.path.dirname(here)
        if identity is not None:
            into[here] = identity


def _identity(directory: str) -> tuple[int, int] | None:
    try:
        found = os.stat(directory)
    except OSError:
        return None
    return found.st_dev, found.st_ino


class _Way:
    """The way from a path to its file."""

    __slots__ = ("_entries", "directories", "end")

    def __init__(self) -> None:
        self._entries: set[str] = set()
        self.directories: set[str] = set()
        #: The file without any link in its path; None where the way breaks off.
        self.end: str | None = None

    @property
    def entries(self) -> frozenset[str]:
        return frozenset(self._entries)

    def add(self, entry: str) -> None:
        self._entries.add(entry)


def _walk(path: str) -> _Way:
    """Follow a path link by link, noting where each decision is made."""
    way, here, links = _Way(), "/", 0
    parts = deque(path.split("/"))
    while parts:
        name = parts.popleft()
        if name in {"", "."}:
            continue
        if name == "..":
            here = os.path.dirname(here)
            continue
        entry = os.path.join(here, name)
        way.add(entry)
        target = _target(entry)
        if target is None:
            here = entry
            continue
        links += 1
        if not target or links > _MOST_LINKS:
            way.directories.add(here if os.path.isdir(here) else os.path.dirname(here))
            return way
        way.directories.add(here)
        parts.extendleft(reversed(target.split("/")))
        if target.startswith("/"):
            here = "/"
    way.end = here
    way.directories.add(os.path.dirname(here))
    return way


def _target(entry: str) -> str | None:
    """Return where a link leads; None for what is no link, an empty string for what is missing."""
    try:
        return os.readlink(entry)
    except OSError as error:
        return None if error.errno == errno.EINVAL else ""
