"""The ``oneiric`` command: see what is active and why, and watch it being swapped under load.

``main`` is the entry point; ``python -m oneiric.cli`` is the same. Importing this package loads nothing: the
parser is loaded by `main`, and each command's module when that command is called.
"""

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; nothing is raised, whatever happens.

    Args:
        arguments: What stands after ``oneiric``; by default what the process was started with.

    Returns:
        0 ok, 1 failed, 2 usage, 3 unhealthy, 4 not found, 5 signature, 6 nothing running, 130 interrupted.
    """
    from oneiric.cli._main import run  # noqa: PLC0415 - whoever only imports the package pays for no parser

    return run(arguments)
