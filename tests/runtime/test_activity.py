"""Domain activity: immediate here, seen elsewhere at a refresh, and never resumed by the loss of a file."""

import asyncio
import json
import random
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.runtime._sqlite_process import elsewhere, locked

from oneiric.core.errors import StoreError
from oneiric.runtime._activity_copy import read_copy, write_copy
from oneiric.runtime._activity_table import Loaded
from oneiric.runtime._store_place import turn
from oneiric.runtime.activity import DomainActivity, DomainActivityStore

PAUSED = DomainActivity(paused=True, note="maintenance", owner="ada")
DRAINING = DomainActivity(draining=True)
IDLE = DomainActivity()


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "domain_activity.sqlite"


@pytest.fixture
def make(path: Path, clock: Clock) -> Callable[..., DomainActivityStore]:
    def store(**options: Any) -> DomainActivityStore:
        stated: dict[str, Any] = {"path": path, "clock": clock, "busy_seconds": 60} | options
        return DomainActivityStore(**stated)

    return store


def names(path: Path) -> set[str]:
    return {each.name for each in path.parent.iterdir()} if path.parent.exists() else set()


def lose(path: Path) -> None:
    for each in path.parent.glob("domain_activity.sqlite*"):
        each.unlink()


def write(path: Path, content: bytes) -> None:
    lose(path)
    path.write_bytes(content)


def bytes_of(path: Path) -> bytes:
    return path.read_bytes()


def paused(store: DomainActivityStore) -> list[str]:
    return [f"{domain}:{key}" for domain, rows in store.snapshot().items() for key, row in rows.items() if row.paused]


@pytest.mark.parametrize("where", ["file", "memory"])
async def test_what_is_set_holds_at_once_and_is_dated(
    make: Callable[..., DomainActivityStore], clock: Clock, where: str
) -> None:
    async with make(**({"path": None} if where == "memory" else {})) as store:
        assert store.get("service", "pay") == IDLE
        stored = await store.set("service", "pay", PAUSED)
        assert stored == store.get("service", "pay")
        assert (stored.paused, stored.note, stored.owner, stored.since) == (True, "maintenance", "ada", 1_000.0)
        clock.now = 1_010.0
        assert (await store.set("service", "pay", DomainActivity(paused=True, note="longer"))).since == 1_000.0
        assert (await store.set("service", "pay", DRAINING)).since == 1_010.0
        await store.set("adapter", "cache", PAUSED)
        assert list(store.snapshot()) == ["adapter", "service"]
        assert store.all_for_domain("adapter") == {"cache": store.get("adapter", "cache")}
        assert store.all_for_domain("task") == {}
        assert await store.set("service", "pay", IDLE) == store.get("service", "pay") == IDLE
        assert store.all_for_domain("service") == {}
        assert store.problem is None


@pytest.mark.parametrize("where", ["file", "memory"])
async def test_an_update_starts_from_what_the_others_have_written(
    make: Callable[..., DomainActivityStore], clock: Clock, where: str
) -> None:
    async with make(**({"path": None} if where == "memory" else {})) as one, make() as two:
        other = two if where == "file" else one
        await one.set("service", "pay", PAUSED)
        drained = await other.update("service", "pay", lambda before: replace(before, draining=True))
        assert drained == replace(PAUSED, draining=True, since=1_000.0) == other.get("service", "pay")
        await one.update("service", "mail", lambda before: replace(before, paused=True, until=1_010.0))
        clock.now = 1_020.0
        assert await one.update("service", "mail", lambda before: before) == IDLE, "an ended state is none"

        def refuse(_: DomainActivity) -> DomainActivity:
            raise LookupError("no")

        with pytest.raises(LookupError):
            await one.update("service", "pay", refuse)
        await one.refresh()
        assert one.get("service", "pay") == drained


async def test_counts_made_by_updates_of_two_stores_add_up(make: Callable[..., DomainActivityStore]) -> None:
    def count(before: DomainActivity) -> DomainActivity:
        return DomainActivity(paused=True, note=str(int(before.note or 0) + 1))

    async with make() as one, make() as other:
        await asyncio.gather(*((one, other)[number % 2].update("service", "pay", count) for number in range(40)))
        await one.refresh()
        assert one.get("service", "pay").note == "40"


async def test_the_default_state_leaves_no_row(make: Callable[..., DomainActivityStore], path: Path) -> None:
    async with make() as store:
        await store.set("service", "pay", PAUSED)
        await store.set("service", "pay", IDLE)
        await store.set("service", "mail", DomainActivity(note="look here"))
    rows = elsewhere(path, "SELECT domain, key, paused, draining, note FROM activity")
    assert rows == "[('service', 'mail', 0, 0, 'look here')]"


