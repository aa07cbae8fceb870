"""Ranking, explanation and why_not agree with a naive model of the four tiers, for thousands of random registries."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from oneiric.core.errors import OneiricError, ResolutionError
from oneiric.core.resolution import Candidate, Environment, Explanation, Policy, Resolver

PROVIDERS = ("a", "b", "c", "d")
MANY = settings(max_examples=300, deadline=None, derandomize=True)


def environment(installed: frozenset[str]) -> Environment:
    return Environment(python="3.13.0", os="linux", is_installed=lambda requirement: requirement in installed)


rows = st.lists(
    st.fixed_dictionaries(
        {
            "provider": st.sampled_from(PROVIDERS),
            "origin": st.sampled_from(("one", "two")),
            "priority": st.none() | st.integers(-2, 2),
            "stack_level": st.none() | st.integers(-2, 2),
            "opt_in": st.booleans(),
            "requires_extra": st.sampled_from((None, None, "one[x]", "two[y]")),
            "requires_os": st.sampled_from(((), (), ("linux",), ("darwin",))),
            "capabilities": st.sampled_from(((), ("ttl",), ("ttl", "kv"))),
        }
    ),
    min_size=1,
    max_size=7,
    unique_by=lambda row: (row["provider"], row["origin"]),
)
installations = st.frozensets(st.sampled_from(("one[x]", "two[y]")))
selections = st.none() | st.sampled_from((*PROVIDERS, "absent"))
orders = st.dictionaries(st.sampled_from(("one", "two")), st.integers(-2, 2))


def candidate(row: dict[str, Any]) -> Candidate:
    return Candidate(domain="adapter", key="cache", factory=dict, **row)


def policy(selected: str | None, order: dict[str, int], installed: frozenset[str]) -> Policy:
    chosen = {} if selected is None else {"adapter": {"cache": selected}}
    return Policy(selections=chosen, stack_order=order, environment=environment(installed))


def model(
    given_rows: list[dict[str, Any]],
    selected: str | None,
    order: dict[str, int],
    installed: frozenset[str],
    is_capable: Callable[[dict[str, Any]], bool] = lambda row: True,
) -> tuple[str, str] | None:
    """The four tiers as one would explain them on a blackboard: (provider, origin) of the winner, or None."""
    ranked = []
    for place, row in enumerate(given_rows):
        chosen = row["provider"] == selected
        eligible = (
            (row["requires_extra"] is None or row["requires_extra"] in installed)
            and (not row["requires_os"] or "linux" in row["requires_os"])
            and (chosen or not row["opt_in"])
            and is_capable(row)
        )
        if eligible:
            priority = order.get(row["origin"], row["priority"] or 0)
            ranked.append((chosen, priority, row["stack_level"] or 0, place, (row["provider"], row["origin"])))
    if not ranked or (selected is not None and not max(ranked)[0]):
        return None
    return max(ranked)[4]


def winner(resolver: Resolver, **asked: Any) -> tuple[str, str] | None:
    try:
        found = resolver.resolve("adapter", "cache", **asked)
    except ResolutionError:
        return None
    return found.provider, found.origin


@MANY
@given(rows, selections, orders, installations)
def test_every_way_of_asking_agrees_with_the_model(
    given_rows: list[dict[str, Any]], selected: str | None, order: dict[str, int], installed: frozenset[str]
) -> None:
    resolver = Resolver(policy(selected, order, installed))
    resolver.apply(add=[candidate(row) for row in given_rows])
    expected = model(given_rows, selected, order, installed)
    assert winner(resolver) == expected
    got = resolver.get("adapter", "cache")
    assert (None if got is None else (got.provider, got.origin)) == expected
    assert resolver.view("adapter").get("cache") is got
    assert resolver.explain("adapter", "cache").winner is got
    active = {(c.provider, c.origin) for c in resolver.list_active("adapter")}
    shadowed = {(c.provider, c.origin) for c in resolver.list_shadowed("adapter")}
    filtered = {(c.provider, c.origin) for c, _ in resolver.list_filtered("adapter")}
    assert active | shadowed | filtered == {(row["provider"], row["origin"]) for row in given_rows}
    assert len(active) + len(shadowed) + len(filtered) == len(given_rows)


@MANY
@given(rows, selections, st.lists(st.sampled_from(("ttl", "kv", "absent")), min_size=1, unique=True), st.booleans())
def test_of_those_with_all_or_any_of_the_capabilities_the_best_wins(
    given_rows: list[dict[str, Any]], selected: str | None, wanted: list[str], require_all: bool
) -> None:
    resolver = Resolver(policy(selected, {}, frozenset()))
    resolver.apply(add=[candidate(row) for row in given_rows])
    enough = all if require_all else any

    def is_capable(row: dict[str, Any]) -> bool:
        return enough(name in row["capabilities"] for name in wanted)

    expected = model(given_rows, selected, {}, frozenset(), is_capable)
    asked: dict[str, Any] = {"capabilities": wanted, "require_all": require_all}
    assert winner(resolver, **asked) == expected
    explained = resolver.explain("adapter", "cache", **asked).winner
    assert (None if explained is None else (explained.provider, explained.origin)) == expected


@MANY
@given(rows, selections, orders, installations, st.randoms(use_true_random=False))
def test_registration_order_matters_only_in_the_last_tier(
    given_rows: list[dict[str, Any]],
    selected: str | None,
    order: dict[str, int],
    installed: frozenset[str],
    random: Any,
) -> None:
    shuffled = list(given_rows)
    random.shuffle(shuffled)
    explanations = []
    for some_rows in (given_rows, shuffled):
        resolver = Resolver(policy(selected, order, installed))
        for row in some_rows:
            resolver.register(candidate(row))
        explanations.append(resolver.explain("adapter", "cache"))
    first, second = explanations
    assert [row.score[:3] for row in first.ordered] == [row.score[:3] for row in second.ordered]
    assert len({row.score for row in first.ordered}) == len(first.ordered), "no ties"


@MANY
@given(rows, selections, orders, installations)
def test_a_recorded_explanation_replays_to_the_resolution(
    given_rows: list[dict[str, Any]], selected: str | None, order: dict[str, int], installed: frozenset[str]
) -> None:
    resolver = Resolver(policy(selected, order, installed))
    resolver.apply(add=[candidate(row) for row in given_rows])
    explanation = resolver.explain("adapter", "cache")
    recorded = json.loads(json.dumps(explanation.as_dict()))
    again = Explanation.from_dict(recorded)
    assert again.as_dict() == explanation.as_dict()
    expected = winner(resolver)
    assert again.replay() == (None if expected is None else expected[0])
    if expected is not None and explanation.shadowed:
        recorded["ordered"][-1]["score"][0] = 1
        recorded["ordered"][-1]["score"][1] = 99
        assert Explanation.from_dict(recorded).replay() == recorded["ordered"][-1]["provider"]


def changed(
    resolver: Resolver,
    given_rows: list[dict[str, Any]],
    target: dict[str, Any],
    order: dict[str, int],
    **fields: Any,
) -> str | None:
    """Apply a change for real: a selection, an installation, a priority or a stack level."""
    installed = fields.get("installed", frozenset())
    resolver.apply(
        add=[candidate({**row, **fields.get("row", {})} if row is target else row) for row in given_rows],
        policy=policy(fields.get("selected"), order, installed),
    )
    found = winner(resolver)
    return None if found is None else found[0]


@MANY
@given(rows, selections, orders, installations, st.sampled_from(PROVIDERS))
def test_each_change_that_why_not_offers_makes_it_win_and_one_less_does_not(
    given_rows: list[dict[str, Any]],
    selected: str | None,
    order: dict[str, int],
    installed: frozenset[str],
    provider: str,
) -> None:
    resolver = Resolver(policy(selected, order, installed))
    resolver.apply(add=[candidate(row) for row in given_rows])
    explanation = resolver.explain("adapter", "cache")
    try:
        answer = explanation.why_not(provider)
    except OneiricError:
        assert provider not in {row["provider"] for row in given_rows}
        return
    assert answer.wins == (explanation.selected == provider)
    if answer.changes is None:
        assert any(obstacle.kind == "os" for obstacle in answer.obstacles)
        return
    (spoken_of, *_) = [
        row for row in sorted(given_rows, key=lambda row: _rank(explanation, row)) if row["provider"] == provider
    ]
    for change in answer.changes.values():
        now = {"selected": selected, "installed": installed | ({change.install} if change.install else set())}
        if change.tier == "selection":
            assert changed(resolver, given_rows, spoken_of, order, **{**now, "selected": provider}) == provider
            less = now
        elif change.tier == "extra":
            less = dict(now)
            now["installed"] = installed | {str(change.value)}
            assert changed(resolver, given_rows, spoken_of, order, **now) == provider
            less["installed"] = installed
        elif change.tier == "priority" and spoken_of["origin"] in order:
            for value, wins in ((int(change.value), True), (int(change.value) - 1, False)):
                moved = {**order, spoken_of["origin"]: value}
                assert (changed(resolver, given_rows, spoken_of, moved, **now) == provider) is wins
            continue
        else:
            for value, wins in ((int(change.value), True), (int(change.value) - 1, False)):
                row = {change.tier: value}
                assert (changed(resolver, given_rows, spoken_of, order, **now, row=row) == provider) is wins
            continue
        assert changed(resolver, given_rows, spoken_of, order, **less) != provider


def _rank(explanation: Explanation, row: dict[str, Any]) -> tuple[bool, bool, list[int]]:
    """The order in which why_not picks the row to speak of: ranked, then least stood in the way of, then best."""
    for ranked in explanation.ordered:
        if (ranked.provider, ranked.candidate.origin) == (row["provider"], row["origin"]):
            return False, False, [-value for value in ranked.score]
    for aside in explanation.filtered:
        if (aside.provider, aside.candidate.origin) == (row["provider"], row["origin"]):
            hard = any(obstacle.kind not in {"extra", "opt_in"} for obstacle in aside.obstacles)
            return True, hard, [-value for value in aside.score]
    raise AssertionError(row)
