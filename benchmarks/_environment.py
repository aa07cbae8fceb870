"""The environment the groups run in: the workspace's packages and the peers, made from `benchmarks/pyproject.toml`.

It is a virtual environment of its own, ``benchmarks/.venv``: the development environment never sees a peer.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["ROOT", "Environment", "prepared"]

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent
_VENV: Final = HERE / ".venv"
_SYNC_SECONDS: Final = 300


@dataclass(frozen=True, slots=True)
class Environment:
    """Where the groups run.

    Attributes:
        python: The interpreter.
        problem: Why the peers are not there, or None.
    """

    python: str
    problem: str | None = None


def prepared() -> Environment:
    """Bring ``benchmarks/.venv`` up to date; without it the groups run here, and the peers are left out."""
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        return Environment(sys.executable, "uv is not on PATH")
    # Whoever started us may have named their own environment: it must not become this one.
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    environment["UV_PROJECT_ENVIRONMENT"] = str(_VENV)
    command = [uv, "sync", "--quiet", "--project", str(HERE), "--python", sys.executable]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=_SYNC_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Environment(sys.executable, str(error))
    if done.returncode:
        return Environment(sys.executable, (done.stderr.strip().splitlines() or ["uv sync failed"])[-1])
    return Environment(str(_VENV / "bin" / "python"))
