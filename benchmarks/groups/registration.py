"""Registration: many candidates in one revision, what they weigh, and many on one key."""

import time
import tracemalloc
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from benchmarks._timing import Contest, Figure
from benchmarks.groups.resolve import make
from oneiric.core.resolution import Candidate, Policy, Resolver

ROUNDS = 15
COUNT = 10_000
#: Candidates on one key, few and many.
FEW, MANY = 10, 1_000
FIELDS = [field.name for field in fields(Candidate)]

#: The value of every field of a candidate, in order: a table that holds less would not be the same registry.
type Raw = tuple[Any, ...]


def raw_rows(count: int, *, one_key: bool = False) -> list[Raw]:
    """Return what candidates are made of, so that no string is made while the clock runs."""
    return [
        tuple(getattr(candidate, name) for name in FIELDS)
        for candidate in (
            Candidate(
                domain="adapter",
                key="key" if one_key else f"key-{number}",
                provider=f"provider-{number}",
                factory=make,
                priority=0,
                stack_level=number % 7,
                origin="benchmarks",
                version="1.0",
            )
            for number in range(count)
        )
    ]


def candidates(rows: list[Raw]) -> list[Candidate]:
    """Construct candidates."""
    return [
        Candidate(
            domain=row[0],
            key=row[1],
            provider=row[2],
            factory=row[3],
            priority=row[4],
            stack_level=row[5],
            origin=row[7],
            version=row[9],
        )
        for row in rows
    ]


def table(rows: list[Raw]) -> dict[tuple[str, str], Raw]:
    """Build the floor: a dictionary of tuples that holds the same values."""
    return {(domain, key): (domain, key, *rest) for domain, key, *rest in rows}


def applied(offered: list[Candidate]) -> Resolver:
    """Take them in, as one revision."""
    resolver = Resolver(Policy())
    resolver.apply(add=offered)
    return resolver


def one_by_one(offered: list[Candidate]) -> Resolver:
    """Take them in, each as a revision of its own."""
    resolver = Resolver(Policy())
    for candidate in offered:
        resolver.register(candidate)
    return resolver


def _timed(function: Callable[[Any], Any], argument: Any) -> Callable[[int], float]:
    def run(number: int) -> float:
        seconds = 0.0
        for _ in range(number):
            started = time.perf_counter()
            kept = function(argument)
            seconds += time.perf_counter() - started
            del kept  # taking it apart is nobody's registration
        return seconds

    return run


def measure(rounds: int) -> list[Figure]:
    """Measure the group."""
    contest = Contest("registration", rounds)
    rows = raw_rows(COUNT)
    offered = candidates(rows)

    def constructed(of: list[Raw]) -> Resolver:
        return applied(candidates(of))

    def add(name: str, function: Callable[[Any], Any], argument: list[Any], label: str, number: int = 1) -> None:
        who, operations = ("floor" if name == "floor" else "ours"), len(argument)
        run = _timed(function, argument)
        contest.add_timed(name, run, label=label, who=who, operations=operations, number=number)  # type: ignore[arg-type]  # one of the two words

    add("floor", table, rows, f"a dictionary of {COUNT:,} tuples")
    add("apply", applied, offered, f"apply(add={COUNT:,} candidates)")
    add("constructed", constructed, rows, "the same, with their construction")
    few, many = (candidates(raw_rows(count, one_key=True)) for count in (FEW, MANY))
    add("few", applied, few, f"apply of {FEW} on one key", number=50)
    add("many", applied, many, f"apply of {MANY:,} on one key")
    add("few_single", one_by_one, few, f"register, {FEW} on one key", number=20)
    add("many_single", one_by_one, many, f"register, {MANY:,} on one key")
    contest.run()
    return [
        *contest.figures(),
        contest.quotient("growth", f"one apply: each of {MANY:,} on one key over each of {FEW}", "many", "few"),
        contest.quotient("growth_single", "register one by one: the same", "many_single", "few_single"),
        *_weights(rows),
    ]


def _weights(rows: list[Raw]) -> list[Figure]:
    floor = _bytes_each(table, rows)
    ours = _bytes_each(lambda of: applied(candidates(of)), rows)
    return [
        Figure(name="registration.bytes_floor", label="bytes each, tuples", who="floor", value=floor, unit="B"),
        Figure(name="registration.bytes", label="bytes each, candidate and registry", who="ours", value=ours, unit="B"),
    ]


def _bytes_each(function: Callable[[list[Raw]], object], rows: list[Raw]) -> float:
    function(rows[:10])  # whatever is made once is made now
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    kept = function(rows)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return (after - before) / len(rows)
