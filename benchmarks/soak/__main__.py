"""``python -m benchmarks.soak NAME [options]``; without a name, the list of them."""

import sys
from importlib import import_module
from pathlib import Path


def main() -> int:
    """Run the soak that is named."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        print("\n".join(names))
        return 0 if len(sys.argv) < 2 else 2
    code: int = import_module(f"benchmarks.soak.{sys.argv[1]}").main(sys.argv[2:])
    return code


if __name__ == "__main__":
    sys.exit(main())
