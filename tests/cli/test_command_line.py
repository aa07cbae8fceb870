"""The command as a process: root options, errors, exit codes, pipes, and what it does not load."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from oneiric.cli._table import COMMANDS, GROUPS

COMMAND = [sys.executable, "-m", "oneiric.cli"]


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("flag", ["--json", "--quiet", "--demo", "--verbose", "--debug"])
def test_root_options_stand_before_or_after_the_command(flag: str, oneiric: Callable[..., Any]) -> None:
    before, after = oneiric(flag, "list"), oneiric("list", flag)

    assert before == after
    assert before.code == 0


@pytest.mark.usefixtures("shop")
def test_root_options_with_values_stand_before_or_after_the_command(
    oneiric: Callable[..., Any], settings: Callable[[str], str]
) -> None:
    path = settings('[domains.shop.selections]\npay = "cash"\n')

    before, after = oneiric("--config", path, "explain", "pay"), oneiric("explain", "pay", "--config", path)

    assert before == after
    assert "→ cash" in before.out


def test_root_options_stand_anywhere_around_a_group(
    oneiric: Callable[..., Any], settings: Callable[[str], str]
) -> None:
    path = settings('[app]\nname = "shop"\n')

    words = (
        ["--config", path, "config", "show"],
        ["config", "--config", path, "show"],
        ["config", "show", "--config", path],
    )
    told = [oneiric(*each) for each in words]

    assert told[0] == told[1] == told[2]
    assert "shop" in told[0].out


def test_a_value_that_looks_like_a_root_option_stays_a_value(oneiric: Callable[..., Any]) -> None:
    done = oneiric("explain", "--domain", "adapter", "--", "--json")

    assert done.out == ""
    assert "--key must be" in done.err


def test_an_imported_module_registers_what_it_brings(oneiric: Callable[..., Any]) -> None:
    Path("my_shop.py").write_text(
        "from oneiric.core.resolution import Candidate\n"
        "def register(resolver):\n"
        "    resolver.register(Candidate(domain='shop', key='till', provider='mine', factory=object))\n"
    )
    try:
        document = json.loads(oneiric("list", "--import", "my_shop", "--domain", "shop", "--json").out)
    finally:
        sys.modules.pop("my_shop", None)
        sys.path.remove(str(Path.cwd()))

    assert [entry["provider"] for entry in document["keys"]] == ["mine"]


ERRORS = {
    "unknown domain": (["list", "--domain", "nope"], 4, "ResolutionError", "there is no domain 'nope'"),
    "unknown key": (["explain", "nope", "--domain", "shop"], 4, "CandidateNotFoundError", "no such key"),
    "near key": (["explain", "pey", "--domain", "shop"], 4, "CandidateNotFoundError", "did you mean 'pay'?"),
    "key of no domain": (["explain", "nope"], 4, "ResolutionError", "no domain has a key 'nope'"),
    "listed key": (["list", "--key", "nope"], 4, "ResolutionError", "no domain has a key 'nope'"),
    "unknown provider": (
        ["explain", "pay", "--why-not", "nope"],
        4,
        "SelectionNotFoundError",
        "has no provider 'nope'",
    ),
    "no key": (["explain"], 2, "ConfigurationError", "no key was named"),
    "two keys": (["explain", "a", "--key", "b"], 2, "ConfigurationError", "not both"),
    "long name": (["explain", "a" * 10_000], 2, "ConfigurationError", "at most 200 characters, not 10000"),
    "unknown command": (["lits"], 2, "UsageError", "No such command 'lits'. Did you mean 'list'?"),
    "unknown option": (["list", "--nope"], 2, "UsageError", "No such option: --nope"),
    "unreadable settings": (["list", "--config", "missing.toml"], 2, "ConfigurationError", "missing.toml"),
    "missing import": (["list", "--import", "no_such_module"], 2, "ConfigurationError", "no_such_module"),
    "unknown demo provider": (["demo", "--provider", "nope"], 4, "SelectionNotFoundError", "no provider 'nope'"),
    "unhealthy demo provider": (["demo", "--provider", "flaky"], 2, "ConfigurationError", "never serves"),
    "demo without swaps": (["demo", "--swaps", "0"], 2, "ConfigurationError", "--swaps must be a number from 1"),
}


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("case", ERRORS)
def test_an_error_is_a_sentence_a_hint_and_an_exit_code(case: str, oneiric: Callable[..., Any]) -> None:
    arguments, code, kind, sentence = ERRORS[case]

    told = oneiric(*arguments)
    data = oneiric(*arguments, "--json")

    error = json.loads(data.out)
    jsonschema.validate(error, json.loads(files("oneiric.cli").joinpath("schemas/error.json").read_text()))
    assert (told.code, data.code) == (code, code)
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert told.err.splitlines()[1].startswith("Try: ")
    assert len(told.err.splitlines()) == 2
    assert sentence in told.err
    assert error["error"]["type"] == kind
    assert sentence in error["error"]["message"]
    assert data.err == ""


@pytest.mark.parametrize("order", ["a:b", "a:1,a:2", ":3"])
def test_a_malformed_stack_order_is_a_usage_error_that_names_the_entry(
    order: str, oneiric: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEIRIC_STACK_ORDER", order)

    done = oneiric("list")

    assert done.code == 2
    assert "ONEIRIC_STACK_ORDER" in done.err
    assert order.rsplit(",", maxsplit=1)[-1] in done.err


def test_an_unknown_settings_key_names_file_line_and_what_was_meant(
    oneiric: Callable[..., Any], settings: Callable[[str], str]
) -> None:
    done = oneiric("list", "--config", settings('[adapters.selection]\ncache = "memory"\n'))

    assert done.code == 2
    assert "oneiric.toml:1" in done.err
    assert "adapters.selections" in done.err


def test_an_unknown_profile_names_the_setting(oneiric: Callable[..., Any]) -> None:
    done = oneiric("list", "--profile", "bogus")

    assert done.code == 2
    assert "profile.name" in done.err
    assert "serverless" in done.err


def test_debug_shows_the_traceback_and_nothing_else_does(oneiric: Callable[..., Any]) -> None:
    assert "Traceback" not in oneiric("explain", "nope").err
    assert "Traceback" in oneiric("explain", "nope", "--debug").err


def test_an_unexpected_exception_is_one_sentence(oneiric: Callable[..., Any]) -> None:
    Path("broken_shop.py").write_text("def register(resolver):\n    raise ValueError('a bug')\n")
    try:
        done = oneiric("list", "--import", "broken_shop", "--json")
    finally:
        sys.modules.pop("broken_shop", None)
        sys.path.remove(str(Path.cwd()))

    assert done.code == 1
    assert "internal error, ValueError: a bug" in json.loads(done.out)["error"]["message"]


def test_no_arguments_is_the_help(oneiric: Callable[..., Any]) -> None:
    bare, asked = oneiric(), oneiric("--help")

    assert bare == asked
    assert bare.code == 0
    assert all(name in bare.out for name in ("demo", "list", "explain", "status", "plugins"))


NAMES = [name for name in COMMANDS if name not in GROUPS] + [
    f"{group} {name}" for group in GROUPS for name in GROUPS[group]
]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_with_the_root_options(name: str, oneiric: Callable[..., Any]) -> None:
    done = oneiric(*name.split(), "--help")

    assert done.code == 0
    assert "--config" in done.out
    assert "\x1b" not in done.out


@pytest.mark.parametrize("name", NAMES)
def test_every_command_publishes_its_schema_and_is_in_the_manual(name: str) -> None:
    schema = json.loads(files("oneiric.cli").joinpath(f"schemas/{name.replace(' ', '-')}.json").read_text())
    manual = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")

    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["title"].startswith(f"oneiric {name} --json")
    assert name.split(maxsplit=1)[0] in manual


@pytest.mark.parametrize("name", NAMES)
def test_every_option_of_a_command_is_in_the_manual(name: str, oneiric: Callable[..., Any]) -> None:
    manual = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")

    offered = set(re.findall(r"--[a-z][a-z-]+", oneiric(*name.split(), "--help").out))

    assert {option for option in offered if option not in manual} <= {"--help"}


@pytest.mark.parametrize("arguments", [["swap", "adapter:cache"], ["retire", "cache"], ["decisions"]], ids=" ".join)
def test_what_asks_a_running_system_loads_neither_an_event_loop_nor_a_server(arguments: list[str]) -> None:
    loaded = loaded_by(*arguments, code=6)

    assert not loaded & {"asyncio", "starlette", "uvicorn", "structlog", "opentelemetry", "apsw", "rich", "yaml"}
    assert "oneiric.runtime.control" in loaded


@pytest.mark.parametrize("arguments", [["status"], ["health"], ["activity"], ["config", "plan"]], ids=" ".join)
def test_what_reports_loads_no_server_and_no_telemetry(arguments: list[str]) -> None:
    loaded = loaded_by(*arguments)

    assert not loaded & {"starlette", "uvicorn", "structlog", "opentelemetry", "rich", "watchfiles"}


def run(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=60, **more)


def test_the_module_and_the_script_are_the_same_command() -> None:
    script = Path(sys.executable).parent / "oneiric"

    called = subprocess.run([script, "--version"], capture_output=True, text=True, check=True, timeout=60)

    assert run("--version").stdout == called.stdout
    assert called.stdout.startswith("oneiric ")
    assert json.loads(run("--version", "--json").stdout).keys() == {"version"}


def loaded_by(*arguments: str, code: int = 0) -> set[str]:
    """Return the top-level modules, and ours, that a call loads."""
    program = (
        "import json, sys\nfrom oneiric.cli import main\n"
        f"code = main({list(arguments)!r})\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)\nsys.exit(code)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, done.stderr
    names = set(json.loads(done.stderr.splitlines()[-1]))
    return {name if name.startswith("oneiric") else name.partition(".")[0] for name in names}


@pytest.mark.parametrize("arguments", [["list"], ["list", "--shadowed"], ["explain", "cache", "--why-not", "redis"]])
def test_listing_and_explaining_without_settings_load_neither_pydantic_nor_rich(arguments: list[str]) -> None:
    loaded = loaded_by(*arguments)

    assert not loaded & {"pydantic", "pydantic_core", "rich", "asyncio", "yaml", "structlog", "oneiric.runtime"}
    assert "oneiric.core.resolution" in loaded  # what was looked for would be seen


def test_help_loads_no_command_and_nothing_below_the_command_line() -> None:
    loaded = loaded_by("--help")

    assert {name for name in loaded if name.startswith("oneiric.")} <= {
        "oneiric.cli",
        "oneiric.cli._app",
        "oneiric.cli._main",
        "oneiric.cli._options",
        "oneiric.cli._output",
        "oneiric.cli._table",
    }
    assert not loaded & {"pydantic", "rich", "asyncio"}


def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*COMMAND, "list", "--shadowed"], stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=60
        )
    finally:
        os.close(writing)

    assert (done.returncode, done.stderr) == (0, "")


def test_colour_is_for_terminals_only() -> None:
    assert "\x1b" not in run("list", "--shadowed").stdout


@pytest.mark.parametrize(("variable", "is_coloured"), [("COLUMNS", True), ("NO_COLOR", False)])
def test_a_terminal_gets_colour_unless_it_says_no(variable: str, is_coloured: bool) -> None:
    outer, inner = os.openpty()
    environment = {**os.environ, "TERM": "xterm", variable: "80"}
    if is_coloured:
        environment.pop("NO_COLOR", None)
    subprocess.run([*COMMAND, "list"], stdout=inner, env=environment, check=True, timeout=60)
    os.close(inner)
    printed = os.read(outer, 65536).decode()
    os.close(outer)

    assert ("\x1b[1m" in printed) is is_coloured


def test_what_is_not_printable_cannot_reach_the_terminal(site: Any, oneiric: Callable[..., Any]) -> None:
    site.install("sly", "[oneiric.catalogs]\nsly\x1b[2J = sly_one\n", {"sly_one/catalog.toml": "schema = 1\n"})

    done = oneiric("plugins")

    assert done.code == 0
    assert "sly\\x1b[2J" in done.out
    assert "\x1b" not in done.out


@pytest.mark.parametrize("arguments", [["demo"], ["demo", "--json"]])
def test_an_interrupt_ends_the_demo_cleanly(arguments: list[str], tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(
        [*COMMAND, *arguments, "--swaps", "10000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as demo:
        while not list(temporary.glob("oneiric-demo-*/cache.sqlite")):  # then it serves
            with suppress(subprocess.TimeoutExpired):
                pytest.fail(f"the demo ended by itself with {demo.wait(timeout=0.05)}")
        demo.send_signal(signal.SIGINT)
        out, err = demo.communicate(timeout=30)

    assert demo.returncode == 130
    assert list(temporary.iterdir()) == []
    assert "Traceback" not in err
    if "--json" in arguments:
        assert json.loads(out) == {"error": {"type": "Interrupted", "message": "interrupted", "hint": None}}
    else:
        assert err == "error: interrupted\n"
