"""Cron expressions: which moments one names in a time zone, also where that zone's clock is set forward or back.

Source: Debian's cron, whose rules cronsim follows.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from oneiric.core.errors import ConfigurationError

__all__ = ["cron_slots", "zone_named"]

_LONGEST: Final = 200
_ONE_WITH_STEP: Final = re.compile(r"\b(\w{1,3})-\1/\d{1,3}\b")
_ALIASES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


def zone_named(name: str) -> ZoneInfo:
    """Return a time zone.

    Raises:
        ConfigurationError: There is none of that name on this machine.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        hint = "a name such as Europe/Berlin; the package tzdata, where the machine has no time zones"
        raise ConfigurationError(f"there is no time zone {name[:60]!r} here", hint) from error


def cron_slots(expression: str, zone: ZoneInfo, after: float) -> Iterator[float]:
    """Yield the moments that an expression names, in seconds since the epoch, each later than the one before.

    What runs at a set time runs once a day: at the first moment that exists when the clock skips its own, and the
    first time when the clock shows it twice. What runs every so many minutes or hours goes on as if nothing happened.

    Args:
        expression: Five fields, or six with seconds first, or ``@daily`` and its like.
        zone: Whose clock it speaks of.
        after: Where to begin; that moment itself is not yielded.

    Raises:
        ConfigurationError: It is no cron expression.
    """
    return _slots(_parsed(expression, zone, after), after)


def _slots(found: CronSim, after: float) -> Iterator[float]:
    last = after
    try:
        for moment in found:
            slot = moment.timestamp()
            # Two set times of one day may fall on one moment, or on one that has passed, when the clock is changed.
            if slot > last:
                yield slot
                last = slot
    except OverflowError:  # the year 10,000
        return


def _parsed(expression: str, zone: ZoneInfo, after: float) -> CronSim:
    text = expression.strip()
    # cronsim takes "7-7/2" for "7/2", from 7 on; it names 7 alone.
    text = _ONE_WITH_STEP.sub(r"\1", _ALIASES.get(text.lower(), text))
    begin = datetime.fromtimestamp(after, UTC) if zone.key == "UTC" else datetime.fromtimestamp(after, zone)
    try:
        if len(text) > _LONGEST:
            raise CronSimError(f"longer than {_LONGEST} characters")
        return CronSim(text, begin)
    except CronSimError as error:
        hint = "minute hour day-of-month month day-of-week, such as '30 2 * * MON-FRI'"
        raise ConfigurationError(f"{expression[:60]!r} is no cron expression: {error}", hint) from error
