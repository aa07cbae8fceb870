"""Start of the command, against the smallest program that uses the same command-line library."""

import sys
import tempfile
from pathlib import Path

from benchmarks._processes import in_process, python
from benchmarks._timing import Contest, Figure

ROUNDS = 20

HELLO = """\
import typer

app = typer.Typer()


@app.command()
def hello(name: str = "world") -> None:
    print(f"hello {name}")


if __name__ == "__main__":
    app()
"""
#: The same, with nothing that makes the library load rich.
PLAIN = HELLO.replace("typer.Typer()", "typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)")
SETTINGS = """\
[app]
name = "shop"

[adapters.selections]
cache = "sqlite"
"""


def measure(rounds: int) -> list[Figure]:
    """Measure the group."""
    with tempfile.TemporaryDirectory() as directory:
        return _measured(Path(directory), rounds)


def _measured(directory: Path, rounds: int) -> list[Figure]:
    bare, configured = directory / "bare", directory / "configured"
    for place in (bare, configured):
        place.mkdir()
    (directory / "hello.py").write_text(HELLO, encoding="utf-8")
    (directory / "hello_settings.py").write_text(f"import pydantic_settings\nimport yaml\n{HELLO}", encoding="utf-8")
    (directory / "hello_plain.py").write_text(PLAIN, encoding="utf-8")
    (configured / "settings").mkdir()
    (configured / "settings" / "oneiric.toml").write_text(SETTINGS, encoding="utf-8")
    contest = Contest("start", rounds)
    oneiric = str(Path(sys.executable).parent / "oneiric")
    hello = python(str(directory / "hello.py"))

    def floor(name: str, command: list[str], label: str) -> None:
        contest.add_timed(name, in_process(command, bare), label=label, who="floor", floor=name, number=1)

    def ours(name: str, arguments: list[str], against: str, where: Path = bare) -> None:
        label = " ".join(["oneiric", *arguments]) + (" (with settings)" if where is configured else "")
        named = ["--config", "settings"] if where is configured else []  # nothing is looked for that nobody named
        contest.add_timed(name, in_process([oneiric, *arguments, *named], where), label=label, floor=against, number=1)

    floor("python", python("-c", "pass"), "python -c pass")
    floor("hello_help", [*hello, "--help"], "typer hello --help")
    floor("hello", hello, "typer hello")
    plain = python(str(directory / "hello_plain.py"))
    floor("plain_help", [*plain, "--help"], "typer hello --help, without rich")
    floor("plain", plain, "typer hello, without rich")
    floor("hello_settings", python(str(directory / "hello_settings.py")), "typer hello, pydantic_settings and yaml")
    explain = ["explain", "cache", "--domain", "adapter"]
    ours("help", ["--help"], "hello_help")
    ours("list", ["list"], "hello")
    ours("explain", explain, "hello")
    ours("list_settings", ["list"], "hello_settings", configured)
    ours("explain_settings", explain, "hello_settings", configured)
    contest.run()
    return [
        *contest.figures(),
        contest.quotient("help_over_plain", "oneiric --help over a hello without rich", "help", "plain_help"),
        contest.quotient("list_over_plain", "oneiric list over a hello without rich", "list", "plain"),
    ]
