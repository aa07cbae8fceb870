"""Deliveries to a running application: refused while it takes no work, else handed to its workflows and events."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from oneiric.app._running import RunningSystem

__all__ = ["LateDelivery", "late_deliveries"]

_PATHS: Final = ("/tasks/workflow", "/events/push")
_RETRY_AFTER: Final = "2"


class LateDelivery:
    """One path of deliveries; an ASGI application.

    Args:
        running: The process; its application may not be loaded yet.
        path: The path.
        mounts: Filled with the applications of all paths once there is one to make them for.
    """

    def __init__(self, running: "RunningSystem", path: str, mounts: dict[str, Any]) -> None:
        self._running = running
        self._path = path
        self._mounts = mounts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one delivery."""
        system, reasons = self._running.system, self._running.not_ready()
        if system is None or reasons:
            await _refuse(send, f"the system is {', '.join(reasons)}")
            return
        if not self._mounts:
            self._mounts.update(_made(system.app))
        await self._mounts[self._path](scope, receive, send)


def late_deliveries(running: "RunningSystem") -> dict[str, LateDelivery]:
    """Return path → what answers deliveries there, for ``build_app(mounts=…)``."""
    mounts: dict[str, Any] = {}
    return {path: LateDelivery(running, path, mounts) for path in _PATHS}


def _made(app: Any) -> Mapping[str, Any]:
    from oneiric.domains import DeliveredWorkflows  # noqa: PLC0415 - loaded by now
    from oneiric.runtime.deliveries import delivery_mounts  # noqa: PLC0415 - only who is delivered to needs it

    return delivery_mounts(
        app.execution.deliveries,
        app.execution.dead_letters,
        processor=DeliveredWorkflows(app.workflows),
        events=app.events,
        refuses=app.events.refusal,
    )


async def _refuse(send: Any, why: str) -> None:
    error = {"error": {"type": "PausedError", "message": why, "hint": f"again in {_RETRY_AFTER} s"}}
    body = json.dumps(error).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", _RETRY_AFTER.encode()),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
