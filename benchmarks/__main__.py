"""``python -m benchmarks``: ours, the floor and the peers, measured in turns, as ratios to the floor."""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence

from benchmarks._bars import judged, read_bars
from benchmarks._environment import ROOT, Environment, prepared
from benchmarks._report import document, machine, table
from benchmarks._timing import Figure
from benchmarks.groups import GROUPS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", action="extend", metavar="GROUP", help="measure these groups")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--check", action="store_true", help="exit 1 when a bar is missed by more than 10 percent")
    parser.add_argument("--list", action="store_true", help="list the groups and their bars")
    parser.add_argument("--rounds", type=int, help="rounds per case; by default what each group needs")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and hold against the bars."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.list:
        _print_groups()
        return 0
    groups = list(dict.fromkeys(options.only or GROUPS))
    if unknown := [name for name in groups if name not in GROUPS]:
        parser.error(f"no group {unknown[0]!r} (there are: {', '.join(GROUPS)})")
    environment = prepared()
    if environment.problem is not None:
        print(f"Without the peers: {environment.problem}. Ours and the floor are measured.", file=sys.stderr)
    elif not options.json:
        print(f"{machine()}; ratios to the floor measured in the same turns, fastest round of each")
    bars = read_bars()
    figures: list[Figure] = []
    missing: list[str] = []
    for name in groups:
        measured, missing = _measured(name, environment, options.rounds)
        figures += measured
        if not options.json:
            print("\n" + table(f"{name}: {GROUPS[name]}", measured, judged(bars, measured, [name])), flush=True)
    verdicts = judged(bars, figures, groups)
    if options.json:
        print(json.dumps(document(figures, verdicts, missing)))
    missed = [verdict for verdict in verdicts.values() if not verdict.held]
    if options.check and not options.json:
        print(f"\n{len(verdicts) - len(missed)} of {len(verdicts)} bars hold.")
    if options.check:
        for verdict in missed:
            value = "-" if verdict.value is None else f"{verdict.value:.2f}"
            print(f"{verdict.word}: {verdict.bar.name} is {value}, at most {verdict.bar.at_most:g}", file=sys.stderr)
    return int(options.check and bool(missed))


def _print_groups() -> None:
    bars = read_bars()
    for group, what in GROUPS.items():
        print(f"{group}: {what}")
        for name, bar in bars.items():
            if name.startswith(f"{group}."):
                goal = "" if bar.goal is None else f", goal {bar.goal:g}"
                print(f"  {name} ≤ {bar.at_most:g}{goal}")


def _measured(group: str, environment: Environment, rounds: int | None) -> tuple[list[Figure], list[str]]:
    """Measure a group in a process of its own, so that no group pays for another's imports and objects."""
    command = [environment.python, "-m", "benchmarks.groups", group, *([] if rounds is None else [str(rounds)])]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the group {group!r} ended with status {done.returncode}")
    answer = json.loads(done.stdout)
    return [Figure(**figure) for figure in answer["figures"]], answer["missing"]


if __name__ == "__main__":
    sys.exit(main())
