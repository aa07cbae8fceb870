"""Spans: what the parts of the runtime open around their work; free while nobody listens.

The OpenTelemetry API is not even imported before somebody configures an SDK.
"""

import hashlib
import sys
from collections.abc import MutableMapping
from contextlib import AbstractContextManager
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol

from oneiric.runtime._secret_redaction import REDACTOR
from oneiric.runtime._telemetry_tags import tag

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer, TracerProvider

__all__ = [
    "SCOPE",
    "SpanLike",
    "decision_id",
    "inject_trace_context",
    "is_real",
    "span",
    "tagged",
    "tracer",
    "use_tracer_provider",
]

#: The instrumentation scope of everything that is recorded here.
SCOPE: Final = "oneiric"
#: Hexadecimal digits of a decision's id: enough that a million decisions do not meet.
_DIGITS: Final = 16

type Value = str | bool | int | float | None


class SpanLike(Protocol):
    """A span that is open, or what stands for one while nobody listens."""

    def set(self, **attributes: Value) -> None:
        """Add attributes; names are those of `span`."""


class _Nothing:
    """Stands for a span while nobody listens; one for everybody, since it holds nothing."""

    __slots__ = ()

    def __enter__(self) -> "_Nothing":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def set(self, **attributes: Value) -> None:
        """Let go of the attributes."""


class _Open:
    """A span, current from entering to leaving."""

    __slots__ = ("_attributes", "_name", "_span", "_token", "_tracer")

    def __init__(self, tracer: "Tracer", name: str, attributes: dict[str, Value]) -> None:
        self._tracer, self._name, self._attributes = tracer, name, attributes
        self._span: Span | None = None
        self._token: Any = None

    def __enter__(self) -> "_Open":
        from opentelemetry import context, trace  # noqa: PLC0415 - loaded by whoever configured the SDK

        self._span = self._tracer.start_span(self._name, attributes=tagged(self._attributes))
        self._token = context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        from opentelemetry import context, trace  # noqa: PLC0415 - as above

        context.detach(self._token)
        if self._span is None:
            return
        if kind is not None:
            # The type alone: what an error says may hold what nobody should read in a trace.
            self._span.set_attribute("error.type", kind.__qualname__)
            self._span.set_status(trace.StatusCode.ERROR, kind.__qualname__)
        self._span.end()

    def set(self, **attributes: Value) -> None:
        """Add attributes to the span."""
        if self._span is not None:
            self._span.set_attributes(tagged(attributes))


_NOTHING: Final = _Nothing()
#: The provider that `use_tracer_provider` named, and the tracer of the provider in force.
_chosen: "TracerProvider | None" = None
_known: "tuple[TracerProvider, Tracer] | None" = None


def span(name: str, /, **attributes: Value) -> AbstractContextManager[SpanLike]:
    """Return a span to open with ``with``; without an SDK one that does nothing.

    ``with span("workflow.run", workflow="nightly", run_id=run) as opened: … opened.set(outcome="done")``. An error
    that leaves the block marks the span as failed, by its type only.

    Args:
        name: What is done: ``remote.sync``, ``workflow.run``, ``workflow.node``, ``event.dispatch``…
        attributes: ``domain=``, ``key=``, ``workflow=``… become ``oneiric.domain``, ``oneiric.key``…; None is left out.
    """
    found = tracer()
    return _NOTHING if found is None else _Open(found, name, attributes)


def inject_trace_context(headers: MutableMapping[str, str]) -> None:
    """Write the current trace into *headers* (W3C ``traceparent``), so that who receives them continues it.

    A trace that is not recorded is not handed on: it would tell others not to record theirs either.
    """
    if tracer() is not None:
        from opentelemetry import propagate, trace  # noqa: PLC0415 - loaded by whoever configured the SDK

        if trace.get_current_span().get_span_context().trace_flags.sampled:
            propagate.inject(headers)


@lru_cache(maxsize=256)  # span, log line and record of one event ask one after the other
def decision_id(domain: str, key: str, tenant: str | None, revision: int) -> str:
    """Return the stable id of a decision: 16 hexadecimal digits that spans, logs and the journal share.

    The same slot at the same revision has the same id in every process that took the same steps.
    """
    text = "\0".join((domain, key, "" if tenant is None else f"@{tenant}", str(revision)))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]


def tagged(attributes: dict[str, Value]) -> dict[str, str | bool | int | float]:
    """Return attributes under the names they have in every span, without known secrets and those that are None."""
    return {
        tag(name): REDACTOR.mask(value) if isinstance(value, str) else value
        for name, value in attributes.items()
        if value is not None
    }


def use_tracer_provider(provider: "TracerProvider | None") -> None:
    """Open spans with this provider; None goes back to the one that the process has configured, if any."""
    global _chosen, _known
    _chosen, _known = provider, None


def tracer() -> "Tracer | None":
    """Return the tracer in force, or None while nobody has configured an SDK."""
    global _known  # noqa: PLW0603 - as above
    provider = _chosen
    if provider is None:
        provider = configured("opentelemetry.trace", "_TRACER_PROVIDER", "get_tracer_provider")
        if provider is None:
            return None
    if _known is None or _known[0] is not provider:
        _known = (provider, provider.get_tracer(SCOPE))
    return _known[1]


def configured(module: str, kept: str, ask: str) -> Any:
    """Return the provider that the process has configured, or None; imports nothing.

    Args:
        module: The module of the API that keeps it.
        kept: The module's variable. It is looked at first: *ask* reads the environment each time, which costs more
            than all else that a span does while nobody listens.
        ask: The module's function, should a release keep it elsewhere.
    """
    api = sys.modules.get(module)
    if api is None:
        return None
    found = getattr(api, kept, api)
    if found is api:
        found = getattr(api, ask)()
    return found if found is not None and is_real(found) else None


def is_real(provider: object) -> bool:
    """Tell an SDK's provider from those of the API, which do nothing."""
    return not type(provider).__module__.startswith(("opentelemetry.trace", "opentelemetry.metrics"))
