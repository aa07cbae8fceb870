"""Notice changes in directories through Linux' inotify, on the event loop: no thread, no timer, nothing while idle."""
# ruff: noqa: PTH112, PTH114, PTH118 - entries are texts here

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

from oneiric.runtime._watch_settling import Sign

__all__ = ["Inotify"]

# <sys/inotify.h>
_MODIFY, _ATTRIB, _CLOSE_WRITE = 0x2, 0x4, 0x8
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF = 0x400, 0x800
_IGNORED, _ONLYDIR = 0x8000, 0x01000000
_WANTED: Final = (
    _MODIFY
    | _ATTRIB
    | _CLOSE_WRITE
    | _MOVED_FROM
    | _MOVED_TO
    | _CREATE
    | _DELETE
    | _DELETE_SELF
    | _MOVE_SELF
    | _ONLYDIR
)
_EVENT: Final = struct.Struct("iIII")
_BUFFER_BYTES: Final = 65536


class Inotify:
    """Watches directories, not what lies below them.

    Args:
        notice: Called in the loop with a directory entry and what was noticed of it; with None where anything may
            have happened.

    Raises:
        OSError: The system has no inotify, or gives no more of it to this user.
    """

    name = "inotify"

    def __init__(self, notice: Callable[[str | None, Sign], None]) -> None:
        self._notice = notice
        self._libc: Any = ctypes.CDLL(None, use_errno=True)
        try:
            self._fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        except AttributeError as error:
            raise OSError("the C library has no inotify") from error
        if self._fd < 0:
            raise _failure("inotify cannot be used")
        self._watched: dict[str, tuple[int, tuple[int, int]]] = {}
        self._paths: dict[int, str] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._read)

    def watch(self, directories: Mapping[str, tuple[int, int]]) -> bool:
        """Watch just these directories; return whether one is new or gone, so that something may have been missed.

        Raises:
            OSError: A directory exists and cannot be watched.
        """
        for path, (number, identity) in list(self._watched.items()):
            if directories.get(path) != identity:
                self._libc.inotify_rm_watch(self._fd, number)
                self._lost(number)
        is_new = False
        for path, identity in directories.items():
            if path not in self._watched:
                number = self._libc.inotify_add_watch(self._fd, os.fsencode(path), _WANTED)
                if number < 0:
                    error = _failure(f"{path} cannot be watched")
                    if os.path.isdir(path):
                        raise error
                else:
                    self._watched[path], self._paths[number] = (number, identity), path
                # One that is gone since the look is missed by all that is watched: the next look finds what is above.
                is_new = True
        return is_new

    def close(self) -> None:
        """Let go of everything. Safe to call twice."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _lost(self, number: int) -> None:
        path = self._paths.pop(number, None)
        if path is not None and self._watched.get(path, (None,))[0] == number:
            del self._watched[path]

    def _read(self) -> None:
        try:
            data = os.read(self._fd, _BUFFER_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        at = 0
        while at < len(data):
            number, mask, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size
            name = os.fsdecode(data[at : at + length].rstrip(b"\0"))
            at += length
            self._seen(number, mask, name)

    def _seen(self, number: int, mask: int, name: str) -> None:
        directory = self._paths.get(number)
        if mask & _MOVE_SELF and directory is not None:
            # What stands at that path from now on is another directory.
            self._libc.inotify_rm_watch(self._fd, number)
            self._lost(number)
        elif mask & _IGNORED:
            self._lost(number)
        if not name or directory is None:
            self._notice(None, "touched")
        else:
            entry = os.path.join(directory, name)
            self._notice(entry, _sign(mask, entry))


def _sign(mask: int, entry: str) -> Sign:
    # A link is made with its content; a file is made first and written then.
    if mask & _MOVED_TO or (mask & _CREATE and os.path.islink(entry)):
        return "replaced"
    if mask & _MODIFY:
        return "writing"
    return "written" if mask & (_CLOSE_WRITE | _DELETE | _MOVED_FROM | _CREATE) else "touched"


def _failure(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
