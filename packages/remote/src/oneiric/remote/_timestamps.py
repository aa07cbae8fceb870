"""Times as documents state them: RFC 3339 in UTC, to the second, one spelling each."""

import re
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from oneiric.core.errors import SchemaError

__all__ = ["Timestamp", "format_time", "parse_time"]

_PATTERN: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"
_FORM = re.compile(_PATTERN.replace("$", r"\Z"))


def parse_time(text: str) -> float:
    """Return the seconds since the epoch of ``2026-11-21T08:00:00Z``.

    Raises:
        SchemaError: It is written in another form, or is no time.
    """
    try:
        if _FORM.match(text):
            return datetime.fromisoformat(text).timestamp()
    except ValueError:
        pass
    raise SchemaError(f"time {text[:40]!r} must read like '2026-11-21T08:00:00Z'")


def format_time(seconds: float) -> str:
    """Return the time of *seconds* since the epoch, as documents state it; parts of a second are dropped."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _checked(text: str) -> str:
    try:
        parse_time(text)
    except SchemaError as error:
        raise ValueError(error.message) from error
    return text


Timestamp = Annotated[str, Field(strict=True, pattern=_PATTERN), AfterValidator(_checked)]
