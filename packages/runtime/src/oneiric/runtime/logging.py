"""The log: one line per event, on stderr, because stdout belongs to results.

structlog is set up here once, unless the host application has set it up already; it is imported when the
first of these functions is called, not with this module. What the core reports as events is written by
`log_event`, an observer for ``resolver.observe`` and ``lifecycle.observe``.
"""

import re
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TextIO

from oneiric.core import events
from oneiric.runtime.settings import AppSettings, LoggingSettings

if TYPE_CHECKING:
    from structlog.typing import EventDict, WrappedLogger

__all__ = ["configure_logging", "get_logger", "log_event"]

_MASK: Final = "***"
#: A value whose name says that it is a secret is never written, whoever logs it.
_SECRET_NAME = re.compile(
    r"(?:^|[^a-z])(?:password|passwd|passphrase|secret|token|api[_-]?key|credentials?|authorization)(?:$|[^a-z])",
    re.IGNORECASE,
)
_SEVERITY: Final = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}

#: Event → the method of the logger, and the fields that are written beside the slot.
_WRITTEN: Final[Mapping[type, tuple[str, str, tuple[str, ...]]]] = {
    events.Registered: ("debug", "registered", ("revision",)),
    events.Withdrawn: ("info", "withdrawn", ("revision",)),
    events.WinnerChanged: ("debug", "winner-changed", ("revision", "before", "after")),
    events.Bound: ("info", "bound", ("generation", "previous", "duration_seconds", "in_flight", "revision")),
    events.SwapFailed: ("error", "swap-failed", ("step", "reason", "rolled_back")),
    events.HookFailed: ("warning", "hook-failed", ("generation", "hook", "reason")),
    events.StepHung: ("warning", "step-hung", ("generation", "step", "seconds")),
    events.DrainTimedOut: ("warning", "drain-timed-out", ("generation", "in_flight", "forced")),
    events.CleanedUp: ("debug", "cleaned-up", ("generation",)),
    events.CleanupFailed: ("warning", "cleanup-failed", ("generation", "reason")),
    events.Retired: ("info", "retired", ("generation",)),
}


def configure_logging(
    settings: LoggingSettings | None = None, *, app: AppSettings | None = None, stream: TextIO | None = None
) -> bool:
    """Set structlog up for this process, if nobody has.

    Args:
        settings: Level and form; by default the defaults.
        app: Its name and environment stand in every line.
        stream: Where lines go; by default stderr, as it is now.

    Returns:
        True if it was set up now, False if the process had done so before; that is left alone.
    """
    import structlog  # noqa: PLC0415 - whoever logs nothing never loads it

    if structlog.is_configured():
        return False
    settings, app = settings or LoggingSettings(), app or AppSettings()
    stream = stream or sys.stderr
    as_json = not stream.isatty() if settings.emit_json is None else settings.emit_json
    level = settings.level or ("DEBUG" if app.debug else "INFO")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _named(settings.service_name or app.name, app.environment),
            _mask_secrets,
            *_rendering(as_json=as_json, colours=stream.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_SEVERITY[level]),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=True,
    )
    return True


def get_logger(name: str) -> Any:
    """Return a structlog logger whose lines carry *name*.

    structlog's own default writes to stdout; whoever logs calls `configure_logging` before.
    """
    import structlog  # noqa: PLC0415 - whoever logs nothing never loads it

    return structlog.get_logger().bind(logger=name)


def log_event(event: object) -> None:
    """Write one event of the core to the log; an observer. What it does not know, it leaves to others."""
    written = _WRITTEN.get(type(event))
    if written is None:
        return
    method, message, names = written
    # A registry's event holds a candidate, a slot's event stands for its own slot.
    about = getattr(event, "candidate", event)
    fields = {name: getattr(about, name, None) for name in ("domain", "key", "provider", "tenant")}
    fields |= {name: getattr(event, name) for name in names}
    write: Callable[..., object] = getattr(get_logger("oneiric.lifecycle"), method)
    write(message, **{name: value for name, value in fields.items() if value is not None})


def _named(service: str, environment: str) -> Any:
    fields = {"service.name": service, "deployment.environment": environment}

    def add(_logger: "WrappedLogger", _method: str, line: "EventDict") -> "EventDict":
        return {**fields, **line}

    return add


def _mask_secrets(_logger: "WrappedLogger", _method: str, line: "EventDict") -> "EventDict":
    return {name: _masked(name, value) for name, value in line.items()}


def _masked(name: object, value: Any) -> Any:
    if isinstance(name, str) and _SECRET_NAME.search(name):
        return _MASK
    if isinstance(value, Mapping):
        return {inner: _masked(inner, below) for inner, below in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(None, below) for below in value]
    return value


def _rendering(*, as_json: bool, colours: bool) -> list[Any]:
    import structlog  # noqa: PLC0415 - loaded by the caller already

    if as_json:
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)]
