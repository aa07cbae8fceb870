"""``python -m benchmarks.soak NAME [arguments]``: run one long figure; without a name, list them."""

import sys
from importlib import import_module
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Run the soak that is named."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    if not arguments:
        print("\n".join(names))
        return 0
    name, *rest = arguments
    if name not in names:
        print(f"no soak {name!r} (there are: {', '.join(names)})", file=sys.stderr)
        return 2
    status: int = import_module(f"benchmarks.soak.{name}").main(rest)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
