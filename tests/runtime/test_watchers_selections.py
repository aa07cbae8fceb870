"""Watchers of domains over one shared watch: a change is read once, and each tells what became of its own."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Resolver
from oneiric.runtime.reload import ConfigReloader, Swap
from oneiric.runtime.settings import DomainSettings, LoadedSettings, ProviderSettings, load_settings, policy_from
from oneiric.runtime.watchers import (
    ActionConfigWatcher,
    AdapterConfigWatcher,
    EventConfigWatcher,
    SelectionWatcher,
    ServiceConfigWatcher,
    TaskConfigWatcher,
    WorkflowConfigWatcher,
    watch_config,
)

if TYPE_CHECKING:
    from pathlib import Path

WATCHERS = {
    "adapter": AdapterConfigWatcher,
    "service": ServiceConfigWatcher,
    "task": TaskConfigWatcher,
    "event": EventConfigWatcher,
    "workflow": WorkflowConfigWatcher,
    "action": ActionConfigWatcher,
}


class Bridge:
    """Keeps its sections."""

    def __init__(self, domain: str) -> None:
        self.domain = domain
        self.sections: list[DomainSettings] = []

    def update_settings(self, section: DomainSettings) -> None:
        self.sections.append(section)


class System:
    """A reloader over two domains, counting what it reads."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.reads = 0
        loaded = self._load()
        self.resolver = Resolver(policy_from(loaded))
        self.resolver.apply(
            add=[
                Candidate(domain=domain, key="x", provider=provider, factory=object)
                for domain in ("adapter", "service")
                for provider in ("a", "b")
            ]
        )
        settings = ProviderSettings(loaded)
        self.lifecycle = LifecycleManager(self.resolver, settings_for=settings)
        self.reloader = ConfigReloader(
            loaded, self._load, resolver=self.resolver, lifecycle=self.lifecycle, provider_settings=settings
        )
        self.results: asyncio.Queue[str | None] = asyncio.Queue()
        self.reloader.observe(lambda result: self.results.put_nowait(result.reason))

    def _load(self) -> LoadedSettings:
        self.reads += 1
        return load_settings(self.file, environ={})

    def write(self, text: str) -> None:
        beside = self.file.with_name(".new")
        beside.write_text(text)
        beside.replace(self.file)


@pytest.fixture
def system(tmp_path: Path) -> System:
    file = tmp_path / "c.yml"
    file.write_text("services: {selections: {x: a}}")
    return System(file)


async def test_all_domains_share_one_watch_and_one_read(system: System) -> None:
    watch = watch_config(system.reloader, poll_interval=3600)
    swaps: dict[str, tuple[Swap, ...]] = {}

    def following(domain: str) -> SelectionWatcher:
        return WATCHERS[domain](
            Bridge(domain),
            reloader=system.reloader,
            watcher=watch,
            on_change=lambda found: swaps.update({domain: found}),
        )

    async with asyncio.timeout(60), system.lifecycle, AsyncExitStack() as stack:
        await system.lifecycle.activate("service", "x")
        for domain in WATCHERS:
            await stack.enter_async_context(following(domain))
        await system.results.get()  # the one reload at the start
        reads = system.reads

        system.write("services: {selections: {x: b}}")
        await system.results.get()

        assert system.reads == reads + 1
        assert swaps == {
            "service": (Swap(domain="service", key="x", tenant=None, before="a", after="b", reason="selection"),)
        }
        assert system.lifecycle.get_status("service", "x").current_provider == "b"
    assert not watch.is_running


async def test_a_change_between_reading_and_watching_is_not_missed(system: System) -> None:
    system.write("services: {selections: {x: b}}")

    async with asyncio.timeout(60), system.lifecycle, watch_config(system.reloader, poll_interval=3600):
        await system.results.get()

        assert system.reloader.loaded.settings.services.selections == {"x": "b"}


async def test_a_broken_file_in_between_ends_on_the_final_content(system: System) -> None:
    async with asyncio.timeout(60), system.lifecycle, watch_config(system.reloader, poll_interval=3600):
        await system.results.get()
        system.write("services: {")
        assert "c.yml" in str(await system.results.get())
        system.write("services: {selections: {x: b}}")
        assert await system.results.get() is None

        assert system.reloader.versions.applied.number == 2
        assert system.reloader.versions.refused is None


async def test_a_bridge_gets_its_section_when_that_differs(system: System) -> None:
    bridge, other = Bridge("service"), Bridge("adapter")
    services = ServiceConfigWatcher(bridge, reloader=system.reloader)
    adapters = AdapterConfigWatcher(other, reloader=system.reloader)
    async with system.lifecycle, services, adapters:
        system.write("services: {selections: {x: b}, options: {a: 1}}")
        await services.run_once()

        assert [section.options for section in bridge.sections] == [{"a": 1}]
        assert other.sections == []


async def test_run_once_works_without_a_start_and_returns_the_domains_swaps(system: System) -> None:
    bridge = Bridge("service")
    watcher = SelectionWatcher("mine", bridge, reloader=system.reloader)
    async with system.lifecycle:
        await system.lifecycle.activate("service", "x")
        system.write("services: {selections: {x: b}}")

        assert [swap.after for swap in await watcher.run_once()] == ["b"]
        assert len(bridge.sections) == 1
        assert await watcher.run_once() == ()


async def test_a_refusal_is_the_watchers_problem_and_leaves_its_bridge_alone(system: System) -> None:
    bridge = Bridge("service")
    watcher = ServiceConfigWatcher(bridge, reloader=system.reloader)
    async with system.lifecycle, watcher:
        system.write("services: {selections: {x: nobody}}")

        assert await watcher.run_once() == ()
        assert "'nobody'" in str(watcher.problem)
        assert bridge.sections == []
        system.write("services: {selections: {x: a}}")
        await watcher.run_once()
        assert watcher.problem is None


@pytest.mark.parametrize(("profile", "is_polled"), [("serverless", True), ("default", False)])
async def test_the_serverless_profile_is_polled(system: System, profile: str, is_polled: bool) -> None:
    system.write(f"profile: {{name: {profile}}}")
    await system.reloader.reload()

    async with system.lifecycle, watch_config(system.reloader, poll_interval=3600) as watch:
        assert (watch.mode == "poll") is is_polled


async def test_stopping_twice_and_starting_twice_are_harmless(system: System) -> None:
    watch = watch_config(system.reloader)
    watcher = ServiceConfigWatcher(Bridge("service"), reloader=system.reloader, watcher=watch)
    await watcher.stop()
    await watcher.start()
    await watcher.start()
    assert watch.is_running
    await watcher.stop()
    await watcher.stop()
    assert not watch.is_running
    await system.reloader.aclose()
