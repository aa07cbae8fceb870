"""The log: one line per event, on stderr unless settings say otherwise, because stdout belongs to results.

`configure_logging` sets structlog up once, unless the host application has set it up already, and routes the records
of libraries that use the standard `logging` the same way. A line is one physical line whatever was logged; what is
known as a secret, by its name or its value, is masked. structlog is imported when the first of these functions is
called, not with this module.
"""

import atexit
import logging
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, TextIO

from oneiric.core import events
from oneiric.core.errors import ConfigurationError
from oneiric.runtime._log_http import HttpSink
from oneiric.runtime._log_line import now_iso
from oneiric.runtime._log_pipeline import SEVERITY, LibraryHandler, Output, Pipeline, Redact
from oneiric.runtime._log_sinks import FileSink, Sink, StreamSink, status_of
from oneiric.runtime._secret_redaction import REDACTOR
from oneiric.runtime._telemetry_spans import decision_id
from oneiric.runtime.settings import AppSettings, LoggingSettings, LoggingSinkSettings

__all__ = [
    "add_redaction",
    "bind_log_context",
    "clear_log_context",
    "configure_logging",
    "get_logger",
    "log_event",
    "logging_status",
    "scoped_log_context",
    "shutdown_logging",
]

#: Event → the level, the message (as published), and the fields that are written beside the slot.
_WRITTEN: Final[Mapping[type, tuple[str, str, tuple[str, ...]]]] = {
    events.Registered: ("debug", "registered", ("revision",)),
    events.Withdrawn: ("info", "withdrawn", ("revision",)),
    events.WinnerChanged: ("debug", "winner-changed", ("revision", "before", "after")),
    events.Bound: ("info", "swap-complete", ("generation", "previous", "in_flight", "revision")),
    events.SwapFailed: ("error", "swap-failed", ("step", "reason", "rolled_back", "revision")),
    events.HookFailed: ("warning", "hook-failed", ("generation", "hook", "reason")),
    events.StepHung: ("warning", "step-hung", ("generation", "step", "seconds")),
    events.DrainTimedOut: ("warning", "drain-timed-out", ("generation", "in_flight", "forced")),
    events.CleanedUp: ("debug", "cleaned-up", ("generation",)),
    events.CleanupFailed: ("warning", "swap-cleanup-failed", ("generation", "reason")),
    events.Retired: ("info", "retired", ("generation",)),
}
_LIFECYCLE: Final = "oneiric.lifecycle"

_pipeline: Pipeline | None = None
_handler: LibraryHandler | None = None
_root_level: int = logging.WARNING
#: Redactions that were added before or while the log is configured.
_redactions: tuple[Redact, ...] = ()


def configure_logging(
    settings: LoggingSettings | None = None,
    *,
    app: AppSettings | None = None,
    stream: TextIO | None = None,
    redact: Redact | None = None,
    route_libraries: bool | None = None,
) -> bool:
    """Set the log up for this process, if nobody has.

    Args:
        settings: Level, form and sinks; by default the defaults.
        app: Its name and environment stand in every line.
        stream: Where lines for stderr go; by default stderr, as it is when a line is written.
        redact: Changes the plain data of a line, as `add_redaction` says, after the process's `REDACTOR` has.
        route_libraries: Whether records of the standard `logging` become lines too; by default where its root logger
            has no handler yet.

    Returns:
        True if it was set up now, False if the process had done so before; that is left alone.

    Raises:
        ConfigurationError: A sink cannot be opened.
    """
    import structlog  # noqa: PLC0415 - whoever logs nothing never loads it

    global _pipeline  # noqa: PLW0603 - structlog is configured once for the process, and so is this
    if structlog.is_configured():
        return False
    shutdown_logging()
    settings, app = settings or LoggingSettings(), app or AppSettings()
    if redact is not None:
        add_redaction(redact)
    outputs = _outputs(settings, (settings.level or ("DEBUG" if app.debug else "INFO")).lower(), stream)
    _pipeline = Pipeline(
        outputs,
        service=_service(settings, app),
        include_trace_context=settings.include_trace_context,
        redact=_redacting(),
    )
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, _write],
        wrapper_class=structlog.make_filtering_bound_logger(_pipeline.lowest),
        logger_factory=_Written,
        cache_logger_on_first_use=False,  # a logger of a module outlives a shutdown
    )
    atexit.register(shutdown_logging)  # what waits for a network would be lost with the process
    if route_libraries or (route_libraries is None and not logging.getLogger().handlers):
        _route_libraries(_pipeline)
    return True


