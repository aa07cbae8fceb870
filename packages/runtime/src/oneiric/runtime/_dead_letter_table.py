"""Dead letters in SQL, and how what they hold becomes text."""

import json
from dataclasses import dataclass
from typing import Any, Final

from oneiric.core.errors import DispatchError
from oneiric.runtime._secret_redaction import REDACTOR
from oneiric.runtime._store_database import Database
from oneiric.runtime.events._envelope import EventEnvelope

__all__ = ["APPLICATION_ID", "COLUMNS", "MIGRATIONS", "DeadLetter", "described", "event_body", "letter_of", "written"]

APPLICATION_ID: Final = 0x4F4E444C  # "ONDL"
COLUMNS: Final = "id, at, kind, subject, handler, reason, error, attempts, body, is_whole, replays"
_LONGEST_ERROR: Final = 2000


def _create(database: Database) -> None:
    database.execute(
        """CREATE TABLE letters (
               number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, at REAL NOT NULL,
               kind TEXT NOT NULL, subject TEXT NOT NULL, handler TEXT NOT NULL, reason TEXT NOT NULL, error TEXT,
               attempts INTEGER NOT NULL, body TEXT NOT NULL, is_whole INTEGER NOT NULL,
               replays INTEGER NOT NULL DEFAULT 0, claimed_until REAL)"""
    )


MIGRATIONS: Final = (_create,)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """Something that could not be done, and all that is needed to do it again.

    Attributes:
        id: Its own.
        at: When it was kept, in seconds since the epoch.
        kind: ``"event"``, or what else it was, such as ``"workflow"``.
        subject: The topic of an event, the key of a workflow.
        handler: Who did not take it; empty where nobody came to be asked.
        reason: A word: ``failed refused hops overflow shutdown malformed unknown``…
        error: Type and text of what was raised, known secrets masked; or None.
        attempts: How often it was tried, replays not counted.
        body: What it holds, as plain data.
        is_whole: False where *body* is a description only, because it was too large or no JSON can say it.
        replays: How often it was replayed in vain.
    """

    id: str
    at: float
    kind: str
    subject: str
    handler: str
    reason: str
    error: str | None
    attempts: int
    body: Any
    is_whole: bool
    replays: int

    @property
    def envelope(self) -> EventEnvelope:
        """The event, as it was but for its hops, which begin anew.

        Raises:
            DispatchError: It is no event, or was not kept whole.
        """
        if self.kind != "event" or not self.is_whole:
            what = f"holds a {self.kind}" if self.kind != "event" else "does not hold its event whole"
            raise DispatchError(f"dead letter {self.id!r} {what}", "send it anew from where it came from")
        return EventEnvelope(**{**self.body, "hops": 0})

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


def letter_of(row: tuple[Any, ...]) -> DeadLetter:
    """Return the letter of a row of `COLUMNS`."""
    values = dict(zip(COLUMNS.split(", "), row, strict=True))
    return DeadLetter(**values | {"body": json.loads(values["body"]), "is_whole": bool(values["is_whole"])})


def event_body(envelope: EventEnvelope) -> dict[str, Any]:
    """Return an event as plain data."""
    return {
        "topic": envelope.topic,
        "payload": envelope.payload,
        "headers": dict(envelope.headers),
        "id": envelope.id,
        "source": envelope.source,
        "subject": envelope.subject,
        "time": envelope.time,
        "hops": envelope.hops,
    }


def written(body: Any, most_bytes: int) -> tuple[str, bool]:
    """Return a body as JSON text, and whether that says all of it."""
    try:
        text = json.dumps(body, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        try:
            shown = repr(body)
        except Exception as error:  # noqa: BLE001 - somebody else's __repr__ must not cost the letter
            shown = f"<{type(body).__name__}, which cannot be shown: {type(error).__name__}>"
        return json.dumps(shown[: most_bytes // 6]), False
    if len(text) > most_bytes:
        return json.dumps(f"{text[: most_bytes // 6]}…"), False
    return text, True


def described(error: BaseException | str | None) -> str | None:
    """Return type and text of an error, masked and bounded."""
    text = error if error is None or isinstance(error, str) else f"{type(error).__name__}: {error}"
    return None if text is None else REDACTOR.mask(text[: 2 * _LONGEST_ERROR])[:_LONGEST_ERROR]
