"""The bars: what a figure may be at most, and what it is to become."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from benchmarks._timing import Figure

__all__ = ["NOISE", "Bar", "Verdict", "judged", "read_bars"]

#: How far above its bar a figure may come out on a busy machine.
NOISE: Final = 1.10

type Word = Literal["ok", "ok, within noise", "MISSED", "NOT MEASURED"]


@dataclass(frozen=True, slots=True)
class Bar:
    """What one figure may be at most.

    Attributes:
        name: The figure's.
        at_most: The bar itself; `NOISE` is allowed above it, which is nothing above zero.
        goal: What it is to become, or None when the bar is all that is asked.
    """

    name: str
    at_most: float
    goal: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one bar."""

    bar: Bar
    value: float | None
    word: Word

    @property
    def held(self) -> bool:
        """Whether the bar holds; one that was not measured does not."""
        return self.word.startswith("ok")

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        bar = self.bar
        return {"name": bar.name, "value": self.value, "at_most": bar.at_most, "goal": bar.goal, "verdict": self.word}


def read_bars() -> dict[str, Bar]:
    """Read the bars, by the name of their figure."""
    groups = tomllib.loads(Path(__file__).with_name("bars.toml").read_text(encoding="utf-8"))
    return {
        f"{group}.{name}": Bar(f"{group}.{name}", limits["at_most"], limits.get("goal"))
        for group, figures in groups.items()
        for name, limits in figures.items()
    }


def judged(bars: Mapping[str, Bar], figures: Iterable[Figure], groups: Iterable[str]) -> dict[str, Verdict]:
    """Hold the figures of some groups against their bars."""
    values = {figure.name: figure.value for figure in figures}
    wanted = set(groups)
    return {
        name: Verdict(bar, values.get(name), _word(values.get(name), bar))
        for name, bar in bars.items()
        if name.partition(".")[0] in wanted
    }


def _word(value: float | None, bar: Bar) -> Word:
    if value is None:
        return "NOT MEASURED"
    if value <= bar.at_most:
        return "ok"
    return "ok, within noise" if value <= bar.at_most * NOISE else "MISSED"
