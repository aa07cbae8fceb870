"""What a log line may hold: never a secret, never a second line, never more than a bounded amount."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator, Mapping
from io import StringIO
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from oneiric.core import Secret
from oneiric.runtime._log_line import as_json, as_text, plain
from oneiric.runtime._secret_redaction import REDACTOR
from oneiric.runtime.logging import (
    add_redaction,
    bind_log_context,
    clear_log_context,
    configure_logging,
    get_logger,
    scoped_log_context,
    shutdown_logging,
)
from oneiric.runtime.settings import AppSettings, LoggingSettings, LoggingSinkSettings
from oneiric.runtime.telemetry import setup_otel, span

CANARY = "S3CR3T-2f6c1a"
HOSTILE = 'x\n{"event": "forged"}\r\x1b[2J\x1b]0;title\x07\u2028\u202e\x00\x7f\x9b31m\ud800'


@pytest.fixture(autouse=True)
def unconfigured() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    clear_log_context()
    shutdown_logging()
    structlog.reset_defaults()


def logged(stream: StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def to_json(**fields: Any) -> StringIO:
    stream = StringIO()
    assert configure_logging(LoggingSettings(emit_json=True, **fields), stream=stream, route_libraries=True)
    return stream


class Hostile:
    def __repr__(self) -> str:
        return f"Hostile({HOSTILE})"


class Broken:
    def __repr__(self) -> str:
        raise KeyError("mine")


@pytest.mark.parametrize("emit_json", [True, False])
def test_a_record_is_one_physical_line_whatever_it_holds(emit_json: bool) -> None:
    stream = StringIO()
    configure_logging(LoggingSettings(emit_json=emit_json), stream=stream)
    log = get_logger(HOSTILE)
    log.info(
        HOSTILE,
        **{
            HOSTILE: HOSTILE,
            "list": [HOSTILE],
            "object": Hostile(),
            "bytes": HOSTILE.encode("utf-16", "surrogatepass"),
        },
    )
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.isascii() or text.rstrip("\n").isprintable()
    assert all(character.isprintable() for character in text.rstrip("\n"))


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
NESTED = st.recursive(PLAIN, lambda below: st.lists(below) | st.dictionaries(st.text() | st.integers(), below))


@settings(max_examples=60)
@given(st.dictionaries(st.text(), NESTED))
def test_anything_is_a_line_in_either_form(fields: Mapping[str, Any]) -> None:
    line = plain(fields)
    assert isinstance(json.loads(as_json(line)), dict)
    for text in (as_json(line), as_text({**line, "exception": "", "stack": ""})):
        assert text.isprintable()


def test_a_traceback_cannot_pass_for_a_record() -> None:
    stream = StringIO()
    configure_logging(LoggingSettings(emit_json=False), stream=stream)
    try:
        raise ValueError("boom\n2026-01-01T00:00:00Z info     forged")
    except ValueError:
        get_logger("a").exception("failed")
    first, *others = stream.getvalue().splitlines()
    assert "failed" in first
    assert others
    assert all(line.startswith("  | ") for line in others)
    assert any("ValueError: boom" in line for line in others)


def test_an_exception_is_a_field_of_its_json_line() -> None:
    stream = to_json()
    try:
        raise ValueError("boom")
    except ValueError as error:
        get_logger("a").exception("one")
        get_logger("a").error("two", exc_info=error)
    get_logger("a").error("three", exc_info=True)
    one, two, three = logged(stream)
    assert one["exception"].endswith("ValueError: boom")
    assert two["exception"].startswith("Traceback")
    assert one["level"] == "error"
    assert "exception" not in three


@pytest.mark.parametrize(
    "name",
    ["password", "db_password", "apiToken", "API-Key", "Authorization", "clientSecret", "set_cookie", "private-key"],
)
def test_a_name_that_says_secret_is_masked(name: str) -> None:
    stream = to_json()
    get_logger("a").info("one", **{name: CANARY, "deep": [{"er": {name: CANARY}}], "many": {name: [CANARY]}})
    assert CANARY not in stream.getvalue()


@pytest.mark.parametrize("name", ["max_tokens", "secret_id", "secret_ids", "keyboard", "author", "passing"])
def test_a_name_that_only_looks_alike_is_not(name: str) -> None:
    stream = to_json()
    get_logger("a").info("one", **{name: "seen"})
    assert logged(stream)[0][name] == "seen"


class Pool:
    def __repr__(self) -> str:
        return f"Pool(size=3, password='{CANARY}', url=redis://me:{CANARY}@host/0)"


@pytest.mark.parametrize(
    "value",
    [
        Secret(CANARY),
        f"redis://me:{CANARY}@host/0",
        f"postgresql+psycopg://:{CANARY}@host/db",
        f"Authorization: Bearer {CANARY}",
        Pool(),
        [Pool()],
        ValueError(f"cannot reach https://u:{CANARY}@host"),
    ],
)
def test_credentials_are_masked_where_they_can_be_recognised(value: object) -> None:
    stream = to_json()
    get_logger("a").info("one", value=value)
    try:
        raise ValueError(f"amqp://u:{CANARY}@host is down")
    except ValueError:
        get_logger("a").exception("two")
    assert CANARY not in stream.getvalue()
    assert len(logged(stream)) == 2


def test_known_secrets_are_masked_by_value_wherever_they_stand() -> None:
    def redact(value: Any) -> Any:
        return json.loads(json.dumps(value).replace(CANARY, "***"))

    stream = to_json()
    remove = add_redaction(redact)
    log = get_logger("a")
    log.info(f"message {CANARY}", plain=CANARY, deep=[{"er": f"x{CANARY}y"}], **{f"name {CANARY}": 1})
    logging.getLogger("library").warning("%s", CANARY)
    try:
        raise ValueError(CANARY)
    except ValueError:
        log.exception("failed")
    assert CANARY not in stream.getvalue()
    remove()
    log.info(CANARY)
    assert CANARY in stream.getvalue()


def test_secrets_the_process_knows_of_are_masked_also_where_a_text_is_cut() -> None:
    secret = "S3CR3T-of-logging-" + "0123456789" * 3
    REDACTOR.add(Secret(secret))
    stream = to_json()
    for before in range(8150, 8200, 7):
        get_logger("a").info("x" * before + secret + "y" * 100)
    try:
        raise ValueError("x" * 4000 + secret + "y" * 12_280 + secret)
    except ValueError:
        get_logger("a").exception(secret)
    assert "S3CR3T" not in stream.getvalue()
    assert "0123456789" not in stream.getvalue()


def test_a_redactor_that_fails_withholds_the_line_and_one_that_logs_ends() -> None:
    log = get_logger("a")

    def failing(line: Any) -> Any:
        raise KeyError(CANARY)

    stream = to_json()
    remove = add_redaction(failing)
    log.info(CANARY)
    remove()

    def logging_itself(line: Any) -> Any:
        log.info("recursion")
        return line

    add_redaction(logging_itself)
    log.info("two")
    withheld, two = logged(stream)
    assert (withheld["event"], withheld["reason"]) == ("log-line-withheld", "KeyError")
    assert two["event"] == "two"
    assert CANARY not in stream.getvalue()


def test_a_line_is_bounded() -> None:
    stream = to_json()
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    circle: dict[str, Any] = {}
    circle["me"] = circle
    get_logger("a").info(
        "x" * 10**6, many=list(range(10**5)), deep=deep, circle=circle, huge=10**10_000, odd=[float("nan"), Broken()],
        **{"n" * 5000: 1},
    )  # fmt: skip
    (line,) = logged(stream)
    assert len(stream.getvalue()) < 50_000
    assert line["odd"] == ["nan", "<Broken whose repr raised KeyError>"]


def test_tags_have_the_names_that_spans_have() -> None:
    stream = to_json()
    get_logger("a").info(
        "one", domain="d", key="k", provider="p", workflow="w", run_id="r", node="n", event_topic="t",
        event_handler="h", operation="o", adapter="a", category="c", other=1,
    )  # fmt: skip
    names = {name for name in logged(stream)[0] if name.startswith("oneiric.")}
    assert names == {
        "oneiric.domain", "oneiric.key", "oneiric.provider", "oneiric.workflow", "oneiric.run_id", "oneiric.node",
        "oneiric.event.topic", "oneiric.event.handler", "oneiric.operation", "oneiric.adapter", "oneiric.category",
    }  # fmt: skip
    assert logged(stream)[0]["other"] == 1


def test_lines_name_the_service_and_its_version() -> None:
    stream = StringIO()
    configured = LoggingSettings(emit_json=True, service_name="orders", release="1.2")
    configure_logging(configured, app=AppSettings(environment="prod"), stream=stream)
    get_logger("a").info("one")
    (line,) = logged(stream)
    assert (line["service.name"], line["service.version"], line["deployment.environment"]) == ("orders", "1.2", "prod")


@pytest.mark.parametrize("include", [True, False])
def test_lines_name_the_span_they_are_logged_in(include: bool) -> None:
    stream = to_json(include_trace_context=include)
    with setup_otel(environ={}), span("workflow.run"):
        from opentelemetry import trace  # noqa: PLC0415 - of an extra

        context = trace.get_current_span().get_span_context()
        get_logger("a").info("in")
    get_logger("a").info("out")
    inside, outside = logged(stream)
    expected = (f"{context.trace_id:032x}", f"{context.span_id:016x}") if include else (None, None)
    assert (inside.get("trace_id"), inside.get("span_id")) == expected
    assert "trace_id" not in outside


def test_the_context_is_bound_scoped_and_cleared() -> None:
    stream = to_json()
    log = get_logger("a")
    bind_log_context(run_id="r1", tenant="acme")
    with scoped_log_context(run_id="r2"):
        log.info("inside")
    log.info("outside")
    clear_log_context("run_id")
    log.info("one cleared")
    clear_log_context()
    log.info("all cleared")
    said = [(line.get("oneiric.run_id"), line.get("oneiric.tenant")) for line in logged(stream)]
    assert said == [("r2", "acme"), ("r1", "acme"), (None, "acme"), (None, None)]


def test_records_of_libraries_are_lines_too() -> None:
    stream = StringIO()
    configure_logging(LoggingSettings(emit_json=True), stream=stream, route_libraries=True)
    library = logging.getLogger("some.library")
    library.info("%s of %d", "one", 2)
    library.debug("not this")
    # Given by hand: pytest's own handler, which hears the logger too, makes an error of it.
    logging.getLogger().handlers[-1].emit(logging.LogRecord("some.library", 30, "", 1, "broken %d", ("x",), None))
    try:
        raise ValueError("boom")
    except ValueError:
        library.exception("failed", stack_info=True)
    one, broken, failed = logged(stream)
    assert (one["event"], one["logger"], one["level"]) == ("one of 2", "some.library", "info")
    assert "broken" in broken["event"]
    assert failed["exception"].endswith("ValueError: boom")
    assert failed["stack"].startswith("Stack")
    shutdown_logging()
    library.warning("later")
    assert len(logged(stream)) == 3


def test_records_of_libraries_are_left_to_a_host_that_takes_them() -> None:
    """The root logger has a handler here: pytest's own."""
    level = logging.getLogger().level
    configure_logging(LoggingSettings(emit_json=True), stream=(stream := StringIO()))
    logging.getLogger("library").error("one")
    assert stream.getvalue() == ""
    assert logging.getLogger().level == level


