"""The numbers of a run."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from oneiric.cli.demo.swaps import Outcome

__all__ = ["figures_of", "verdict_of"]


def figures_of(outcome: Outcome) -> dict[str, Any]:
    """Return the numbers of a run as plain data; latencies in milliseconds, None where nothing was measured."""
    lost = Counter(call.lost for call in outcome.calls if call.lost)
    in_flight = [leases for _, leases in outcome.bound]
    swapping, steady = _latencies(outcome)
    return {
        "calls": len(outcome.calls),
        "lost": lost.total(),
        "lost_by": {kind: lost[kind] for kind in ("raised", "unanswered", "cleaned_up")},
        "lost_example": next((call.reason for call in outcome.calls if call.lost), None),
        "swaps": len(outcome.bound),
        "rollbacks": outcome.rollbacks,
        "swaps_to": dict(sorted(Counter(provider for provider, _ in outcome.bound).items())),
        "in_flight_at_bind": {
            "min": min(in_flight, default=None),
            "max": max(in_flight, default=None),
            "mean": round(sum(in_flight) / len(in_flight), 1) if in_flight else None,
        },
        "latency_ms": {"swapping": swapping, "steady": steady},
        "added_latency_ms": {name: _difference(swapping[name], steady[name]) for name in ("p50", "p99")},
        "swap_ms": _quantiles((end - began) * 1000 for began, end in outcome.windows),
        "seconds": round(outcome.seconds, 2),
    }


def verdict_of(figures: dict[str, Any]) -> str | None:
    """Return what a run failed to show, in a sentence; None when it showed it."""
    if figures["lost"]:
        return f"{figures['lost']} of {figures['calls']} calls were lost; the first: {figures['lost_example']}"
    if not figures["swaps"] or not figures["in_flight_at_bind"]["min"]:
        return "a swap was bound with no call in flight, so the run shows nothing"
    return None


def _latencies(outcome: Outcome) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """Return the quantiles of the calls that met a swap, and of the rest."""
    # Windows follow each other, so both bounds are sorted.
    begins = [began for began, _ in outcome.windows]
    swapping: list[float] = []
    steady: list[float] = []
    warm = begins[0] if begins else 0.0  # before it, connections are made and code is loaded
    for call in outcome.calls:
        if call.began < warm and call.ended < warm:
            continue
        last = bisect_right(begins, call.ended) - 1
        met = last >= 0 and outcome.windows[last][1] >= call.began
        (swapping if met else steady).append((call.ended - call.began) * 1000)
    return _quantiles(swapping), _quantiles(steady)


def _quantiles(values: Iterable[float]) -> dict[str, float | None]:
    ordered = sorted(values)
    return {"p50": _quantile(ordered, 0.50), "p99": _quantile(ordered, 0.99)}


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    return round(ordered[min(int(len(ordered) * share), len(ordered) - 1)], 3) if ordered else None


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else round(one - other, 3)