async def test_a_change_is_kept_and_seen_elsewhere_at_a_refresh(make: Callable[..., DomainActivityStore]) -> None:
    async with make() as one, make() as other:
        await one.set("service", "pay", PAUSED)
        assert other.get("service", "pay") == IDLE
        await other.refresh()
        assert other.get("service", "pay") == one.get("service", "pay")
        await other.set("service", "pay", IDLE)
        await one.refresh()
        assert one.get("service", "pay") == IDLE
        await one.set("service", "pay", DRAINING)
    async with make() as later:
        assert later.get("service", "pay").draining


async def test_a_pause_ends_by_itself(make: Callable[..., DomainActivityStore], clock: Clock) -> None:
    heard: list[tuple[str, str, bool]] = []
    async with make() as store:
        store.add_listener(lambda domain, key, activity: heard.append((domain, key, activity.paused)))
        await store.set("service", "pay", DomainActivity(paused=True, until=1_060.0))
        clock.now = 1_059.9
        assert store.get("service", "pay").paused
        clock.now = 1_060.0
        assert store.get("service", "pay") == IDLE
        assert store.snapshot() == {}
        await store.refresh()
        await store.refresh()
        assert heard == [("service", "pay", True), ("service", "pay", False)]


async def test_listeners_hear_each_change_once_and_cannot_break_one_another(
    make: Callable[..., DomainActivityStore], caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[tuple[str, bool]] = []

    def broken(domain: str, key: str, activity: DomainActivity) -> None:
        raise LookupError(key)

    async with make() as one, make() as other:
        other.add_listener(broken)
        end = other.add_listener(lambda _, key, activity: heard.append((key, activity.paused)))
        await one.set("service", "pay", PAUSED)
        await one.set("service", "mail", PAUSED)
        await other.refresh()
        await other.refresh()
        await other.set("service", "pay", IDLE)
        end()
        end()
        await other.set("service", "mail", IDLE)
    assert heard == [("mail", True), ("pay", True), ("pay", False)]
    assert "a listener failed" in caplog.text


async def test_any_text_comes_back_as_it_was(make: Callable[..., DomainActivityStore]) -> None:
    naughty = ["'; DROP TABLE activity; --", "a\x00b", "\u202e\U0001f4a5", "%s${x}{{y}}", "", " ", "x" * 10_000]
    async with make() as store:
        for text in naughty:
            await store.set("service", f"k{text}", DomainActivity(paused=True, note=text, owner=text))
        await store.set("service", "argv", DomainActivity(paused=True, note="caf\udce9"))
    async with make() as again:
        assert again.get("service", "argv").note == "caf\\udce9"
        for text in naughty:
            found = again.get("service", f"k{text}")
            assert (found.paused, found.note, found.owner) == (True, text, text)
        assert again.recovered is None


async def test_the_published_table_is_taken_over_with_its_rows(
    make: Callable[..., DomainActivityStore], path: Path
) -> None:
    elsewhere(
        path,
        "CREATE TABLE activity (domain TEXT NOT NULL, key TEXT NOT NULL, paused INTEGER NOT NULL, "
        "draining INTEGER NOT NULL, note TEXT, PRIMARY KEY (domain, key))",
        "INSERT INTO activity VALUES ('service', 'pay', 1, 0, 'old'), ('task', 'x', 0, 1, NULL)",
    )
    before = stamp(path)
    async with make(readonly=True) as reader:
        assert reader.get("service", "pay") == DomainActivity(paused=True, note="old")
        assert stamp(path) == before
    async with make() as store:
        assert store.get("service", "pay") == DomainActivity(paused=True, note="old")
        assert store.get("task", "x").draining
        await store.set("task", "x", PAUSED)
        # The earlier release writes beside this one.
        elsewhere(path, "INSERT INTO activity (domain, key, paused, draining) VALUES ('service', 'mail', 1, 0)")
        await store.refresh()
        assert paused(store) == ["service:mail", "service:pay", "task:x"]
    assert "domain_activity.sqlite.backup-v0" in names(path)


def stamp(path: Path) -> tuple[int, set[str]]:
    return path.stat().st_mtime_ns, names(path)


async def test_a_reader_makes_no_file(make: Callable[..., DomainActivityStore], tmp_path: Path) -> None:
    absent = tmp_path / "nowhere" / "domain_activity.sqlite"
    async with make(path=absent, readonly=True) as store:
        await store.refresh()
        assert (store.snapshot(), store.problem) == ({}, None)
        with pytest.raises(StoreError) as caught:
            await store.set("service", "pay", PAUSED)
        assert caught.value.kind in {"readonly", "io"}
        assert names(tmp_path / "x") == set()
        async with make(path=absent) as writer:
            await writer.set("service", "pay", PAUSED)
            await store.refresh()
            assert paused(store) == ["service:pay"]
        await store.refresh()
        assert paused(store) == ["service:pay"]


async def test_a_lost_store_does_not_resume_what_was_paused(
    make: Callable[..., DomainActivityStore], path: Path
) -> None:
    async with make() as store:
        await store.set("service", "pay", PAUSED)
        await store.set("service", "mail", DomainActivity(note="only a note"))
    lose(path)
    async with make(readonly=True) as reader:
        assert paused(reader) == ["service:pay"]
        assert "missing" in (reader.problem or "")
    async with make() as store:
        assert (paused(store), store.problem) == (["service:pay"], None)
        assert "1 keys" in (store.recovered or "")
        await store.set("service", "pay", IDLE)
    async with make() as store:
        assert (store.snapshot(), store.recovered) == ({}, None)


async def test_a_store_lost_under_running_processes_is_restored_once(
    make: Callable[..., DomainActivityStore], path: Path
) -> None:
    async with make() as one, make() as other:
        await one.set("service", "pay", PAUSED)
        await other.refresh()
        lose(path)
        await one.refresh()
        assert paused(one) == ["service:pay"]
        await one.set("service", "pay", IDLE)
        await other.refresh()
        assert other.snapshot() == {}, "what was resumed after the restoration stays resumed"
        assert one.problem is None
        assert other.problem is None


async def test_a_store_put_back_from_an_old_backup_does_not_resume(
    make: Callable[..., DomainActivityStore], path: Path
) -> None:
    async with make():
        pass
    backup = bytes_of(path)
    async with make() as store:
        await store.set("service", "pay", PAUSED)
    write(path, backup)
    async with make() as store:
        assert paused(store) == ["service:pay"]
        await store.set("service", "pay", IDLE)
    async with make() as store:
        assert store.snapshot() == {}


async def test_a_change_made_after_a_loss_puts_the_others_back_too(
    make: Callable[..., DomainActivityStore], path: Path
) -> None:
    async with make() as store:
        await store.set("service", "pay", PAUSED)
        lose(path)
        await store.set("service", "mail", PAUSED)
        assert paused(store) == ["service:mail", "service:pay"]
        assert "1 keys" in (store.recovered or "")


async def test_a_row_that_changed_by_itself_is_put_right_by_the_copy(
    make: Callable[..., DomainActivityStore], path: Path
) -> None:
    async with make() as store:
        await store.set("service", "pay", PAUSED)
        await store.set("service", "mail", PAUSED)
        await store.set("service", "mail", IDLE)
    trigger = elsewhere(path, "SELECT sql FROM sqlite_schema WHERE name = 'activity_update'")[3:-4]
    elsewhere(path, "DROP TRIGGER activity_update", "UPDATE activity SET paused = 0", trigger)
    async with make() as store:
        assert paused(store) == ["service:pay"]
        assert "1 keys" in (store.recovered or "")
        await store.set("service", "pay", IDLE)
    async with make() as store:
        assert (store.snapshot(), store.recovered) == ({}, None)


async def test_states_that_ended_long_ago_are_forgotten(
    make: Callable[..., DomainActivityStore], path: Path, clock: Clock
) -> None:
    async with make() as store:
        await store.set("service", "pay", DomainActivity(paused=True, until=clock.now + 60))
        clock.now += 2 * 86_400
        await store.set("service", "mail", PAUSED)
    assert elsewhere(path, "SELECT key FROM activity") == "[('mail',)]"


def test_an_older_copy_does_not_replace_a_newer_one_and_writers_take_turns(path: Path) -> None:
    copy = path.with_suffix(".json")
    newer = Loaded(store_id="a", revision=5, rows={("service", "pay"): PAUSED})
    write_copy(copy, newer, 0.05)
    write_copy(copy, Loaded(store_id="a", revision=4), 0.05)
    assert read_copy(copy) == newer
    with turn(copy, 0.05), pytest.raises(StoreError, match="another process"):
        write_copy(copy, Loaded(store_id="a", revision=6), 0.05)
    write_copy(copy, Loaded(store_id="b", revision=1), 0.05)
    assert read_copy(copy) == Loaded(store_id="b", revision=1)


async def test_without_a_copy_a_new_store_is_empty(make: Callable[..., DomainActivityStore], path: Path) -> None:
    async with make() as store:
        await store.set("service", "pay", PAUSED)
    lose(path)
    path.with_suffix(".json").unlink()
    async with make() as store:
        assert (store.snapshot(), store.problem, store.recovered) == ({}, None, None)


async def test_unknown_is_what_the_policy_says(make: Callable[..., DomainActivityStore], path: Path) -> None:
    async with make() as store:
        await store.set("service", "pay", PAUSED)
    with locked(path):
        for policy, expected in (
            ("paused-if-known", (True, False)),
            ("paused", (True, True)),
            ("active", (False, False)),
        ):
            async with make(on_unknown=policy, busy_seconds=0.05) as store:
                assert (store.get("service", "pay").paused, store.get("service", "mail").paused) == expected, policy
                assert "locked" in (store.problem or "")
    async with make(on_unknown="paused") as store:
        assert store.get("service", "mail") == IDLE
    lose(path)
    async with make(on_unknown="active") as store:
        assert store.snapshot() == {}


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "header": lambda data: bytes(100) + data[100:],
    "magic": lambda data: b"X" + data[1:],
    "middle": lambda data: data[: len(data) // 2] + b"\xff" * 4096 + data[len(data) // 2 + 4096 :],
    "truncated": lambda data: data[: len(data) // 2 + 7],
    "short": lambda data: data[:50],
    "empty": lambda _: b"",
    "zeros": lambda data: bytes(len(data)),
    "other": lambda _: b'{"not": "a database"}' * 100,
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_store_is_kept_beside_and_resumes_nothing(
    make: Callable[..., DomainActivityStore], path: Path, damage: str
) -> None:
    async with make() as store:
        for number in range(30):
            await store.set("service", f"key-{number}", PAUSED)
    write(path, DAMAGES[damage](bytes_of(path)))
    async with make(readonly=True) as reader:
        assert len(paused(reader)) == 30
    async with make() as store:
        assert len(paused(store)) == 30
        assert store.problem is None
    async with make() as store:
        assert (len(paused(store)), store.recovered) == (30, None)
    if damage != "empty":
        assert [name for name in names(path) if ".corrupt-" in name]


async def test_flipped_bits_resume_nothing_and_raise_nothing(
    make: Callable[..., DomainActivityStore], path: Path
) -> None:
    async with make() as store:
        for number in range(10):
            await store.set("service", f"key-{number}", PAUSED)
    whole, copy = bytes_of(path), bytes_of(path.with_suffix(".json"))
    chance = random.Random(7)  # noqa: S311 - the same damages each time
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        write(path, bytes(damaged))
        path.with_suffix(".json").write_bytes(copy)
        async with make() as store:
            found = set(paused(store))
            assert {f"service:key-{number}" for number in range(10)} <= found, store.problem


async def test_a_damaged_copy_is_said_to_be_and_written_anew(
    make: Callable[..., DomainActivityStore], path: Path
) -> None:
    copy = path.with_suffix(".json")
    async with make() as store:
        await store.set("service", "pay", PAUSED)
    for content in (b"{", b"[]", b'{"store_id": 1, "revision": 2, "activity": []}', b'{"store_id": "x"}'):
        copy.write_bytes(content)
        async with make(readonly=True) as reader:
            assert "copy" in (reader.problem or "")
            assert paused(reader) == ["service:pay"]
        async with make() as store:
            assert store.problem is None
        assert json.loads(copy.read_bytes())["activity"][0]["key"] == "pay"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


async def test_a_locked_store_keeps_what_is_known_and_heals(
    make: Callable[..., DomainActivityStore], path: Path
) -> None:
    async with make() as one, make(busy_seconds=0.05) as store:
        await one.set("service", "pay", PAUSED)
        await store.refresh()
        await one.aclose()
        await store.aclose()
        with locked(path):
            await store.refresh()
            assert paused(store) == ["service:pay"]
            assert "locked" in (store.problem or "")
            with pytest.raises(StoreError) as caught:
                await store.set("service", "pay", IDLE)
            assert caught.value.kind == "locked"
            assert paused(store) == ["service:pay"]
        await store.refresh()
        assert store.problem is None
        await store.set("service", "pay", IDLE)
        assert store.snapshot() == {}


async def test_changes_made_together_are_all_kept_and_the_copy_is_of_the_last(
    make: Callable[..., DomainActivityStore], path: Path
) -> None:
    async with make() as store, make() as other:
        await asyncio.gather(
            *((store, other)[number % 2].set("service", f"key-{number}", PAUSED) for number in range(60))
        )
    copied = json.loads(path.with_suffix(".json").read_bytes())
    assert len(copied["activity"]) == 60
