"""Resolving, explaining and registering."""

import tracemalloc
from collections.abc import Callable
from typing import Any

from benchmarks.measure import Batch, Group, interleaved
from benchmarks.peers import keyed_routes
from oneiric.core.resolution import Candidate, Policy, Resolver

__all__ = ["explain", "register", "resolve"]


def candidates(keys: int, each: int = 1) -> list[Candidate]:
    """Make candidates: so many keys, so many providers on each."""
    return [
        Candidate(domain="adapter", key=f"key{number}", provider=f"p{provider}", factory=dict, stack_level=provider)
        for number in range(keys)
        for provider in range(each)
    ]


def resolver(keys: int, each: int = 1) -> Resolver:
    """Make a resolver that holds them."""
    made = Resolver(Policy())
    made.apply(add=candidates(keys, each))
    return made


def _repeat(call: Callable[[str, str], object]) -> Batch:
    def batch(size: int, domain: str = "adapter", key: str = "key7") -> None:
        for _ in range(size):
            call(domain, key)

    return batch


def _view(made: Resolver) -> Batch:
    view = made.view("adapter")

    def batch(size: int, key: str = "key7") -> None:
        for _ in range(size):
            view[key]

    return batch


def _floor(table: dict[tuple[str, str], Candidate]) -> Batch:
    def batch(size: int, domain: str = "adapter", key: str = "key7") -> None:
        for _ in range(size):
            table[domain, key]

    return batch


def _get(made: Resolver) -> Batch:
    get = made.get

    def batch(size: int, domain: str = "adapter", key: str = "key7") -> None:
        for _ in range(size):
            get(domain, key)

    return batch


def _resolve(made: Resolver) -> Batch:
    resolve = made.resolve

    def batch(size: int, domain: str = "adapter", key: str = "key7") -> None:
        for _ in range(size):
            resolve(domain, key, provider=None, capabilities=())

    return batch


def resolve() -> Group:
    """Hot reads against ``D[a, b]`` on a dictionary of tuples."""
    group = Group("resolve")
    few, many, crowded = resolver(10), resolver(10_000), resolver(10, 100)
    table = {(c.domain, c.key): c for c in many.candidates("adapter")}
    batches: dict[str, Batch] = {
        "floor": _floor(table),
        "get 10": _get(few),
        "get 10000": _get(many),
        "get 100": _get(crowded),
        "view": _view(many),
        "view 100": _view(crowded),
        "resolve": _resolve(many),
        "resolve 100": _resolve(crowded),
    }
    routes = keyed_routes()
    best = interleaved(batches | routes, size=4000, rounds=80)
    floor = best["floor"]
    group.ratios = {
        "get, 10 keys": best["get 10"] / floor,
        "get, 10000 keys": best["get 10000"] / floor,
        "get, 10000 keys over 10": best["get 10000"] / best["get 10"],
        "get, 100 candidates": best["get 100"] / floor,
        "view[key]": best["view"] / floor,
        "view[key], 100 candidates": best["view 100"] / floor,
        "resolve": best["resolve"] / floor,
        "resolve, 100 candidates": best["resolve 100"] / floor,
    }
    for name in routes:
        group.shown.append(f"{name}: {best[name] / floor:.2f}×")
        if name.startswith("dependency-injector"):
            group.ratios["get over dependency-injector's keyed route"] = best["get 10000"] / best[name]
    group.shown.append(f"floor: {floor:.0f} ns")
    return group


def explain() -> Group:
    """Explanations of ten candidates, against a dictionary hit and against building the same plain data once."""
    made = resolver(1, 10)
    explanation = made.explain("adapter", "key0")
    cache = {("adapter", "key0"): explanation}
    data = explanation.as_dict()

    def hit(size: int, domain: str = "adapter", key: str = "key0") -> None:
        for _ in range(size):
            cache[domain, key]

    def repeated(size: int) -> None:
        for _ in range(size):
            made.explain("adapter", "key0")

    def build(size: int) -> None:
        for _ in range(size):
            _copy(data)

    def as_dict(size: int) -> None:
        for _ in range(size):
            explanation.as_dict()

    def first(size: int) -> None:
        for _ in range(size):
            made._current.memo.clear()
            made.explain("adapter", "key0")

    best = interleaved({"hit": hit, "repeated": repeated}, size=2000)
    built = interleaved({"build": build, "as_dict": as_dict, "first": first}, size=50)
    return Group(
        "explain",
        {
            "explain, repeated": best["repeated"] / best["hit"],
            "as_dict": built["as_dict"] / built["build"],
            "explain, first": built["first"] / built["build"],
        },
        [f"build of the plain data: {built['build'] / 1000:.1f} µs"],
    )


def _copy(data: dict[str, Any]) -> dict[str, Any]:
    """Build the plain data of an explanation from values at hand: every sentence is rendered, every list is made."""
    rows = []
    for row in data["ordered"]:
        chosen, priority, stack_level, registration = row["score"]
        reasons = [f"selected by {row['origin']}"] if chosen else []
        reasons += [
            f"priority {priority} ({row['origin']})",
            f"stack_level {stack_level} ({row['origin']})",
            f"registered as number {registration}",
        ]
        rows.append({**row, "score": list(row["score"]), "origins": dict(row["origins"]), "reasons": reasons})
    return {
        **data,
        "ordered": rows,
        "reasons": list(rows[0]["reasons"]),
        "shadowed": [row["provider"] for row in rows[1:]],
        "filtered": [dict(row) for row in data["filtered"]],
    }


def register() -> Group:
    """Registration against a dictionary of tuples, per candidate."""
    count = 10_000
    prebuilt = candidates(count)

    def floor(_: int) -> None:
        # As much as a candidate's rank says, in a dictionary of tuples, keys made as well.
        table = {}
        for number in range(count):
            key = f"key{number}"
            table["adapter", key] = ("adapter", key, "p0", dict, None, 0, (), number)

    def apply(_: int) -> None:
        Resolver(Policy()).apply(add=prebuilt)

    def construct(_: int) -> None:
        Resolver(Policy()).apply(add=candidates(count))

    best = interleaved({"floor": floor, "apply": apply, "construct": construct}, size=count, rounds=7)
    crowds = {size: candidates(1, size) for size in (10, 1000)}

    def crowd(size: int) -> Callable[[int], None]:
        def batch(_: int) -> None:
            for _ in range(1000 // size):
                Resolver(POLICY).apply(add=crowds[size])

        return batch

    grown = interleaved({"10": crowd(10), "1000": crowd(1000)}, size=1000, rounds=15)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = resolver(count)
    taken = (tracemalloc.get_traced_memory()[0] - before) / count
    tracemalloc.stop()
    return Group(
        "register",
        {
            "apply of 10000": best["apply"] / best["floor"],
            "with construction": best["construct"] / best["floor"],
            "bytes each": taken,
            "growth 10 to 1000 on one key": grown["1000"] / grown["10"],
        },
        [f"floor: {best['floor']:.0f} ns per candidate; {kept!r}"],
    )


POLICY = Policy()
