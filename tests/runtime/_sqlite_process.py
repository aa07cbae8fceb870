"""SQLite in another process: a lock it holds, and statements of a program that knows nothing of the store.

Never in this one: two SQLite libraries in one process do not see each other's locks.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

__all__ = ["elsewhere", "locked"]

_RUN = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    rows = connection.execute(statement).fetchall()
print(rows)
"""
_HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
if sys.argv[2] == "whole":
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("BEGIN EXCLUSIVE")
else:
    connection.execute("BEGIN IMMEDIATE")
connection.execute("CREATE TABLE held (id INTEGER)")
print("held", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
connection.close()
"""


def elsewhere(path: Path, *statements: str) -> str:
    """Run statements in another process and return the rows of the last one, as they print."""
    command = [sys.executable, "-c", _RUN, str(path), *statements]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()


@contextmanager
def locked(path: Path, what: Literal["whole", "writing"] = "whole") -> Iterator[None]:
    """Let another process hold the whole file for itself, or only the right to write."""
    command = [sys.executable, "-c", _HOLD, str(path), what]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield
        holder.stdin.close()
        holder.wait(30)
