"""AppPlane: what a running application answers on its control API."""

import asyncio
import os
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from oneiric.app._remote import is_wanted
from oneiric.core.errors import CandidateNotFoundError, ConfigurationError
from oneiric.core.resolution import CandidateSource, Explanation
from oneiric.domains import DomainBridge
from oneiric.runtime.activity import DomainActivity
from oneiric.runtime.control import requests as ask
from oneiric.runtime.control import responses as answer
from oneiric.runtime.control.core_plane import CorePlane
from oneiric.runtime.orchestrator import PartStatus
from oneiric.runtime.supervisor import ServiceSupervisor

if TYPE_CHECKING:
    from oneiric.app._app import App

__all__ = ["AppPlane"]

_DISTRIBUTION: Final = "oneiric-runtime"
_REPLACE: Final = "a manifest with a sound one, and oneiric remote-sync; or oneiric retire"


class AppPlane(CorePlane):
    """Answer for an application: what the core knows, and configuration, activity, secrets, supervision and parts.

    Args:
        app: The application.
        not_ready: Why it takes no work, as codes; empty when it does.
        parts: The status of the parts it runs.
        supervisor: Supervises its services, or None.
    """

    def __init__(
        self,
        app: "App",
        *,
        not_ready: Callable[[], list[str]],
        parts: Callable[[], tuple[PartStatus, ...]],
        supervisor: ServiceSupervisor | None,
    ) -> None:
        super().__init__(app.resolver, app.lifecycle, not_ready=not_ready)
        self._app = app
        self._parts = parts
        self._supervisor = supervisor
        self._started_at = time.time()
        self._stop_publishing = (
            app.activity.add_listener(self._activity_changed),
            app.reloader.observe(lambda result: self.feed.publish("config-reloaded", result.as_dict())),
        )

    def close(self) -> None:
        """Let go of the application, and end every stream of events. Safe to call twice."""
        for stop in self._stop_publishing:
            stop()
        super().close()

    async def status(self, request: ask.StatusRequest) -> answer.StatusResponse:  # noqa: ARG002 - the port
        """Describe the running system."""
        app, settings = self._app, self._app.settings
        return answer.StatusResponse(
            name=settings.app.name,
            pid=os.getpid(),
            version=version(_DISTRIBUTION),
            started_at=self._started_at,
            profile=settings.profile.name,
            ready=not self._not_ready(),
            config=_versions(app),
            revision=app.resolver.revision,
            slots=[answer.SlotStatus(**status.as_dict()) for status in app.lifecycle.all_statuses()],
            stale=[answer.SlotName(domain=d, key=k, tenant=t) for d, k, t in app.lifecycle.stale()],
            activity=self._activity(None, None),
            parts=[answer.PartStatus(**part.as_dict()) for part in self._parts()],
            remote=app.remote.status() if is_wanted(settings) else None,
            problems=self._problems(),
        )

    def _problems(self) -> list[str]:
        app = self._app
        found = [str(problem) for problem in app.report.errors]
        found += [
            problem for problem in (app.activity.problem, app.activity.recovered, app.execution.problem) if problem
        ]
        restart = app.reloader.needs_restart
        if restart:
            found.append(f"changed settings that are read at start only: {', '.join(restart)}")
        found += [f"part {part.name}: {part.error}" for part in self._parts() if part.error]
        return found + [each["reason"] for each in self._revoked()]

    def _revoked(self) -> list[dict[str, Any]]:
        """Return what serves although its artifact was revoked."""
        return self._app.remote.revoked() if is_wanted(self._app.settings) else []

    async def health(self, request: ask.HealthRequest) -> answer.HealthResponse:
        """Report health as it was last seen, and what serves although it was revoked."""
        found = await super().health(request)
        reasons = {(each["domain"], each["key"], each["tenant"]): each["reason"] for each in self._revoked()}
        if not reasons:
            return found
        slots = [
            slot.model_copy(update={"detail": reasons.get((slot.domain, slot.key, slot.tenant), slot.detail)})
            for slot in found.slots
        ]
        return found.model_copy(update={"degraded": list(reasons.values()), "slots": slots})

    async def explain(self, request: ask.ExplainRequest) -> answer.ExplainResponse:
        """Explain why a key resolves as it does, or that what serves it was revoked.

        Raises:
            CandidateNotFoundError: The key has no candidate at all.
            SelectionNotFoundError: The key has no provider *why_not*.
        """
        slot = (request.domain, request.key, request.tenant)
        kept = next((each for each in self._revoked() if (each["domain"], each["key"], each["tenant"]) == slot), None)
        try:
            found = await super().explain(request)
        except CandidateNotFoundError:
            if kept is None:
                raise
            empty = Explanation(request.domain, request.key, ordered=(), tenant=request.tenant)
            found = answer.ExplainResponse(**empty.with_active(kept["provider"]).as_dict())
        return found if kept is None else _with_revoked(found, kept)

    async def pause(self, request: ask.PauseRequest) -> answer.PauseResponse:
        """Refuse new work for a key.

        Raises:
            CandidateNotFoundError: There is no such key.
            StoreError: It could not be stored; nothing changed.
        """
        bridge = self._bridge(request)
        _check_until(request.until)
        state = await bridge.set_paused(
            request.key, True, note=request.note, owner=request.owner or request.by, until=request.until
        )
        return answer.PauseResponse(**_state(bridge, request.key, state))

    async def drain(self, request: ask.DrainRequest) -> answer.DrainResponse:
        """Refuse new work for a key and finish what is in flight.

        Raises:
            CandidateNotFoundError: There is no such key.
            StoreError: It could not be stored; nothing changed.
        """
        bridge = self._bridge(request)
        _check_until(request.until)
        state = await bridge.set_draining(
            request.key, True, note=request.note, owner=request.owner or request.by, until=request.until
        )
        return answer.DrainResponse(**_state(bridge, request.key, state))

    async def resume(self, request: ask.ResumeRequest) -> answer.ResumeResponse:
        """Take work for a key again.

        Raises:
            CandidateNotFoundError: There is no such key.
            StoreError: It could not be stored; nothing changed.
        """
        bridge = self._bridge(request)
        return answer.ResumeResponse(**_state(bridge, request.key, await bridge.resume(request.key)))

    async def activity(self, request: ask.ActivityRequest) -> answer.ActivityResponse:
        """List the keys that are paused or draining."""
        return answer.ActivityResponse(
            activity=self._activity(request.domain, request.key), problem=self._app.activity.problem
        )

    def _activity(self, domain: str | None, key: str | None) -> list[answer.ActivityState]:
        return [
            answer.ActivityState(**_state(self._app.domain(of), name, state))
            for of, keys in self._app.activity.snapshot().items()
            for name, state in keys.items()
            if domain in {None, of} and key in {None, name}
        ]

    def _bridge(self, request: ask.PauseRequest | ask.DrainRequest | ask.ResumeRequest) -> DomainBridge:
        self.resolver.explain(request.domain, request.key)  # raises for a key that is none, with what is near
        return self._app.domain(request.domain)

    def _activity_changed(self, domain: str, key: str, state: DomainActivity) -> None:
        self.feed.publish("activity-changed", {"at": time.time(), "domain": domain, "key": key, **state.as_dict()})

    async def config_plan(self, request: ask.ConfigPlanRequest) -> answer.ConfigPlanResponse:  # noqa: ARG002 - the port
        """Tell what applying the configuration would change.

        Raises:
            ConfigurationError: It cannot be read.
        """
        new = await asyncio.to_thread(self._app.reloader.read)
        plan = await asyncio.to_thread(self._app.reloader.plan, new)
        return answer.ConfigPlanResponse(digest=new.digest, plan=plan.as_dict())

    async def config_apply(self, request: ask.ConfigApplyRequest) -> answer.ConfigApplyResponse:
        """Apply the configuration, or refuse it.

        Raises:
            ConfigurationError: It is not the one that was asked for.
        """
        if request.digest is not None:
            now = await asyncio.to_thread(self._app.reloader.read)
            if now.digest != request.digest:
                raise ConfigurationError(
                    f"the configuration was changed since it was planned: its digest is {now.digest}", "plan it again"
                )
        result = await self._app.reload(by=request.by or "control API")
        return answer.ConfigApplyResponse(
            accepted=result.accepted,
            version=result.version,
            digest=result.digest,
            reason=result.reason,
            plan=result.plan.as_dict(),
        )

    async def secrets_rotate(self, request: ask.SecretsRotateRequest) -> answer.SecretsRotateResponse:
        """Read secrets anew and swap what uses them.

        Raises:
            SecretNotFoundError: One is missing now; nothing changed.
            SwapError: A new instance did not start; the old ones serve with the old values.
        """
        report = await self._app.secrets.rotate(request.keys, by=request.by or "control API")
        swapped = [answer.SlotName(domain=d, key=k, tenant=t) for d, k, t in report.swapped]
        return answer.SecretsRotateResponse(
            rotated=list(report.rotated), unchanged=list(report.unchanged), swapped=swapped
        )

    async def remote_sync(self, request: ask.RemoteSyncRequest) -> answer.RemoteSyncResponse:
        """Fetch the manifest that the settings name, and put it in force or tell what that would change.

        Raises:
            FetchError: It could not be had.
            ManifestError: It is not to be used; nothing changed.
            SwapError: A new instance did not start; the old ones serve.
        """
        remote = self._app.remote
        if request.plan:
            plan = await remote.plan()
            return answer.RemoteSyncResponse(outcome="planned", report=plan.as_dict())
        report = await remote.sync()
        return answer.RemoteSyncResponse(outcome=report.outcome, report=report.as_dict())

    async def supervisor_info(self, request: ask.SupervisorInfoRequest) -> answer.SupervisorInfoResponse:  # noqa: ARG002 - the port
        """Describe the supervised services."""
        if self._supervisor is None:
            return answer.SupervisorInfoResponse(enabled=False)
        return answer.SupervisorInfoResponse(enabled=True, **self._supervisor.info().as_dict())


