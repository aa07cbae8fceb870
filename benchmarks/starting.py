"""Starting: whole processes, by the CPU time the operating system counted for them."""

import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measure import Group

__all__ = ["start"]

HELLO = """
import typer

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)

@app.command()
def hello(name: str = "world") -> None:
    print(f"hello {name}")

app()
"""
ROUNDS = 12


def start() -> Group:
    """CPU seconds of ``oneiric`` against those of a typer hello world, minimum over interleaved runs."""
    oneiric = str(Path(sysconfig.get_path("scripts")) / "oneiric")
    with tempfile.TemporaryDirectory() as directory:
        hello = Path(directory) / "hello.py"
        hello.write_text(HELLO, encoding="utf-8")
        heavy = Path(directory) / "heavy.py"
        heavy.write_text("import pydantic_settings, yaml\n" + HELLO, encoding="utf-8")
        config = Path(directory) / "oneiric.toml"
        config.write_text('[adapters.selections]\ncache = "sqlite"\n', encoding="utf-8")
        python = sys.executable
        commands = {
            "pass": [python, "-c", "pass"],
            "dataclasses": [python, "-c", "import dataclasses"],
            "core": [python, "-c", "import oneiric.core"],
            "resolution": [python, "-c", "import oneiric.core.resolution"],
            "hello": [python, str(hello)],
            "hello help": [python, str(hello), "--help"],
            "heavy": [python, str(heavy)],
            "help": [oneiric, "--help"],
            "list": [oneiric, "list"],
            "explain": [oneiric, "explain", "cache"],
            "list settings": [oneiric, "--config", str(config), "list"],
        }
        best = _best(commands)
    return Group(
        "start",
        {
            "import oneiric.core": best["core"] / best["dataclasses"],
            "oneiric --help": best["help"] / best["hello help"],
            "oneiric list": best["list"] / best["hello"],
            "oneiric explain": best["explain"] / best["hello"],
            "oneiric list, with settings": best["list settings"] / best["heavy"],
        },
        [
            f"python -c pass: {best['pass'] * 1000:.0f} ms; typer hello: {best['hello'] / best['pass']:.1f}× that; "
            f"import oneiric.core.resolution: {best['resolution'] / best['pass']:.1f}×"
        ],
    )


def _best(commands: Mapping[str, Sequence[str]]) -> dict[str, float]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ONEIRIC_")}
    paths = [path for path in sys.path if path.endswith(".peers")]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    best = dict.fromkeys(commands, float("inf"))
    for _ in range(ROUNDS):
        for name, command in commands.items():
            before = os.times()
            subprocess.run(command, env=environment, capture_output=True, check=True)
            after = os.times()
            used = after.children_user + after.children_system - before.children_user - before.children_system
            best[name] = min(best[name], used)
    return best
