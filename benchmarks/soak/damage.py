"""Soak: an activity store damaged in every way we know, many times; nothing paused is resumed, nothing raises.

Each trial damages a copy of one store, opens it as a command would (to read) and as the orchestrator would, and asks
for every key that was paused. A file that had to make room must be kept beside the new one, byte for byte. The mutant
``no-copy`` takes the second copy away: paused keys must be lost, or the count is worth nothing.
"""

import argparse
import asyncio
import json
import random
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from oneiric.runtime.activity import DomainActivity, DomainActivityStore

__all__ = ["KINDS", "Outcome", "main", "soak"]

_PAGE: Final = 4096
_KEYS: Final = 60
_PAUSED: Final = {f"service:key-{number}" for number in range(_KEYS)}

type Damage = Callable[[random.Random, Path, bytes], None]


def _replace(change: Callable[[random.Random, bytearray], bytes | bytearray]) -> Damage:
    def damage(chance: random.Random, path: Path, whole: bytes) -> None:
        path.write_bytes(change(chance, bytearray(whole)))

    return damage


def _page(chance: random.Random, data: bytearray) -> slice:
    start = chance.randrange(len(data) // _PAGE) * _PAGE
    return slice(start, start + _PAGE)


def _with(data: bytearray, where: slice, what: bytes | bytearray) -> bytearray:
    data[where] = what
    return data


def _flipped(chance: random.Random, data: bytearray, bits: int) -> bytearray:
    for _ in range(bits):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return data


def _beside(suffix: str) -> Damage:
    def damage(chance: random.Random, path: Path, whole: bytes) -> None:
        path.write_bytes(whole)
        Path(f"{path}{suffix}").write_bytes(chance.randbytes(_PAGE))

    return damage


#: What can happen to a file.
KINDS: Final[dict[str, Damage]] = {
    "deleted": lambda _chance, _path, _whole: None,
    "empty": _replace(lambda _, __: b""),
    "zeros": _replace(lambda _, data: bytes(len(data))),
    "noise": _replace(lambda chance, data: chance.randbytes(len(data))),
    "text": _replace(lambda _, __: b'{"not": "a database"}\n' * 300),
    "header zeroed": _replace(lambda _, data: _with(data, slice(0, 100), bytes(100))),
    "header noise": _replace(lambda chance, data: _with(data, slice(16, 100), chance.randbytes(84))),
    "magic": _replace(lambda chance, data: _with(data, slice(0, 1), bytes([chance.randrange(1, 80)]))),
    "short": _replace(lambda chance, data: data[: chance.randrange(1, 100)]),
    "truncated": _replace(lambda chance, data: data[: chance.randrange(100, len(data))]),
    "truncated at a page": _replace(lambda chance, data: data[: _page(chance, data).start or _PAGE]),
    "appended": _replace(lambda chance, data: data + chance.randbytes(chance.randrange(1, 9_000))),
    "page zeroed": _replace(lambda chance, data: _with(data, _page(chance, data), bytes(_PAGE))),
    "page noise": _replace(lambda chance, data: _with(data, _page(chance, data), chance.randbytes(_PAGE))),
    "page repeated": _replace(lambda chance, data: _with(data, _page(chance, data), data[_page(chance, data)])),
    "one bit": _replace(lambda chance, data: _flipped(chance, data, 1)),
    "many bits": _replace(lambda chance, data: _flipped(chance, data, 40)),
    "journal noise": _beside("-journal"),
    "wal noise": _beside("-wal"),
    "shm noise": _beside("-shm"),
}


@dataclass(slots=True)
class Outcome:
    """What was counted.

    Attributes:
        trials: Damages done.
        set_aside: How many files were kept beside a new one.
        with_problem: How many stores said that they cannot be used, and kept what is known.
        failures: What broke a promise, as sentences.
    """

    trials: int = 0
    set_aside: int = 0
    with_problem: int = 0
    failures: list[str] = field(default_factory=list)


async def soak(seeds: int, first_seed: int = 1, *, with_copy: bool = True) -> Outcome:
    """Try each kind of damage with so many seeds."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "domain_activity.sqlite"
        async with DomainActivityStore(path) as store:
            states = [DomainActivity(paused=True, note=f"note {number} " * 20) for number in range(_KEYS)]
            await asyncio.gather(*(store.set("service", f"key-{n}", state) for n, state in enumerate(states)))
        whole, copy = path.read_bytes(), path.with_suffix(".json").read_bytes()
        for kind, damage in KINDS.items():
            for seed in range(first_seed, first_seed + seeds):
                for each in path.parent.iterdir():
                    each.unlink()
                if with_copy:
                    path.with_suffix(".json").write_bytes(copy)
                damage(random.Random(seed), path, whole)  # noqa: S311 - the same damage for the same seed
                await _try(path, f"{kind}, seed {seed}", outcome)
    return outcome


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


async def _try(path: Path, what: str, outcome: Outcome) -> None:
    damaged = _content(path)
    outcome.trials += 1
    try:
        async with DomainActivityStore(path, readonly=True, busy_seconds=0.1) as reader:
            _judge(reader, f"{what}, read", outcome)
        async with DomainActivityStore(path, busy_seconds=0.1) as store:
            await store.refresh()
            _judge(store, what, outcome)
            outcome.with_problem += store.problem is not None
            if store.problem is None:
                await store.set("service", "key-0", DomainActivity())
                if not store.get("service", "key-0").takes_work:
                    outcome.failures.append(f"{what}: key-0 was resumed and is still paused")
    except Exception:  # noqa: BLE001 - whatever comes out of it is what is counted
        outcome.failures.append(f"{what}: raised {traceback.format_exc(limit=-2)}")
    kept = [each for each in path.parent.glob("*.corrupt-*") if not each.name.endswith(("-journal", "-wal", "-shm"))]
    outcome.set_aside += len(kept)
    if kept and kept[0].read_bytes() != damaged:
        outcome.failures.append(f"{what}: what was kept beside is not what was there")


def _judge(store: DomainActivityStore, what: str, outcome: Outcome) -> None:
    resumed = sorted(_PAUSED - {f"service:{key}" for key, row in store.all_for_domain("service").items() if row.paused})
    if resumed:
        outcome.failures.append(f"{what}: {len(resumed)} paused keys were resumed, such as {resumed[0]}")


def main(arguments: Sequence[str]) -> int:
    """Run the soak, print one JSON line, and return 1 when the promise was broken."""
    parser = argparse.ArgumentParser(prog="scripts/soak damage", description="damaged stores resume nothing")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    parser.add_argument("--mutant", choices=["no-copy"], help="take the second copy away: keys must be resumed")
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    outcome = asyncio.run(soak(options.seeds, options.seed, with_copy=options.mutant is None))
    line = {
        "property": "a damaged activity store resumes nothing that was paused, and raises nothing",
        "figure": {"kinds": len(KINDS), "trials": outcome.trials, "wrong": len(outcome.failures)},
        "seed": options.seed,
        "ok": not outcome.failures,
        "failures": outcome.failures[:20],
        "mutant": options.mutant,
        "set_aside": outcome.set_aside,
        "with_problem": outcome.with_problem,
        "seconds": round(time.perf_counter() - started, 1),
    }
    print(json.dumps(line))
    return int(bool(outcome.failures))