def _check_until(until: float | None) -> None:
    """Refuse an end that is over: the state would be said to hold, and would not.

    Raises:
        ConfigurationError: It is in the past.
    """
    if until is not None and until <= time.time():
        raise ConfigurationError("the time it is to end at is in the past", "a later one, or none")


def _with_revoked(found: answer.ExplainResponse, kept: dict[str, Any]) -> answer.ExplainResponse:
    """Return an explanation that sets aside what serves and was revoked; it is no candidate any more."""
    aside = answer.SetAside(
        provider=kept["provider"],
        score=[0, 0, 0, 0],
        origins={},
        obstacles=[answer.Obstacle(kind="revoked", detail=kept["reason"], fix=_REPLACE)],
        source=CandidateSource.REMOTE_MANIFEST.value,
        origin=f"sha256:{kept['sha256']}",
        version=None,
        requires_extra=None,
    )
    return found.model_copy(update={"why": kept["reason"], "filtered": [*found.filtered, aside]})


def _state(bridge: DomainBridge, key: str, state: DomainActivity) -> dict[str, Any]:
    return {"domain": bridge.domain, "key": key, **state.as_dict(), "in_flight": bridge.in_flight(key)}


def _versions(app: "App") -> answer.ConfigVersions:
    found = app.reloader.versions
    return answer.ConfigVersions(
        applied=answer.ConfigVersion(**found.applied.as_dict()),
        refused=None if found.refused is None else answer.ConfigVersion(**found.refused.as_dict()),
    )
