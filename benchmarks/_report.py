"""What a run prints: a table a group for people, one document for programs."""

import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks._bars import Bar, Verdict
from benchmarks._timing import Figure

__all__ = ["document", "machine", "table"]


def machine() -> str:
    """Describe what was measured on, in general terms."""
    return (
        f"{os.cpu_count()} cores, {platform.python_implementation()} {platform.python_version()}, {platform.system()}"
    )


def table(title: str, figures: Sequence[Figure], verdicts: Mapping[str, Verdict]) -> str:
    """Render one group: its figures, each with its bar where there is one."""
    rows = [_row(figure, verdicts.get(figure.name)) for figure in figures]
    named = {figure.name for figure in figures}
    group = figures[0].name.partition(".")[0] + "."
    rows += [
        (name.removeprefix(group), "", "", _limit(verdict.bar), verdict.word)
        for name, verdict in verdicts.items()
        if name.startswith(group) and name not in named
    ]
    widths = [max(len(row[place]) for row in rows) for place in range(5)]
    lines = [title]
    for label, seconds, value, limit, word in rows:
        line = f"  {label:{widths[0]}}  {seconds:>{widths[1]}}  {value:>{widths[2]}}  {limit:{widths[3]}}  {word}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def _row(figure: Figure, verdict: Verdict | None) -> tuple[str, str, str, str, str]:
    label = figure.label if figure.who == "ours" else f"({figure.who}) {figure.label}"
    limit, word = ("", "") if verdict is None else (_limit(verdict.bar), verdict.word)
    return label, _duration(figure.seconds), _value(figure), limit, word


def _value(figure: Figure) -> str:
    if figure.unit == "×":
        return f"{figure.value:.2f}×"
    return f"{figure.value:,.2f} {figure.unit}" if figure.unit == "ms" else f"{figure.value:,.0f} {figure.unit}"


def _limit(bar: Bar) -> str:
    return f"≤ {bar.at_most:g}" + ("" if bar.goal is None else f", goal {bar.goal:g}")


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for unit, size in (("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.2f} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def document(figures: Sequence[Figure], verdicts: Mapping[str, Verdict], missing: Sequence[str]) -> dict[str, Any]:
    """Return everything as plain data."""
    return {
        "machine": machine(),
        "missing_peers": list(missing),
        "figures": [figure.as_dict() for figure in figures],
        "bars": [verdict.as_dict() for verdict in verdicts.values()],
    }