def shutdown_logging(seconds: float = 2.0) -> None:
    """Deliver what waits and close the sinks; undoes `configure_logging`. Safe twice; call it in a thread.

    Args:
        seconds: How long a network sink may take.
    """
    global _pipeline, _handler, _redactions  # noqa: PLW0603 - as in `configure_logging`
    closed, _pipeline, _redactions = _pipeline, None, ()
    atexit.unregister(shutdown_logging)
    if _handler is not None:
        root = logging.getLogger()
        root.removeHandler(_handler)
        root.setLevel(_root_level)
        _handler = None
    if closed is None:
        return
    import structlog  # noqa: PLC0415 - loaded when it was configured

    if _write in structlog.get_config()["processors"]:
        structlog.reset_defaults()
    closed.close(seconds)


def add_redaction(redact: Redact) -> Callable[[], None]:
    """Pass every line from now on through *redact*; return the call that ends that.

    Args:
        redact: Takes a line as plain data (strings, numbers, dicts, lists) and returns it without known secrets.
            When it raises, the line is withheld and a line that says so is written instead.
    """
    global _redactions  # noqa: PLW0603 - lines of every part of the process may hold the secret
    _redactions = (*_redactions, redact)

    def remove() -> None:
        global _redactions  # noqa: PLW0603 - as above
        _redactions = tuple(other for other in _redactions if other is not redact)
        _publish()

    _publish()
    return remove


def get_logger(name: str) -> Any:
    """Return a structlog logger whose lines carry *name*; it may be made before the log is configured.

    structlog's own default writes to stdout; whoever logs calls `configure_logging` before.
    """
    return _Logger(name)


def bind_log_context(**fields: Any) -> None:
    """Add fields to every line of this task or thread from now on, and of the tasks it starts."""
    import structlog  # noqa: PLC0415 - whoever logs nothing never loads it

    structlog.contextvars.bind_contextvars(**fields)


def clear_log_context(*names: str) -> None:
    """Take these fields out of the context again, or all of them when none is named."""
    import structlog  # noqa: PLC0415 - whoever logs nothing never loads it

    if names:
        structlog.contextvars.unbind_contextvars(*names)
    else:
        structlog.contextvars.clear_contextvars()


def scoped_log_context(**fields: Any) -> AbstractContextManager[None]:
    """Return a ``with`` block whose lines carry these fields; what was bound before comes back after it."""
    import structlog  # noqa: PLC0415 - whoever logs nothing never loads it

    bound: AbstractContextManager[None] = structlog.contextvars.bound_contextvars(**fields)
    return bound


def log_event(event: object) -> None:
    """Write one event of the core to the log; an observer. What it does not know, it leaves to others."""
    written = _WRITTEN.get(type(event))
    if written is None:
        return
    level, message, names = written
    import structlog  # noqa: PLC0415 - whoever logs nothing never loads it

    found = _pipeline
    if found is None or _write not in structlog.get_config()["processors"]:  # a host logs
        getattr(get_logger(_LIFECYCLE), level)(message, **_fields_of(event, names))
    elif SEVERITY[level] >= found.lowest:  # else it is not even put together
        fields = {"event": message, "logger": _LIFECYCLE, **_fields_of(event, names)}
        found.write(level, structlog.contextvars.get_contextvars() | fields)


def logging_status() -> list[dict[str, Any]]:
    """Return what each sink has taken and dropped, and why the last time; empty where a host logs."""
    return [] if _pipeline is None else [status_of(sink) for sink in _pipeline.sinks]


