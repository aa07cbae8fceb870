"""Explanations of ten candidates: asked again, asked first, and as plain data."""

from typing import Any

from benchmarks._timing import Contest, Figure
from benchmarks.groups.resolve import DOMAIN, filled
from oneiric.core.resolution import Explanation

ROUNDS = 400
CANDIDATES = 10
KEY = "key-0"


def plain(rows: list[tuple[Any, ...]], revision: int) -> dict[str, Any]:
    """Build the plain data of an explanation as code that had nothing else to do would, from ranked tuples."""
    ordered = []
    for place, (provider, score, origins, source, origin, version) in enumerate(rows):
        _, priority, stack_level, registration = score
        ordered.append(
            {
                "provider": provider,
                "selected": place == 0,
                "score": [*score],
                "origins": {**origins},
                "reasons": [
                    f"priority {priority} ({origins['priority']})",
                    f"stack_level {stack_level} ({origins['stack_level']})",
                    f"registered as number {registration}",
                ],
                "source": source,
                "origin": origin,
                "version": version,
            }
        )
    first, second = rows[0], rows[1]
    return {
        "domain": DOMAIN,
        "key": KEY,
        "tenant": None,
        "revision": revision,
        "selected": first[0],
        "active": None,
        "why": f"{first[0]} has stack_level {first[1][2]} ({first[2]['stack_level']}), "
        f"above {second[1][2]} of {second[0]}",
        "reasons": [*ordered[0]["reasons"]],
        "selection": None,
        "capabilities": [],
        "ordered": ordered,
        "shadowed": [row[0] for row in rows[1:]],
        "filtered": [],
    }


def _ranked(explanation: Explanation) -> list[tuple[Any, ...]]:
    return [
        (row.provider, row.score, row.origins, row.candidate.source.value, row.candidate.origin, row.candidate.version)
        for row in explanation.ordered
    ]


def measure(rounds: int) -> list[Figure]:
    """Measure the group."""
    resolver = filled(1, CANDIDATES)
    explanation = resolver.explain(DOMAIN, KEY)
    rows = _ranked(explanation)
    if plain(rows, resolver.revision) != explanation.as_dict():
        raise AssertionError("the floor no longer builds what as_dict() gives: bring `plain` up to date")
    contest = Contest("explain", rounds)
    names: dict[str, Any] = {"D": {(DOMAIN, KEY): explanation}, "a": DOMAIN, "b": KEY, "explain": resolver.explain}
    contest.add("hit", "D[a, b]", names, who="floor", floor="hit", label="D[a, b], a dictionary hit")
    contest.add("repeated", "explain(a, b)", names, floor="hit", label="explain(a, b), again")
    names = {"plain": plain, "rows": rows, "revision": resolver.revision}
    label = f"building the same plain data, {CANDIDATES} candidates"
    contest.add("build", "plain(rows, revision)", names, who="floor", floor="build", label=label)
    contest.add("as_dict", "as_dict()", {"as_dict": explanation.as_dict}, floor="build", label="explanation.as_dict()")
    # A revision answers a question once and remembers it; forgetting makes every turn the first.
    names = {"forget": resolver._current.memo.clear, "explain": resolver.explain, "a": DOMAIN, "b": KEY}
    contest.add("first", "forget(); explain(a, b)", names, floor="build", label="explain(a, b), the first time")
    label = "the first time, as plain data"
    contest.add("first_as_dict", "forget(); explain(a, b).as_dict()", names, floor="build", label=label)
    return contest.run().figures()
