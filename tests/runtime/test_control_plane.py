"""What a resolver and a lifecycle answer over the control API is what they say themselves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from oneiric.core.errors import CandidateNotFoundError, InactiveError, ResolutionError, SelectionNotFoundError
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Explanation, Policy, Resolver
from oneiric.core.testing import DrivenClock, FakeComponent, fake_environment
from oneiric.runtime.control import ControlPlane, requests
from oneiric.runtime.control.testing import MemoryPlane


def offered(provider: str, **fields: Any) -> Candidate:
    stated: dict[str, Any] = {"domain": "adapter", "key": "cache", "factory": FakeComponent} | fields
    return Candidate(provider=provider, **stated)


@asynccontextmanager
async def running(*candidates: Candidate, clock: DrivenClock | None = None) -> AsyncIterator[MemoryPlane]:
    told = clock or DrivenClock(1000.0)
    resolver = Resolver(Policy(environment=fake_environment()), clock=told)
    resolver.apply(add=candidates or (offered("memory"), offered("redis", priority=5)))
    async with LifecycleManager(resolver, clock=told) as lifecycle:
        plane = MemoryPlane(resolver, lifecycle, clock=told)
        as_asked: ControlPlane = plane  # a type checker sees that nothing is missing
        assert as_asked is plane
        yield plane
        plane.close()


async def test_components_show_winner_shadowed_and_set_aside() -> None:
    aside = offered("nats", requires_extra="oneiric-adapters-cache[nats]")
    async with running(offered("memory"), offered("redis", priority=5), aside) as plane:
        (found,) = (await plane.components(requests.ComponentsRequest())).keys
        (brief,) = (await plane.components(requests.ComponentsRequest(shadowed=False))).keys

    assert (found.provider, found.active, found.state) == ("redis", None, "active")
    assert [row.provider for row in found.ordered] == ["redis", "memory"]
    assert [row.provider for row in found.filtered] == ["nats"]
    assert found.filtered[0].obstacles
    assert ([row.provider for row in brief.ordered], brief.filtered) == (["redis"], [])


async def test_what_does_not_exist_is_said_so() -> None:
    async with running() as plane:
        wrongs: list[dict[str, Any]] = [{"domain": "nope"}, {"key": "nope"}, {"domain": "adapter", "key": "nope"}]
        for wrong in wrongs:
            with pytest.raises(ResolutionError):
                await plane.components(requests.ComponentsRequest(**wrong))
            with pytest.raises(ResolutionError):
                await plane.probe(requests.ProbeRequest(**wrong))
        assert (await plane.components(requests.ComponentsRequest(domain="task"))).keys == []


async def test_an_explanation_can_be_read_back() -> None:
    async with running() as plane:
        found = await plane.explain(requests.ExplainRequest(domain="adapter", key="cache", why_not="memory"))
        own = plane.resolver.explain("adapter", "cache")
    plain = found.model_dump(exclude={"why_not", "past"})

    assert plain == own.as_dict()
    assert Explanation.from_dict(plain).replay() == "redis"
    assert found.why_not is not None
    assert found.why_not["changes"]["selection"]["value"] == "memory"


async def test_what_served_at_a_past_time_is_answered_from_the_journal() -> None:
    clock = DrivenClock(1000.0)
    async with running(clock=clock) as plane:
        await plane.swap(requests.SwapRequest(domain="adapter", key="cache", provider="memory", by="ann"))
        clock.advance(10)
        await plane.swap(requests.SwapRequest(domain="adapter", key="cache", provider="redis", by="bob"))
        then = await plane.explain(requests.ExplainRequest(domain="adapter", key="cache", at=1005.0))
        bound = await plane.decisions(requests.DecisionsRequest(kind="bound", since=1001.0))

    assert then.past is not None
    assert then.past.provider == "memory"
    assert "ann" in str(then.past.why)
    assert [(entry.at, entry.provider) for entry in bound.decisions] == [(1010.0, "redis")]


async def test_decisions_are_the_newest_that_match() -> None:
    async with running() as plane:
        for provider in ("memory", "redis", "memory"):
            await plane.swap(requests.SwapRequest(domain="adapter", key="cache", provider=provider))
        found = await plane.decisions(requests.DecisionsRequest(kind="bound", limit=2))
        none = await plane.decisions(requests.DecisionsRequest(key="other"))

    assert [entry.provider for entry in found.decisions] == ["redis", "memory"]
    assert none.decisions == []


async def test_a_swap_tells_what_served_before_and_what_serves_now() -> None:
    async with running() as plane:
        first = await plane.swap(requests.SwapRequest(domain="adapter", key="cache"))
        second = await plane.swap(requests.SwapRequest(domain="adapter", key="cache", provider="memory"))

    assert (first.previous, first.status.current_provider) == (None, "redis")
    assert (second.previous, second.status.current_provider, second.status.generation) == ("redis", "memory", 2)


async def test_swapping_or_retiring_what_does_not_exist_is_not_found() -> None:
    async with running() as plane:
        with pytest.raises(SelectionNotFoundError):
            await plane.swap(requests.SwapRequest(domain="adapter", key="cache", provider="nope"))
        with pytest.raises(CandidateNotFoundError):
            await plane.swap(requests.SwapRequest(domain="adapter", key="nope"))
        with pytest.raises(CandidateNotFoundError):
            await plane.retire(requests.RetireRequest(domain="adapter", key="nope"))
        with pytest.raises(InactiveError):
            await plane.retire(requests.RetireRequest(domain="adapter", key="cache", provider="memory"))
        assert plane.lifecycle.get_status("adapter", "cache").current_provider is None


async def test_a_retired_key_serves_nothing() -> None:
    async with running() as plane:
        await plane.swap(requests.SwapRequest(domain="adapter", key="cache"))
        done = await plane.retire(requests.RetireRequest(domain="adapter", key="cache"))

    assert (done.status.state, done.status.current_provider) == ("retired", None)


async def test_health_remembers_what_the_last_probe_saw_of_this_generation() -> None:
    component = FakeComponent()
    async with running(offered("memory", factory=lambda: component)) as plane:
        await plane.lifecycle.activate("adapter", "cache")
        assert (await plane.health(requests.HealthRequest())).slots[0].health == "healthy"
        component.faults["health"] = "raise"
        probed = await plane.probe(requests.ProbeRequest())
        seen = await plane.health(requests.HealthRequest())
        component.faults.clear()
        await plane.lifecycle.swap("adapter", "cache")
        renewed = await plane.health(requests.HealthRequest())

    assert (probed.healthy, probed.results[0].health) == (False, "unhealthy")
    assert (seen.healthy, seen.slots[0].health) == (False, "unhealthy")
    assert (renewed.healthy, renewed.slots[0].health) == (True, "healthy")


async def test_what_could_not_be_started_is_unhealthy_and_what_serves_nothing_unknown() -> None:
    async with running(offered("memory", factory=lambda: FakeComponent({"init": "raise"}))) as plane:
        with pytest.raises(Exception, match="init fails as told"):
            await plane.lifecycle.activate("adapter", "cache")
        health = await plane.health(requests.HealthRequest())
        probed = await plane.probe(requests.ProbeRequest())

    assert (health.healthy, health.slots[0].health) == (False, "unhealthy")
    assert probed.results[0].health == "unknown"


async def test_events_of_one_key_are_followed() -> None:
    async with running(offered("memory"), offered("smtp", key="mail")) as plane:
        stream = plane.events(requests.EventsRequest(domain="adapter", key="mail"))
        await plane.swap(requests.SwapRequest(domain="adapter", key="cache"))
        await plane.swap(requests.SwapRequest(domain="adapter", key="mail"))
        event = await anext(stream)

    assert (event.name, event.data["key"], event.data["provider"]) == ("bound", "mail", "smtp")


async def test_activity_is_kept_until_it_is_resumed() -> None:
    async with running() as plane:
        paused = await plane.pause(requests.PauseRequest(domain="adapter", key="cache", note="why", until=2000.0))
        listed = await plane.activity(requests.ActivityRequest())
        await plane.resume(requests.ResumeRequest(domain="adapter", key="cache"))
        after = await plane.activity(requests.ActivityRequest())

    assert (paused.paused, paused.since, paused.until) == (True, 1000.0, 2000.0)
    assert [state.note for state in listed.activity] == ["why"]
    assert after.activity == []
