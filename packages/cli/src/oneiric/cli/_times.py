"""Times as people type them: a length such as ``15m``, or a moment in ISO 8601."""

import re
from datetime import UTC, datetime
from typing import Final

from oneiric.core.errors import ConfigurationError

__all__ = ["clock_time", "moment_after", "moment_before", "seconds_of"]

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LENGTH: Final = re.compile(r"(?:\d{1,9}(?:\.\d{1,6})?[smhdw])+")
_PART: Final = re.compile(r"([\d.]+)([smhdw])")
_MOST_SECONDS: Final = 100 * 365 * 86_400.0


def seconds_of(option: str, text: str, *, least: float = 0.0, most: float = _MOST_SECONDS) -> float:
    """Return a length of time in seconds: ``90`` and ``90s`` are the same, ``1h30m`` is 5400.

    Args:
        option: Who asks, for the error.
        text: As it was typed.
        least: The shortest that is taken, in seconds.
        most: The longest that is taken, in seconds.

    Raises:
        ConfigurationError: It is none, or too short or long.
    """
    seconds = _length(text)
    if seconds is None or not least <= seconds <= most:
        bounds = f" from {least:g} to {most:g} seconds" if most < _MOST_SECONDS or least else ""
        raise ConfigurationError(f"{option} must be a length of time{bounds}, not {text[:40]!r}", f"{option} 15m")
    return seconds


def moment_after(option: str, text: str, now: float) -> float:
    """Return a moment to come in seconds since the epoch: a length from now, or ISO 8601.

    Without an offset it is local time.

    Raises:
        ConfigurationError: It is neither, or has passed.
    """
    seconds = _length(text)
    moment = now + seconds if seconds is not None else _moment(option, text)
    if not now < moment <= now + _MOST_SECONDS:
        raise ConfigurationError(f"{option} must be a time to come, not {text[:40]!r}", f"{option} 15m")
    return moment


def moment_before(option: str, text: str, now: float) -> float:
    """Return a past moment in seconds since the epoch: a length before now, or ISO 8601.

    Raises:
        ConfigurationError: It is neither.
    """
    seconds = _length(text)
    return max(0.0, now - seconds if seconds is not None else _moment(option, text))


def clock_time(at: float | None) -> str | None:
    """Return seconds since the epoch as ISO 8601 in UTC, to the second; None for None."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _length(text: str) -> float | None:
    text = text.strip().lower()
    if text.isascii() and re.fullmatch(r"\d{1,12}(?:\.\d{1,6})?", text):
        return float(text)
    if not _LENGTH.fullmatch(text):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def _moment(option: str, text: str) -> float:
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigurationError(
            f"{option} must be a length of time or a time in ISO 8601, not {text[:40]!r}",
            f"{option} 15m, or {option} 2030-01-31T18:00",
        ) from error