def _fields_of(event: Any, names: tuple[str, ...]) -> dict[str, Any]:
    # A registry's event holds a candidate, a slot's event stands for its own slot; who ranks first has no provider.
    about = getattr(event, "candidate", event)
    fields: dict[str, Any] = {"domain": about.domain, "key": about.key, "provider": getattr(about, "provider", None)}
    tenant = fields["tenant"] = getattr(about, "tenant", None)
    for name in names:
        fields[name] = getattr(event, name)
    if "revision" in names:
        fields["decision_id"] = decision_id(about.domain, about.key, tenant, event.revision)
    if type(event) is events.Bound:
        fields["duration_ms"] = event.duration_seconds * 1000
    fields["timestamp"] = now_iso(event.at)
    return {name: value for name, value in fields.items() if value is not None}


class _Logger:
    """A name; each call asks structlog for a logger as it is configured at that moment."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, method: str) -> Any:
        import structlog  # noqa: PLC0415 - whoever logs nothing never loads it

        return getattr(structlog.get_logger().bind(logger=self._name), method)

    def __repr__(self) -> str:
        return f"<logger {self._name!r}>"


class _Written:
    """The logger that structlog hands a line to that has been written already."""

    def __init__(self, *_: object) -> None:
        pass

    def msg(self) -> None:
        """Do nothing."""

    debug = info = warning = error = critical = exception = fatal = warn = err = log = msg


def _write(_logger: object, method: str, line: Mapping[str, Any]) -> tuple[tuple[()], dict[str, Any]]:
    found = _pipeline
    if found is not None:
        found.write(method, line)
    return (), {}


def _redacting() -> tuple[Redact, ...]:
    return tuple(dict.fromkeys((REDACTOR.mask, *_redactions)))  # each once: some hand the process's own over too


def _publish() -> None:
    if _pipeline is not None:
        _pipeline.redact = _redacting()


def _service(settings: LoggingSettings, app: AppSettings) -> dict[str, str]:
    service = {"service.name": settings.service_name or app.name, "deployment.environment": app.environment}
    return service if settings.release is None else service | {"service.version": settings.release}


def _outputs(settings: LoggingSettings, level: str, stream: TextIO | None) -> tuple[Output, ...]:
    return tuple(_output(sink, number, level, settings.emit_json, stream) for number, sink in enumerate(settings.sinks))


def _output(
    settings: LoggingSinkSettings,
    number: int,
    level: str,
    emit_json: bool | None,  # noqa: FBT001 - a setting, passed through
    stream: TextIO | None,
) -> Output:
    severity = SEVERITY[level if settings.level is None else settings.level.lower()]
    if settings.target in {"stdout", "stderr"}:
        where = _stream_of(settings.target, stream)
        is_terminal = where().isatty()
        in_json = not is_terminal if emit_json is None else emit_json
        sink: Sink = StreamSink(settings.target, where)
        return Output(sink=sink, severity=severity, as_json=in_json, colours=is_terminal)
    if settings.target == "http":
        return Output(sink=HttpSink(settings.endpoint or "", settings.method), severity=severity, as_json=True)
    try:
        sink = FileSink(settings.path, max_bytes=settings.max_bytes, backup_count=settings.backup_count)
    except OSError as error:
        raise ConfigurationError(
            f"logging.sinks[{number}].path: {settings.path} cannot be written: {error.strerror or error}",
            "name a file in a directory that belongs to this user",
        ) from error
    return Output(sink=sink, severity=severity, as_json=emit_json is not False)


def _stream_of(target: str, stream: TextIO | None) -> Callable[[], TextIO]:
    if target == "stdout":
        return lambda: sys.stdout
    return (lambda: sys.stderr) if stream is None else (lambda: stream)


def _route_libraries(pipeline: Pipeline) -> None:
    global _handler, _root_level
    root = logging.getLogger()
    _handler, _root_level = LibraryHandler(pipeline.write), root.level
    root.addHandler(_handler)
    # What libraries say while they debug themselves is nobody's business unless their own logger is told so.
    root.setLevel(max(pipeline.lowest, logging.INFO))