def test_what_uvicorn_says_is_a_line() -> None:
    code = """
import asyncio, uvicorn
from oneiric.runtime._secret_redaction import REDACTOR
from oneiric.runtime.logging import configure_logging
configure_logging()
async def main():
    server = uvicorn.Server(uvicorn.Config(lambda *_: None, port=0, log_config=None, lifespan="off"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    server.should_exit = True
    await serving
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert "uvicorn.error" in {json.loads(line)["logger"] for line in done.stderr.splitlines()}


def test_each_sink_has_its_level() -> None:
    out = StringIO()
    sinks = (LoggingSinkSettings(target="stderr"), LoggingSinkSettings(target="stderr", level="ERROR"))
    configure_logging(LoggingSettings(emit_json=True, sinks=sinks), stream=out)
    get_logger("a").info("once")
    get_logger("a").error("twice")
    get_logger("a").debug("never")
    assert [line["event"] for line in logged(out)] == ["once", "twice", "twice"]


def test_a_logger_made_before_follows_every_configuration() -> None:
    log = get_logger("early")
    first = to_json(level="ERROR")
    log.info("unseen")
    shutdown_logging()
    second = to_json(level="DEBUG")
    log.debug("seen")
    assert (first.getvalue(), logged(second)[0]["event"]) == ("", "seen")


def test_stdout_is_written_to_only_where_a_sink_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LoggingSettings(emit_json=True, sinks=(LoggingSinkSettings(target="stdout"),)))
    get_logger("a").info("one")
    captured = capsys.readouterr()
    assert json.loads(captured.out)["event"] == "one"
    assert captured.err == ""
