"""The bars of the benchmarks can be missed: a check that always passes would be worth nothing."""

from __future__ import annotations

import pytest
from benchmarks._bars import judged, read_bars
from benchmarks._timing import Contest, Figure
from benchmarks.groups import GROUPS


def figure(name: str, value: float) -> Figure:
    return Figure(name=name, label="", who="ours", value=value)


@pytest.mark.parametrize(
    ("value", "word"), [(1.25, "ok"), (1.37, "ok, within noise"), (1.38, "MISSED"), (None, "NOT MEASURED")]
)
def test_a_bar_allows_a_tenth_of_noise_and_no_more(value: float | None, word: str) -> None:
    figures = [] if value is None else [figure("resolve.get", value)]

    verdict = judged(read_bars(), figures, ["resolve"])["resolve.get"]

    assert verdict.word == word
    assert verdict.held is word.startswith("ok")


def test_noise_excuses_no_lost_call() -> None:
    assert judged(read_bars(), [figure("load.lost", 1)], ["load"])["load.lost"].word == "MISSED"


def test_only_the_groups_that_ran_are_judged() -> None:
    assert {name.partition(".")[0] for name in judged(read_bars(), [], ["swap", "lease"])} == {"swap", "lease"}


def test_every_bar_belongs_to_a_group() -> None:
    assert {name.partition(".")[0] for name in read_bars()} <= set(GROUPS)


def test_a_figure_is_the_ratio_of_the_fastest_rounds() -> None:
    contest = Contest("group", rounds=3)
    floor, ours = iter([9.0, 2.0, 1.0, 4.0]), iter([9.0, 8.0, 3.0, 6.0])  # the first call of each is the warm-up
    contest.add_timed("floor", lambda _: next(floor), label="floor", who="floor", number=1)
    contest.add_timed("case", lambda _: next(ours), label="case", number=1)

    _, case = contest.run().figures()

    assert (case.name, case.value, case.seconds, case.floor) == ("group.case", 3.0, 3.0, "group.floor")
