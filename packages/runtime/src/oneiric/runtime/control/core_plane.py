"""CorePlane: the operations that a resolver and a lifecycle answer by themselves.

The base of a running system's `ControlPlane`: what concerns configuration, activity, secrets and parts is added by
whoever holds those.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final

from oneiric.core.errors import LifecycleError, ResolutionError
from oneiric.core.lifecycle import LifecycleManager, LifecycleStatus
from oneiric.core.resolution import BUILTIN_DOMAINS, Explanation, JournalEntry, Resolver
from oneiric.runtime.control import requests as ask
from oneiric.runtime.control import responses as answer
from oneiric.runtime.control._feed import EventFeed
from oneiric.runtime.control._stream import ControlEvent

__all__ = ["CorePlane"]

_PROBES_AT_A_TIME: Final = 16
_TOLD: Final[dict[bool | None, answer.Health]] = {None: "unknown", True: "healthy", False: "unhealthy"}


class CorePlane:
    """Answer what the core knows: components, explain, decisions, events, health, probe, swap, retire.

    Args:
        resolver: The running system's.
        lifecycle: The running system's.
        feed: The stream of events; by default one that observes both from now on.
        not_ready: Why the system takes no work yet, as codes; empty when it does.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        resolver: Resolver,
        lifecycle: LifecycleManager,
        *,
        feed: EventFeed | None = None,
        not_ready: Callable[[], Iterable[str]] = tuple,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.resolver, self.lifecycle = resolver, lifecycle
        self._not_ready, self._clock = not_ready, clock
        self._stop_observing: tuple[Callable[[], None], ...] = ()
        if feed is None:
            feed = EventFeed()
            self._stop_observing = (resolver.observe(feed.observe), lifecycle.observe(feed.observe))
        self.feed = feed
        self._seen: dict[tuple[str, str, str | None, int], answer.ProbeResult] = {}

    def close(self) -> None:
        """Let go of resolver and lifecycle, and end every stream of events. Safe to call twice."""
        for stop in self._stop_observing:
            stop()
        self.feed.close()

    async def components(self, request: ask.ComponentsRequest) -> answer.ComponentsResponse:
        """List what is active, what it shadows and what is set aside.

        Raises:
            ResolutionError: The domain or key asked for does not exist; a built-in domain may be empty.
        """
        asked = self._keys(request.domain, request.key)
        explained = [self.resolver.explain(*each, tenant=request.tenant) for each in asked]
        keys = [_component(each, shadowed=request.shadowed) for each in explained]
        return answer.ComponentsResponse(revision=self.resolver.revision, keys=keys)

    def _keys(self, domain: str | None, key: str | None) -> list[tuple[str, str]]:
        domains = self.resolver.domains() if domain is None else (domain,)
        asked = [(each, name) for each in domains for name in self.resolver.keys(each) if key in {None, name}]
        if asked or (domain is None and key is None):
            return asked
        if domain is not None and key is not None:
            self.resolver.explain(domain, key)  # raises, with what is near
        if key is not None:
            raise ResolutionError(f"no domain has a key {key!r}", "the operation components without a key")
        if domain in BUILTIN_DOMAINS:
            return []
        known = ", ".join(self.resolver.domains()) or "none"
        raise ResolutionError(f"there is no domain {domain!r}; there are: {known}", "one of these domains")

    async def explain(self, request: ask.ExplainRequest) -> answer.ExplainResponse:
        """Explain why a key resolves as it does, now and, with ``at``, at a past time.

        Raises:
            CandidateNotFoundError: The key has no candidate at all.
            SelectionNotFoundError: The key has no provider *why_not*.
        """
        explanation = self.resolver.explain(
            request.domain,
            request.key,
            provider=request.provider,
            capabilities=request.capabilities,
            require_all=request.require_all,
            tenant=request.tenant,
        )
        why_not = None if request.why_not is None else explanation.why_not(request.why_not).as_dict()
        past = None if request.at is None else self._past(request.at, request)
        return answer.ExplainResponse(**explanation.as_dict(), why_not=why_not, past=past)

    def _past(self, at: float, request: ask.ExplainRequest) -> answer.PastDecision:
        found = self.resolver.journal.at(at, request.domain, request.key, tenant=request.tenant)
        return answer.PastDecision(
            at=at,
            provider=found.provider,
            why=found.why,
            winner=None if found.winner is None else _decision(found.winner),
            active=None if found.active is None else _decision(found.active),
        )

    async def decisions(self, request: ask.DecisionsRequest) -> answer.DecisionsResponse:
        """Read the journal of decisions, the newest ones that match."""
        journal = self.resolver.journal
        found = [entry for entry in journal if _is_asked_for(entry, request)][-request.limit :]
        return answer.DecisionsResponse(decisions=[_decision(entry) for entry in found], dropped=journal.dropped)

    def events(self, request: ask.EventsRequest) -> AsyncIterator[ControlEvent]:
        """Follow what happens."""
        asked = {name: value for name in ("domain", "key") if (value := getattr(request, name)) is not None}

        def wanted(event: ControlEvent) -> bool:
            return all(event.data.get(name) == value for name, value in asked.items())

        return self.feed.subscribe(after=request.after, wanted=wanted if asked else None)

    async def health(self, request: ask.HealthRequest) -> answer.HealthResponse:
        """Report health as it was last seen, at binding or by a probe; asks no component."""
        slots = [self._health_of(status) for status in self._statuses(request.domain, request.key, request.tenant)]
        reasons = list(self._not_ready())
        healthy = all(slot.health != "unhealthy" for slot in slots)
        return answer.HealthResponse(healthy=healthy, ready=not reasons, reasons=reasons, slots=slots)

    def _health_of(self, status: LifecycleStatus) -> answer.SlotHealth:
        seen = self._seen.get((status.domain, status.key, status.tenant, status.generation))
        health: answer.Health
        if status.state == "failed":
            health, detail = "unhealthy", status.last_error
        elif seen is not None:
            health, detail = seen.health, seen.detail
        else:
            health, detail = ("healthy" if status.state == "ready" else "unknown"), None
        return answer.SlotHealth(
            domain=status.domain,
            key=status.key,
            tenant=status.tenant,
            provider=status.current_provider,
            state=status.state,
            health=health,
            detail=detail,
            last_health_at=status.last_health_at,
        )

    async def probe(self, request: ask.ProbeRequest) -> answer.ProbeResponse:
        """Ask what serves for its health, several at a time.

        Raises:
            ResolutionError: The domain or key asked for does not exist.
        """
        statuses = self._statuses(request.domain, request.key, request.tenant)
        if not statuses:
            self._keys(request.domain, request.key)
        turn = asyncio.Semaphore(_PROBES_AT_A_TIME)

        async def probed(status: LifecycleStatus) -> answer.ProbeResult:
            async with turn:
                return await self._probe(status)

        results = await asyncio.gather(*(probed(status) for status in statuses))
        current = {(s.domain, s.key, s.tenant, s.generation) for s in self.lifecycle.all_statuses()}
        self._seen = {slot: seen for slot, seen in self._seen.items() if slot in current}
        healthy = all(result.health != "unhealthy" for result in results)
        return answer.ProbeResponse(healthy=healthy, at=self._clock(), results=list(results))

    async def _probe(self, status: LifecycleStatus) -> answer.ProbeResult:
        begun = time.perf_counter()
        verdict = await self.lifecycle.probe_instance_health(status.domain, status.key, tenant=status.tenant)
        told = _TOLD[verdict]
        detail = {"unknown": "nothing serves", "unhealthy": "it said so, raised, or missed its deadline"}.get(told)
        result = answer.ProbeResult(
            domain=status.domain,
            key=status.key,
            tenant=status.tenant,
            provider=status.current_provider,
            health=told,
            detail=detail if status.state != "failed" else status.last_error,
            duration_ms=round((time.perf_counter() - begun) * 1000, 3),
        )
        self._seen[status.domain, status.key, status.tenant, status.generation] = result
        return result

    def _statuses(self, domain: str | None, key: str | None, tenant: str | None) -> list[LifecycleStatus]:
        return [
            status
            for status in self.lifecycle.all_statuses()
            if not status.beside
            and domain in {None, status.domain}
            and key in {None, status.key}
            and tenant in {None, status.tenant}
        ]

    async def swap(self, request: ask.SwapRequest) -> answer.SwapResponse:
        """Replace what serves for a key by a new generation, or leave the old one serving.

        Raises:
            ResolutionError: The provider, or any for the key, cannot be chosen.
            LifecycleError: A step before the binding failed; the old generation serves.
        """
        slot, tenant = (request.domain, request.key), request.tenant
        self.resolver.explain(*slot)
        if request.provider is None:
            self._check_own(request.domain, request.key, tenant)
        previous = self.lifecycle.get_status(*slot, tenant=tenant).current_provider
        await self.lifecycle.swap(*slot, request.provider, tenant=tenant, force=request.force, by=request.by)
        status = answer.SlotStatus(**self.lifecycle.get_status(*slot, tenant=tenant).as_dict())
        return answer.SwapResponse(previous=previous, status=status)

    async def retire(self, request: ask.RetireRequest) -> answer.RetireResponse:
        """Stop serving for a key.

        Raises:
            CandidateNotFoundError: There is no such key.
            InactiveError: The provider named is not open beside the active one.
        """
        slot, tenant = (request.domain, request.key), request.tenant
        if not self._statuses(*slot, tenant):
            self.resolver.explain(*slot)
        self._check_own(request.domain, request.key, tenant)
        await self.lifecycle.retire(*slot, provider=request.provider, tenant=tenant, forget=request.forget)
        return answer.RetireResponse(
            status=answer.SlotStatus(**self.lifecycle.get_status(*slot, tenant=tenant).as_dict())
        )

    def _check_own(self, domain: str, key: str, tenant: str | None) -> None:
        """Refuse what would change the base's instance in the name of a tenant that shares it.

        Raises:
            LifecycleError: The tenant has no instance of its own.
        """
        if tenant is not None and self.lifecycle.get_status(domain, key, tenant=tenant).tenant is None:
            raise LifecycleError(
                f"tenant {tenant!r} has no instance of {domain}:{key} of its own; the base one serves it",
                "a provider, which gives it one; or no tenant, for everybody",
            )


def _component(explanation: Explanation, *, shadowed: bool) -> answer.Component:
    ordered, filtered = explanation.ordered, explanation.filtered
    winner = explanation.winner
    shown = ordered if shadowed else tuple(row for row in ordered[:1] if winner is not None)
    return answer.Component(
        domain=explanation.domain,
        key=explanation.key,
        tenant=explanation.tenant,
        provider=explanation.selected,
        active=explanation.active,
        state="unresolved" if winner is None else "active",
        why=explanation.why,
        ordered=[answer.Ranked(**row.as_dict()) for row in shown],
        filtered=[answer.SetAside(**row.as_dict()) for row in filtered] if shadowed else [],
    )


def _decision(entry: JournalEntry) -> answer.Decision:
    return answer.Decision(**entry.as_dict())


def _is_asked_for(entry: JournalEntry, request: ask.DecisionsRequest) -> bool:
    return (
        request.domain in {None, entry.domain}
        and request.key in {None, entry.key}
        and request.tenant in {None, entry.tenant}
        and request.kind in {None, entry.kind}
        and (request.since is None or entry.at >= request.since)
        and (request.until is None or entry.at <= request.until)
    )
