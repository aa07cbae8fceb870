"""Schedules: which moments they name, on days on which a clock is changed too."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oneiric.core.errors import ConfigurationError
from oneiric.runtime.scheduler import Schedule


def at(text: str, zone: str = "UTC", *, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def cron(expression: str, zone: str = "UTC", **fields: object) -> Schedule:
    return Schedule.from_mapping({"name": "s", "target": "task:x", "cron": expression, "time_zone": zone} | fields)


def shown(schedule: Schedule, count: int, after: float) -> list[str]:
    zone = ZoneInfo(schedule.time_zone)
    return [f"{datetime.fromtimestamp(slot.at, zone):%a %d.%m. %H:%M:%S%z}" for slot in schedule.preview(count, after)]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30 2 * * mon-fri", ["Thu 01.01. 02:30:00+0000", "Fri 02.01. 02:30:00+0000", "Mon 05.01. 02:30:00+0000"]),
        ("*/20 9 1 * *", ["Thu 01.01. 09:00:00+0000", "Thu 01.01. 09:20:00+0000", "Thu 01.01. 09:40:00+0000"]),
        ("0 12 * JAN,mar Sat", ["Sat 03.01. 12:00:00+0000", "Sat 10.01. 12:00:00+0000", "Sat 17.01. 12:00:00+0000"]),
        ("0 0 L * *", ["Sat 31.01. 00:00:00+0000", "Sat 28.02. 00:00:00+0000", "Tue 31.03. 00:00:00+0000"]),
        ("10-20/5 0 1 1 *", ["Thu 01.01. 00:10:00+0000", "Thu 01.01. 00:15:00+0000", "Thu 01.01. 00:20:00+0000"]),
        ("*/30 * * * * *", ["Thu 01.01. 00:00:00+0000", "Thu 01.01. 00:00:30+0000", "Thu 01.01. 00:01:00+0000"]),
        ("@weekly", ["Sun 04.01. 00:00:00+0000", "Sun 11.01. 00:00:00+0000", "Sun 18.01. 00:00:00+0000"]),
    ],
)
def test_an_expression_names_the_moments_it_says(expression: str, expected: list[str]) -> None:
    assert shown(cron(expression), 3, at("2026-01-01") - 1) == expected


BERLIN = "Europe/Berlin"


def test_a_set_time_that_the_clock_skips_runs_at_the_first_moment_after() -> None:
    assert shown(cron("30 2 * * *", BERLIN), 3, at("2026-03-28T00:00", BERLIN)) == [
        "Sat 28.03. 02:30:00+0100",
        "Sun 29.03. 03:00:00+0200",
        "Mon 30.03. 02:30:00+0200",
    ]


def test_a_set_time_that_the_clock_shows_twice_runs_the_first_time_only() -> None:
    schedule = cron("30 2 * * *", BERLIN)
    assert shown(schedule, 2, at("2026-10-25T00:00", BERLIN)) == [
        "Sun 25.10. 02:30:00+0200",
        "Mon 26.10. 02:30:00+0100",
    ]
    assert shown(schedule, 1, at("2026-10-25T02:15", BERLIN, fold=1)) == ["Mon 26.10. 02:30:00+0100"]


def test_what_runs_every_half_hour_goes_on_as_if_nothing_happened() -> None:
    schedule = cron("*/30 * * * *", BERLIN)
    for day in ("2026-03-29", "2026-10-25"):
        slots = [slot.at for slot in schedule.preview(20, at(f"{day}T00:00", BERLIN))]
        assert {after - before for before, after in pairwise(slots)} == {1800}


def test_two_set_times_that_fall_on_one_moment_are_one_slot() -> None:
    assert shown(cron("0,30 2,3 * * *", BERLIN), 3, at("2026-03-29T00:00", BERLIN)) == [
        "Sun 29.03. 03:00:00+0200",
        "Sun 29.03. 03:30:00+0200",
        "Mon 30.03. 02:00:00+0200",
    ]


def _matches(field: str, value: int) -> bool:
    for term in field.split(","):
        spread, _, step = term.partition("/")
        first, _, last = spread.partition("-")
        if spread == "*":
            found = range(0, 60, int(step or 1))
        elif last:
            found = range(int(first), int(last) + 1, int(step or 1))
        else:
            found = range(int(first), int(first) + 1)
        if value in found:
            return True
    return False


def _named(expression: str, zone: ZoneInfo, begin: datetime, days: int) -> list[float]:
    """Return what an expression names by looking at every minute there is, and at every minute a clock could show."""
    minute, hour, _, _, weekday = expression.split()

    def wanted(local: datetime) -> bool:
        return (
            _matches(minute, local.minute)
            and _matches(hour, local.hour)
            and (weekday == "*" or _matches(weekday, local.isoweekday() % 7))
        )

    minutes = range(days * 1440)
    if minute.startswith("*") or hour.startswith("*"):
        moments = (begin + timedelta(minutes=number) for number in minutes)
        return [each.timestamp() for each in moments if wanted(each.astimezone(zone))]
    wall = begin.astimezone(zone).replace(tzinfo=None)
    found = set()
    for number in minutes:
        local = wall + timedelta(minutes=number)
        if wanted(local):
            while local.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None) != local:
                local += timedelta(minutes=1)
            found.add(local.replace(tzinfo=zone).timestamp())
    return sorted(found)


def _field(most: int) -> st.SearchStrategy[str]:
    number = st.integers(0, most)
    spread = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    stepped = st.tuples(spread, st.integers(1, most)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    some = st.lists(number.map(str) | spread, min_size=1, max_size=3).map(",".join)
    return st.just("*") | st.integers(2, most).map(lambda step: f"*/{step}") | some | stepped


@settings(max_examples=40, deadline=None)
@given(
    _field(59),
    _field(23),
    st.just("*") | st.integers(0, 6).map(str),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Sydney"]),
    st.sampled_from(["2026-03-07", "2026-03-28", "2026-04-04", "2026-10-03", "2026-10-24", "2026-10-31"]),
    st.integers(0, 1439),
)
def test_what_is_previewed_is_what_every_minute_of_those_days_says(
    minute: str, hour: str, weekday: str, zone: str, day: str, into: int
) -> None:
    expression = f"{minute} {hour} * * {weekday}"
    begin = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(minutes=into)
    expected = [each for each in _named(expression, ZoneInfo(zone), begin, 2) if each >= begin.timestamp()]
    end = (begin + timedelta(days=2)).timestamp() - 7200
    slots = cron(expression, zone).slots(begin.timestamp() - 1)
    found = []
    for slot in slots:
        if slot.at >= end:
            break
        found.append(slot.at)
    assert found == [each for each in expected if each < end]


@given(st.floats(0.1, 90_000, allow_nan=False), st.floats(0, 2e9, allow_nan=False), st.floats(0, 2e9, allow_nan=False))
def test_intervals_are_counted_from_their_start_wherever_one_begins_to_look(
    every: float, start: float, after: float
) -> None:
    schedule = Schedule(name="s", target="x", every_seconds=every, start=start)
    slots = [slot.at for slot in schedule.preview(5, after)]
    assert slots == sorted(set(slots))
    assert slots[0] > after
    assert slots[0] >= start
    assert slots[0] - max(after, start - every) <= every * 1.0001 + 1e-3
    assert [slot.at for slot in schedule.preview(3, slots[1])] == slots[2:]


def test_one_time_is_one_slot() -> None:
    schedule = Schedule(name="s", target="x", at=1000.0)
    assert [slot.at for slot in schedule.preview(5, 999.0)] == [1000.0]
    assert schedule.preview(5, 1000.0) == []


def test_jitter_is_a_slots_own_and_never_changes() -> None:
    schedule = Schedule(name="s", target="x", every_seconds=60, jitter_seconds=30)
    slots = schedule.preview(200, 0.0)
    assert slots == schedule.preview(200, 0.0)
    delays = [slot.due - slot.at for slot in slots]
    assert all(0 <= delay < 30 for delay in delays)
    assert max(delays) - min(delays) > 25
    assert len(set(delays)) == 200


def test_a_slot_has_a_key_of_its_own() -> None:
    first, second = Schedule(name="s", target="x", every_seconds=0.5).preview(2, 0.0)
    assert (first.key, second.key) == ("schedule:s:1970-01-01T00:00:00.500000Z", "schedule:s:1970-01-01T00:00:01Z")


def test_a_schedule_survives_being_written_down() -> None:
    schedule = cron("0 6 * * *", BERLIN, payload={"a": [1]}, overlap="buffer_one", catch_up_seconds=60)
    assert Schedule.from_mapping(schedule.as_dict()) == schedule


def test_slots_far_away_are_found() -> None:
    assert shown(cron("0 0 * 2 MON#5"), 1, at("2026-01-01")) == ["Mon 29.02. 00:00:00+0000"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"cron": "* * * *"}, "is no cron expression"),
        ({"cron": "61 * * * *"}, "Bad minute"),
        ({"cron": "*/0 * * * *"}, "Bad minute"),
        ({"cron": "0 0 30 2 *"}, "Bad day-of-month"),
        ({"cron": "@reboot"}, "is no cron expression"),
        ({"cron": "1," * 200 + "1 * * * *"}, "longer than 200"),
        ({"cron": "* * * * *", "time_zone": "Europe/Atlantis"}, "there is no time zone"),
        ({"cron": "* * * * *", "time_zone": "../../etc/passwd"}, "there is no time zone"),
        ({"cron": "* * * * *", "at": 3}, "states 2 rules"),
        ({}, "states 0 rules"),
        ({"every_seconds": 0}, "states every_seconds 0"),
        ({"every_seconds": float("nan")}, "states every_seconds nan"),
        ({"every_seconds": True}, "states every_seconds True"),
        ({"at": 1e12}, "states at"),
        ({"every_seconds": 1, "overlap": "maybe"}, "states overlap 'maybe'"),
        ({"every_seconds": 1, "name": "a b"}, "cannot name a schedule"),
        ({"every_seconds": 1, "target": ""}, "has no target"),
        ({"every_seconds": 1, "target": 3}, "target is no text"),
        ({"every_seconds": 1, "colour": 3}, "has no 'colour'"),
    ],
)
def test_a_malformed_schedule_is_refused(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Schedule.from_mapping({"name": "s", "target": "task:x"} | fields)
