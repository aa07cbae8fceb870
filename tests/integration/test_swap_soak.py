"""A fixed-seed sample of ``scripts/soak swap``, and the mutant that must lose calls."""

import asyncio

from benchmarks.soak.swap import soak


def test_no_call_is_lost_while_the_component_is_swapped() -> None:
    figures = asyncio.run(soak(calls=6000, swaps=60, callers=64, seed=7))
    assert (figures.lost, figures.swaps) == (0, 60), figures.first_loss
    assert figures.calls >= 6000
    assert figures.in_flight_at_swaps > 60


def test_a_lifecycle_that_does_not_drain_loses_calls() -> None:
    figures = asyncio.run(soak(calls=3000, swaps=30, callers=64, seed=7, drain=False))
    assert figures.lost > 0
