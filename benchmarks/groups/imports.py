"""Import of the core, against an import that every program does sooner or later."""

import tempfile
from pathlib import Path

from benchmarks._processes import in_process, python
from benchmarks._timing import Contest, Figure

ROUNDS = 30


def measure(rounds: int) -> list[Figure]:
    """Measure the group."""
    contest = Contest("imports", rounds)
    here = Path(tempfile.gettempdir())

    def add(name: str, code: str) -> None:
        who = "floor" if name in {"floor", "nothing"} else "ours"
        contest.add_timed(name, in_process(python("-c", code), here), label=code, who=who, number=1)  # type: ignore[arg-type]  # one of the two words

    add("nothing", "pass")
    add("floor", "import dataclasses")
    add("core", "import oneiric.core")
    add("resolution", "import oneiric.core.resolution")
    add("lifecycle", "import oneiric.core.lifecycle")
    add("asyncio", "import asyncio")
    return contest.run().figures()
