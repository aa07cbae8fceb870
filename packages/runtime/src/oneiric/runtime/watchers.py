"""Watching the configuration: `ConfigWatcher` sees its changes, watchers of single domains tell what became of them.

A change is read once, by the `oneiric.runtime.reload.ConfigReloader` they all share, however many domains there are.
"""

from collections.abc import Callable
from types import TracebackType
from typing import ClassVar, Protocol, Self

from oneiric.runtime._watch_config import ConfigWatcher, WatchMode
from oneiric.runtime.reload import ConfigReloader, ReloadResult, Swap
from oneiric.runtime.settings import DomainSettings

__all__ = [
    "ActionConfigWatcher",
    "AdapterConfigWatcher",
    "ConfigWatcher",
    "EventConfigWatcher",
    "SectionHolder",
    "SelectionWatcher",
    "ServiceConfigWatcher",
    "TaskConfigWatcher",
    "WatchMode",
    "WorkflowConfigWatcher",
    "watch_config",
]


class SectionHolder(Protocol):
    """What a domain's section is for: a bridge."""

    @property
    def domain(self) -> str:
        """The domain."""

    def update_settings(self, section: DomainSettings) -> None:
        """Put another section in force."""


def watch_config(reloader: ConfigReloader, *, mode: WatchMode = "auto", poll_interval: float = 5.0) -> ConfigWatcher:
    """Return a watcher that asks *reloader* for a reload at each change, and once at its start.

    Args:
        reloader: Knows what to watch.
        mode: How; ``"auto"`` polls under the profile ``serverless``.
        poll_interval: Seconds between two looks when polling.
    """
    if mode == "auto" and reloader.loaded.settings.profile.name == "serverless":
        mode = "poll"
    return ConfigWatcher(
        lambda: reloader.paths,
        lambda: reloader.reload(by="watcher"),
        mode=mode,
        poll_interval=poll_interval,
        at_start=True,
    )


class SelectionWatcher:
    """Follow one domain through the reloads: keep its bridge's section current, and tell what was swapped.

    Args:
        name: What logs and status call it.
        bridge: The domain's bridge; it is given its section whenever that differs from the one before.
        reloader: Reads each change, once for all domains.
        watcher: What sees the changes; it runs as long as any watcher that was started. Without it only `run_once` and
            whoever else asks the reloader cause a reload.
        on_change: Called with the swaps of the domain after each reload that was accepted and concerned it.
    """

    def __init__(
        self,
        name: str,
        bridge: SectionHolder,
        *,
        reloader: ConfigReloader,
        watcher: ConfigWatcher | None = None,
        on_change: Callable[[tuple[Swap, ...]], object] | None = None,
    ) -> None:
        self.name = name
        self._bridge = bridge
        self._reloader = reloader
        self._watcher = watcher
        self._on_change = on_change
        self._section = self._current()
        self._unsubscribe: Callable[[], None] | None = None
        self.swaps: tuple[Swap, ...] = ()
        self.problem: str | None = None

    async def start(self) -> None:
        """Begin to follow. Does nothing when it does already."""
        if self._unsubscribe is None:
            self._section = self._current()
            self._unsubscribe = self._reloader.observe(self._follow)
        if self._watcher is not None:
            await self._watcher.hold(self)

    async def stop(self) -> None:
        """End. Safe after a failed start, and twice."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        if self._watcher is not None:
            await self._watcher.let_go(self)

    async def run_once(self) -> tuple[Swap, ...]:
        """Reload now, whether or not a change was seen.

        Returns:
            The swaps of the domain; none if the reload was refused (`problem` says why) or changed nothing here.
        """
        is_following = self._unsubscribe is not None
        result = await self._reloader.reload(by=self.name)
        if not is_following:
            self._follow(result)
        return self._concerning(result)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    def _follow(self, result: ReloadResult) -> None:
        self.problem = result.reason
        if not result.accepted:
            return
        section, before = self._current(), self._section
        swaps = self._concerning(result)
        if section != before:
            self._section = section
            self._bridge.update_settings(section)
        if section != before or swaps:
            self.swaps = swaps
            if self._on_change is not None:
                self._on_change(swaps)

    def _concerning(self, result: ReloadResult) -> tuple[Swap, ...]:
        if not result.accepted:
            return ()
        return tuple(swap for swap in result.plan.swaps if swap.domain == self._bridge.domain)

    def _current(self) -> DomainSettings:
        return self._reloader.loaded.settings.section(self._bridge.domain)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class _OfDomain(SelectionWatcher):
    _name: ClassVar[str]

    def __init__(
        self,
        bridge: SectionHolder,
        *,
        reloader: ConfigReloader,
        watcher: ConfigWatcher | None = None,
        on_change: Callable[[tuple[Swap, ...]], object] | None = None,
    ) -> None:
        super().__init__(self._name, bridge, reloader=reloader, watcher=watcher, on_change=on_change)


class AdapterConfigWatcher(_OfDomain):
    """Follow the adapters."""

    _name = "adapter-config"


class ServiceConfigWatcher(_OfDomain):
    """Follow the services."""

    _name = "service-config"


class TaskConfigWatcher(_OfDomain):
    """Follow the tasks."""

    _name = "task-config"


class EventConfigWatcher(_OfDomain):
    """Follow the event handlers."""

    _name = "event-config"


class WorkflowConfigWatcher(_OfDomain):
    """Follow the workflows."""

    _name = "workflow-config"


class ActionConfigWatcher(_OfDomain):
    """Follow the actions."""

    _name = "action-config"
