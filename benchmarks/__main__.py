"""``python -m benchmarks [--only GROUP …] [--json] [--check] [--list]``."""

import argparse
import json
import platform
import sys
import tomllib
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.measure import Group

GROUPS = ("resolve", "explain", "register", "lifecycle", "start")
#: How far over its bar a ratio may come out before it counts as missed: machines are noisy.
NOISE = 1.10


def run(name: str) -> Group:
    """Measure one group; imported here, so that one group's imports do not weigh on another's."""
    if name in {"resolve", "explain", "register"}:
        from benchmarks import resolution

        measured: Group = getattr(resolution, name)()
        return measured
    if name == "lifecycle":
        from benchmarks import running

        return running.lifecycle()
    from benchmarks import starting

    return starting.start()


def main() -> int:
    """Measure, print, and with ``--check`` exit 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=GROUPS, help="this group; repeatable")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--check", action="store_true", help="exit 1 when a bar is missed by more than 10 percent")
    parser.add_argument("--list", action="store_true", help="the groups and their bars")
    arguments = parser.parse_args()
    bars = tomllib.loads(Path(__file__).with_name("bars.toml").read_text(encoding="utf-8"))
    if arguments.list:
        for group, measures in bars.items():
            for measure, limits in measures.items():
                print(f"{group}: {measure}: ≤ {limits['bar']:g}")
        return 0
    if problem := peers.install():
        print(f"without peers: {problem}", file=sys.stderr)
    groups = [run(name) for name in arguments.only or GROUPS]
    rows = [row for group in groups for row in _rows(group, bars.get(group.name, {}))]
    if arguments.json:
        print(json.dumps({"python": platform.python_version(), "measures": rows}, indent=1))
    else:
        _print(groups, rows)
    missed = [row for row in rows if row["state"] == "MISSED"]
    return 1 if arguments.check and missed else 0


def _rows(group: Group, bars: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    rows = []
    for measure in {**bars, **group.ratios}:
        limits, ratio = bars.get(measure, {}), group.ratios.get(measure)
        bar = limits.get("bar")
        state = "not measured" if ratio is None else "" if bar is None else _state(ratio, bar)
        rows.append(
            {
                "group": group.name,
                "measure": measure,
                "ratio": ratio,
                "bar": bar,
                "goal": limits.get("goal"),
                "state": state,
            }
        )
    return rows


def _state(ratio: float, bar: float) -> str:
    return "ok" if ratio <= bar else "ok, within noise" if ratio <= bar * NOISE else "MISSED"


def _print(groups: list[Group], rows: list[dict[str, Any]]) -> None:
    for group in groups:
        print(f"\n{group.name}")
        for row in rows:
            if row["group"] == group.name:
                ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
                bar = "" if row["bar"] is None else f"≤ {row['bar']:g}"
                goal = "" if row["goal"] is None else f"(goal {row['goal']:g})"
                print(f"  {row['measure']:45} {ratio:>9} {bar:>8} {row['state']} {goal}".rstrip())
        for line in group.shown:
            print(f"  · {line}")


if __name__ == "__main__":
    sys.exit(main())
