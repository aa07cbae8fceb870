"""``python -m benchmarks.groups NAME [ROUNDS]``: measure one group in this process, as JSON on stdout."""

import json
import sys

from benchmarks import _peers
from benchmarks.groups import measure

if __name__ == "__main__":
    name, *rounds = sys.argv[1:]
    figures = measure(name, int(rounds[0]) if rounds else None)
    json.dump({"missing": _peers.missing(), "figures": [figure.as_dict() for figure in figures]}, sys.stdout)
