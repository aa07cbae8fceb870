"""When a change is complete: at once after a rename, a little later after the last of several writes.

Nothing here looks at a clock or a disk: the caller says what it saw, and when.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from oneiric.runtime._watch_files import FileState, Look

__all__ = ["Settling", "Sign"]

#: What was noticed of a directory entry: it was put in place whole, is being written, was written, or something else.
type Sign = Literal["replaced", "writing", "written", "touched"]

_NOTHING: Final = FileState()


@dataclass(slots=True)
class _Note:
    sign: Sign
    at: float


@dataclass(slots=True)
class _Pending:
    """A file that is not what was last announced."""

    since: float
    digest: str | None
    at: float


class Settling:
    """Decide when what is on disk is complete and new.

    A file that was replaced as a whole is complete. One that is written in place is when nothing was written for
    *settle_seconds* and the writer has closed it. One that is missing or was emptied is taken for one that is being
    written. Nothing is waited for longer than *settle_most_seconds*.

    Args:
        settle_seconds: How long nothing has to happen.
        settle_most_seconds: How long a change is waited for at most.
    """

    def __init__(self, settle_seconds: float, settle_most_seconds: float) -> None:
        self._settle = settle_seconds
        self._most = settle_most_seconds
        self._announced: dict[str, str | None] = {}
        self._pending: dict[str, _Pending] = {}
        self._notes: dict[str, _Note] = {}

    def note(self, entry: str, sign: Sign, now: float) -> None:
        """Take in what was noticed of a directory entry."""
        before = self._notes.get(entry)
        if sign == "touched" and before is not None:
            sign = before.sign  # its mode or time was changed: it is as open or as complete as it was
        self._notes[entry] = _Note(sign, now)

    @property
    def has_replaced(self) -> bool:
        """Whether something was put in place whole since it was last looked at."""
        return any(note.sign == "replaced" for note in self._notes.values())

    def lost_sight(self) -> None:
        """Take in that something may have gone unnoticed: of no file is it known any more that somebody has it open."""
        for note in self._notes.values():
            if note.sign == "writing":
                note.sign = "written"

    def announced(self, look: Look, began: float) -> None:
        """Take *look*, taken from *began* on, for what everybody knows from now on."""
        self._announced = {path: state.digest for path, state in look.files.items()}
        self._pending.clear()
        self._forget(began)

    def wait(self, look: Look, began: float, now: float) -> float | None:
        """Return for how many seconds to wait before a look may be announced.

        Args:
            look: What was found.
            began: When the look was begun: what was noticed after that, it may not have seen.
            now: What time it is.

        Returns:
            0 when it may be announced now, None when nothing is new.
        """
        waits = [self._wait(path, look.files.get(path, _NOTHING), now) for path in self._changed(look)]
        if not waits:
            self._forget(began)
            return None
        return max(waits)

    def _changed(self, look: Look) -> list[str]:
        paths = {*self._announced, *look.files}
        changed = [p for p in paths if look.files.get(p, _NOTHING).digest != self._announced.get(p)]
        for path in self._pending.keys() - changed:
            del self._pending[path]
        return changed

    def _wait(self, path: str, state: FileState, now: float) -> float:
        pending = self._pending.setdefault(path, _Pending(now, state.digest, now))
        if pending.digest != state.digest:
            pending.digest, pending.at = state.digest, now
        at_most = max(pending.since + self._most - now, 0.0)
        notes = [self._notes[entry] for entry in state.way if entry in self._notes]
        latest = max(notes, key=lambda note: note.at, default=None)
        is_replaced = latest is not None and latest.sign == "replaced"
        if state.digest is None or _is_open(notes) or (state.size == 0 and not is_replaced):
            return at_most
        if is_replaced:
            return 0.0
        quiet_since = pending.at if latest is None else max(pending.at, latest.at)
        return min(max(quiet_since + self._settle - now, 0.0), at_most)

    def _forget(self, began: float) -> None:
        """Drop the notes that a look explained: not those made since it began, nor those of files still open."""
        self._notes = {entry: note for entry, note in self._notes.items() if note.sign == "writing" or note.at >= began}


def _is_open(notes: Iterable[_Note]) -> bool:
    return any(note.sign == "writing" for note in notes)
