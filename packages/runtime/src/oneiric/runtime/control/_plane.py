"""ControlPlane: what a running system fulfils so that it can be asked and changed from outside."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Protocol

from oneiric.runtime.control._stream import ControlEvent

if TYPE_CHECKING:
    from oneiric.runtime.control import requests as ask
    from oneiric.runtime.control import responses as answer

__all__ = ["ControlPlane"]


class ControlPlane(Protocol):
    """One method per operation of `OPERATIONS`, of the same name.

    An error of `oneiric.core.errors` becomes the answer of its HTTP status; anything else is answered by 500 with an
    id and no detail.
    """

    async def status(self, request: "ask.StatusRequest") -> "answer.StatusResponse":
        """Describe the running system."""

    async def components(self, request: "ask.ComponentsRequest") -> "answer.ComponentsResponse":
        """List what is active."""

    async def explain(self, request: "ask.ExplainRequest") -> "answer.ExplainResponse":
        """Explain why a key resolves as it does."""

    async def decisions(self, request: "ask.DecisionsRequest") -> "answer.DecisionsResponse":
        """Read the journal."""

    def events(self, request: "ask.EventsRequest") -> AsyncIterator[ControlEvent]:
        """Follow what happens; whoever iterates closes the iterator."""

    async def health(self, request: "ask.HealthRequest") -> "answer.HealthResponse":
        """Report health as it was last seen."""

    async def probe(self, request: "ask.ProbeRequest") -> "answer.ProbeResponse":
        """Ask what serves for its health."""

    async def swap(self, request: "ask.SwapRequest") -> "answer.SwapResponse":
        """Replace what serves for a key."""

    async def retire(self, request: "ask.RetireRequest") -> "answer.RetireResponse":
        """Stop serving for a key."""

    async def pause(self, request: "ask.PauseRequest") -> "answer.PauseResponse":
        """Refuse new work for a key."""

    async def drain(self, request: "ask.DrainRequest") -> "answer.DrainResponse":
        """Refuse new work for a key and finish what is in flight."""

    async def resume(self, request: "ask.ResumeRequest") -> "answer.ResumeResponse":
        """Take work for a key again."""

    async def activity(self, request: "ask.ActivityRequest") -> "answer.ActivityResponse":
        """List the keys that are paused or draining."""

    async def config_plan(self, request: "ask.ConfigPlanRequest") -> "answer.ConfigPlanResponse":
        """Tell what applying the configuration would change."""

    async def config_apply(self, request: "ask.ConfigApplyRequest") -> "answer.ConfigApplyResponse":
        """Apply the configuration."""

    async def secrets_rotate(self, request: "ask.SecretsRotateRequest") -> "answer.SecretsRotateResponse":
        """Read secrets anew."""

    async def remote_sync(self, request: "ask.RemoteSyncRequest") -> "answer.RemoteSyncResponse":
        """Put in force what the configured manifest offers now."""

    async def supervisor_info(self, request: "ask.SupervisorInfoRequest") -> "answer.SupervisorInfoResponse":
        """Describe the supervised services."""
