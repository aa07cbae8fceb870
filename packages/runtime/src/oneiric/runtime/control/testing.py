"""MemoryPlane: a running system without the system, for tests of what calls the control API."""

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from oneiric.core.errors import ConfigurationError, SecretNotFoundError
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Resolver
from oneiric.runtime.control import requests as ask
from oneiric.runtime.control import responses as answer
from oneiric.runtime.control.core_plane import CorePlane

__all__ = ["MemoryPlane"]


class MemoryPlane(CorePlane):
    """Fulfil the whole `ControlPlane`: a real resolver and lifecycle, everything else held in memory.

    Args:
        resolver: What is explained and swapped.
        lifecycle: What serves.
        clock: Seconds since the epoch.

    Attributes:
        states: ``(domain, key)`` → its activity, as `pause`, `drain` and `resume` leave it.
        next_config: What the next configuration is: None for one that changes nothing, a mapping for the plan it has,
            an error for one that is refused.
        secrets: Id → version; `secrets_rotate` counts it up.
        not_ready: Why it is not ready; put codes in.
        asked: Every request, in order.
    """

    def __init__(
        self, resolver: Resolver, lifecycle: LifecycleManager, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.not_ready: list[str] = []
        super().__init__(resolver, lifecycle, not_ready=lambda: self.not_ready, clock=clock)
        self.states: dict[tuple[str, str], answer.ActivityState] = {}
        self.next_config: Mapping[str, Any] | ConfigurationError | None = None
        self.secrets: dict[str, int] = {}
        self.asked: list[object] = []
        self._started_at = clock()
        self._applied = answer.ConfigVersion(version=1, digest="0" * 64, at=clock())
        self._refused: answer.ConfigVersion | None = None

    async def status(self, request: ask.StatusRequest) -> answer.StatusResponse:
        """Describe the system."""
        self.asked.append(request)
        stale = [answer.SlotName(domain=d, key=k, tenant=t) for d, k, t in self.lifecycle.stale()]
        return answer.StatusResponse(
            name="memory",
            pid=os.getpid(),
            version="0",
            started_at=self._started_at,
            profile="default",
            ready=not self.not_ready,
            config=answer.ConfigVersions(applied=self._applied, refused=self._refused),
            revision=self.resolver.revision,
            slots=[answer.SlotStatus(**status.as_dict()) for status in self.lifecycle.all_statuses()],
            stale=stale,
            activity=list(self.states.values()),
            parts=[answer.PartStatus(name="http", state="running")],
            remote=None,
            problems=[],
        )

    async def pause(self, request: ask.PauseRequest) -> answer.PauseResponse:
        """Refuse new work for a key."""
        return answer.PauseResponse(**self._changed(request, paused=True, until=request.until))

    async def drain(self, request: ask.DrainRequest) -> answer.DrainResponse:
        """Refuse new work for a key and finish what is in flight."""
        return answer.DrainResponse(**self._changed(request, draining=True, until=request.until))

    async def resume(self, request: ask.ResumeRequest) -> answer.ResumeResponse:
        """Take work for a key again."""
        return answer.ResumeResponse(**self._changed(request))

    def _changed(
        self,
        request: ask.PauseRequest | ask.DrainRequest | ask.ResumeRequest,
        *,
        paused: bool = False,
        draining: bool = False,
        until: float | None = None,
    ) -> dict[str, Any]:
        self.asked.append(request)
        self.resolver.explain(request.domain, request.key)
        slot = (request.domain, request.key)
        state = answer.ActivityState(
            domain=request.domain,
            key=request.key,
            paused=paused,
            draining=draining,
            note=request.note,
            owner=request.owner,
            since=self._clock(),
            until=until,
            in_flight=self.lifecycle.get_status(*slot).in_flight,
        )
        self.states.pop(slot, None)
        if paused or draining:
            self.states[slot] = state
        self.feed.publish("activity-changed", {"at": self._clock(), **state.model_dump()})
        return state.model_dump()

    async def activity(self, request: ask.ActivityRequest) -> answer.ActivityResponse:
        """List the keys that are paused or draining."""
        self.asked.append(request)
        found = [s for s in self.states.values() if request.domain in {None, s.domain} and request.key in {None, s.key}]
        return answer.ActivityResponse(activity=found)

    async def config_plan(self, request: ask.ConfigPlanRequest) -> answer.ConfigPlanResponse:
        """Return the plan of `next_config`.

        Raises:
            ConfigurationError: That is what `next_config` is.
        """
        self.asked.append(request)
        if isinstance(self.next_config, ConfigurationError):
            raise self.next_config
        return answer.ConfigPlanResponse(digest="1" * 64, plan=dict(self.next_config or {}))

    async def config_apply(self, request: ask.ConfigApplyRequest) -> answer.ConfigApplyResponse:
        """Take `next_config`, or refuse it."""
        self.asked.append(request)
        version = self._applied.version + 1
        if isinstance(self.next_config, ConfigurationError):
            reason = self.next_config.message
            self._refused = answer.ConfigVersion(version=version, digest="1" * 64, at=self._clock(), reason=reason)
            return answer.ConfigApplyResponse(accepted=False, version=version, digest="1" * 64, reason=reason)
        self._applied, self._refused = answer.ConfigVersion(version=version, digest="1" * 64, at=self._clock()), None
        return answer.ConfigApplyResponse(
            accepted=True, version=version, digest="1" * 64, plan=dict(self.next_config or {})
        )

    async def secrets_rotate(self, request: ask.SecretsRotateRequest) -> answer.SecretsRotateResponse:
        """Count the versions of the secrets up.

        Raises:
            SecretNotFoundError: One of them does not exist; none is changed.
        """
        self.asked.append(request)
        ids = sorted(self.secrets) if request.keys is None else request.keys
        for each in ids:
            if each not in self.secrets:
                raise SecretNotFoundError(f"there is no secret {each!r}", "oneiric secrets list")
        self.secrets |= {each: self.secrets[each] + 1 for each in ids}
        return answer.SecretsRotateResponse(rotated=list(ids), swapped=[])

    async def remote_sync(self, request: ask.RemoteSyncRequest) -> answer.RemoteSyncResponse:
        """Say that nothing changed."""
        self.asked.append(request)
        return answer.RemoteSyncResponse(outcome="planned" if request.plan else "unchanged", report={})

    async def supervisor_info(self, request: ask.SupervisorInfoRequest) -> answer.SupervisorInfoResponse:
        """Say that nothing is supervised."""
        self.asked.append(request)
        return answer.SupervisorInfoResponse(enabled=False)
