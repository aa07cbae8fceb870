"""Putting a configuration in force as one transaction: all of it, or everything is put back."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Collection, Coroutine
from types import TracebackType
from typing import Any, Self

from oneiric.core.errors import OneiricError, ResolutionError
from oneiric.core.events import Bound, Retired, SwapFailed
from oneiric.core.lifecycle import LifecycleManager, ReconcileReport
from oneiric.core.resolution import Resolver
from oneiric.runtime._reload_plan import Draft, differing_settings
from oneiric.runtime._reload_values import SlotName
from oneiric.runtime.settings import LoadedSettings, ProviderSettings

__all__ = ["Applier", "OnApplied", "said"]

#: Told what is in force from now on, and told the former again when the rest of the reload fails.
type OnApplied = Callable[[LoadedSettings], Awaitable[None] | None]


def said(error: BaseException) -> str:
    """Return what an error says, with its kind where it is none of ours."""
    return str(error) if isinstance(error, OneiricError) else f"{type(error).__name__}: {error}".rstrip(": ")


class Applier:
    """Carries out drafts, one at a time."""

    def __init__(
        self,
        resolver: Resolver,
        lifecycle: LifecycleManager,
        provider_settings: ProviderSettings,
        on_applied: OnApplied | None,
    ) -> None:
        self._resolver = resolver
        self._lifecycle = lifecycle
        self._provider_settings = provider_settings
        self._on_applied = on_applied
        #: Swaps that are bound and still wait for the last leases on what they replaced.
        self._draining: set[asyncio.Task[ReconcileReport]] = set()

    async def apply(self, draft: Draft, old: LoadedSettings, new: LoadedSettings) -> None:
        """Put *new* in force and return when its instances serve; what they replaced may still be draining.

        Raises:
            SwapError: An instance could not be made with it; everything is as before.
            Exception: What ``on_applied`` raised; everything is as before.
        """
        policy = self._resolver.policy
        with _Observed(self._lifecycle) as observed:
            put_back_settings = self._provider_settings.reload(new, keep=draft.unchanged)
            told = False
            try:
                if draft.policy != policy:
                    self._resolver.apply(policy=draft.policy)
                await self._swap(draft.renewed, observed)
                if self._on_applied is not None:
                    told = True
                    await self._tell(new)
            except BaseException as error:
                if self._resolver.policy is not policy:
                    self._resolver.apply(policy=policy)
                put_back_settings()
                problems = await _unbroken(self._put_back(observed, old, new, told=told))
                for problem in problems:
                    error.add_note(problem)
                raise

    async def settle(self) -> None:
        """Stop waiting for leases on what was replaced; the lifecycle goes on draining it."""
        for task in self._draining:
            task.cancel()
        if self._draining:
            await asyncio.wait(self._draining)

    async def _swap(self, renewed: Collection[SlotName], observed: "_Observed") -> None:
        """Swap what differs; return when the new instances serve, whoever still holds the old ones."""
        expected = {*self._lifecycle.stale(), *renewed}
        if not expected:
            return
        task = asyncio.create_task(self._lifecycle.reconcile(also=renewed), name="oneiric.reload.swap")
        self._draining.add(task)
        task.add_done_callback(self._drained)
        try:
            await observed.all_of(expected, task)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait((task,))
            raise
        if task.done():
            task.result()

    def _drained(self, task: "asyncio.Task[ReconcileReport]") -> None:
        self._draining.discard(task)
        if not task.cancelled():
            task.exception()  # looked at: whoever waited has raised it

    async def _tell(self, loaded: LoadedSettings) -> None:
        if self._on_applied is not None:
            answer = self._on_applied(loaded)
            if inspect.isawaitable(answer):
                await answer

    async def _put_back(
        self, observed: "_Observed", old: LoadedSettings, new: LoadedSettings, *, told: bool
    ) -> list[str]:
        """Swap back what was bound meanwhile; return what could not be."""
        problems: list[str] = []
        if told:
            try:
                await self._tell(old)
            except Exception as error:  # noqa: BLE001 - the application's own code; the rest is still put back
                problems.append(f"on_applied failed for the former configuration too: {said(error)}")
        stale = set(self._lifecycle.stale())
        strays = [slot for slot in observed.bound if slot in stale or self._differs(slot, old, new)]
        if strays:
            await self._try(self._lifecycle.renew(*strays), problems)
        for domain, key, tenant in sorted(observed.retired | observed.failed, key=str):
            if (domain, key, tenant) in observed.served:
                await self._try(self._lifecycle.activate(domain, key, tenant=tenant), problems)
        return problems

    async def _try(self, step: Awaitable[object], problems: list[str]) -> None:
        try:
            await step
        except OneiricError as error:
            problems.append(f"not everything could be put back: {said(error)}")

    def _differs(self, slot: SlotName, old: LoadedSettings, new: LoadedSettings) -> bool:
        domain, key, tenant = slot
        try:
            return differing_settings(old, new, self._resolver.resolve(domain, key, tenant=tenant))
        except ResolutionError:
            return False


class _Observed:
    """What served before a ``with`` block, and what was bound, retired or failed inside it."""

    def __init__(self, lifecycle: LifecycleManager) -> None:
        self._lifecycle = lifecycle
        self.served = {
            (status.domain, status.key, status.tenant)
            for status in lifecycle.all_statuses()
            if status.current_provider is not None and not status.beside
        }
        self.bound: set[SlotName] = set()
        self.retired: set[SlotName] = set()
        self.failed: set[SlotName] = set()
        self._happened = asyncio.Event()

    def __enter__(self) -> Self:
        self._unsubscribe = self._lifecycle.observe(self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._unsubscribe()

    def _note(self, event: object) -> None:
        if isinstance(event, Bound):
            self.bound.add((event.domain, event.key, event.tenant))
        elif isinstance(event, Retired) and event.tenant is not None:
            self.retired.add((event.domain, event.key, event.tenant))
        elif isinstance(event, SwapFailed):
            self.failed.add((event.domain, event.key, event.tenant))
        else:
            return
        self._happened.set()

    async def all_of(self, slots: Collection[SlotName], task: "asyncio.Task[Any]") -> None:
        """Wait until something new serves in all of *slots*, or none is to serve there; or until *task* ends."""
        task.add_done_callback(lambda _: self._happened.set())
        # After a failure, what is bound may be what was there before: only the end of the task tells.
        while not task.done() and (self.failed or not self.bound | self.retired >= set(slots)):
            self._happened.clear()
            await self._happened.wait()


async def _unbroken[T](work: Coroutine[Any, Any, T]) -> T:
    """Finish *work* whoever is cancelled meanwhile; a cancellation is not lost, the caller raises its own error."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            continue
    return task.result()
