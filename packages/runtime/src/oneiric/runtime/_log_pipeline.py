"""The pipeline every line goes through: context, names, service, trace, secrets, form, sinks. It never raises."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from oneiric.runtime._log_line import as_json, as_text, exception_text, now_iso, plain, trace_context
from oneiric.runtime._log_sinks import Sink

__all__ = ["SEVERITY", "LibraryHandler", "Output", "Pipeline", "Redact"]

#: structlog's method → the level in the line.
_LEVEL_OF: Final = {
    "warn": "warning", "err": "error", "exception": "error", "fatal": "critical", "msg": "info", "log": "info"
}  # fmt: skip
SEVERITY: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}

_LONGEST_STACK: Final = 16_384

type Redact = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A sink, and what it is given.

    Attributes:
        sink: Takes the text.
        severity: Least severe level it takes.
        as_json: Whether in JSON, or as text for people.
        colours: Whether the text is coloured.
    """

    sink: Sink
    severity: int
    as_json: bool
    colours: bool = False


class Pipeline:
    """Turns what was logged into lines and hands them to sinks.

    Args:
        outputs: Where lines go.
        service: Fields of every line.
        include_trace_context: Whether lines name the span they were logged in.
        redact: Take known secrets out of a line's plain data; more may be appended while it runs.
    """

    __slots__ = ("_busy", "_include_trace_context", "_outputs", "_service", "lowest", "redact", "withheld")

    def __init__(
        self,
        outputs: tuple[Output, ...],
        *,
        service: Mapping[str, str],
        include_trace_context: bool,
        redact: tuple[Redact, ...] = (),
    ) -> None:
        self._outputs = outputs
        self._service = plain(service)
        self._include_trace_context = include_trace_context
        self.redact = redact
        self.lowest = min((output.severity for output in outputs), default=SEVERITY["critical"])
        #: Lines that could not be made safe to write.
        self.withheld = 0
        self._busy = threading.local()

    @property
    def sinks(self) -> tuple[Sink, ...]:
        """Where lines go."""
        return tuple(output.sink for output in self._outputs)

    def write(self, method: str, fields: Mapping[str, Any]) -> None:
        """Write a line with these fields; ``event`` is its message."""
        level = _LEVEL_OF.get(method, method)
        severity = SEVERITY.get(level, SEVERITY["info"])
        # A redactor or a sink that logs must not be asked about its own line.
        if severity < self.lowest or getattr(self._busy, "now", False):
            return
        self._busy.now = True
        try:
            self._hand_out(self._line(level, fields), severity)
        finally:
            self._busy.now = False

    def _line(self, level: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return self._made(level, fields)
        except Exception as error:  # noqa: BLE001 - a line that cannot be made safe is withheld, and who logs goes on
            self.withheld += 1
            kind = type(error).__name__
            return {"timestamp": now_iso(time.time()), "level": "error", "event": "log-line-withheld", "reason": kind}

    def _made(self, level: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        rest = dict(fields)
        at, exc_info, stack = rest.pop("timestamp", None), rest.pop("exc_info", None), rest.pop("stack_info", None)
        rest.pop("level", None)
        line = {
            "timestamp": at if isinstance(at, str) else now_iso(time.time()),
            "level": level,
            "event": "",
            **self._service,
        }
        if self._include_trace_context:
            line |= trace_context()
        line |= plain(rest)
        exception = None if exc_info is None else exception_text(exc_info)
        if exception is not None:
            line["exception"] = exception
        if isinstance(stack, str):
            line["stack"] = stack[-_LONGEST_STACK:]
        for redact in self.redact:
            line = redact(line)
        return line

    def _hand_out(self, line: dict[str, Any], severity: int) -> None:
        texts: dict[tuple[bool, bool], str] = {}
        for output in self._outputs:
            if severity >= output.severity:
                form = (output.as_json, output.colours)
                if form not in texts:
                    texts[form] = as_json(line) if output.as_json else as_text(line, colours=output.colours)
                output.sink.write(texts[form])

    def close(self, seconds: float) -> None:
        """Deliver what waits, for at most so long in each sink, and let go of everything."""
        for sink in self.sinks:
            sink.close(seconds)


class LibraryHandler(logging.Handler):
    """Hands the records of libraries that use `logging` to a pipeline.

    Args:
        write: Takes a method name and fields, as `Pipeline.write` does.
    """

    def __init__(self, write: Callable[[str, Mapping[str, Any]], None]) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record as a line."""
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - arguments that do not fit the message: a mistake of the library's
            message = f"{record.msg} {record.args!r}"
        fields: dict[str, Any] = {"event": message, "logger": record.name, "timestamp": now_iso(record.created)}
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        if record.stack_info:
            fields["stack_info"] = record.stack_info
        self._write(_level_name(record.levelno), fields)


def _level_name(severity: int) -> str:
    return next((name for name, least in reversed(SEVERITY.items()) if severity >= least), "debug")
