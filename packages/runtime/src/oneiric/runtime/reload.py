"""Reload: a configuration is read anew and put in force as a whole (ACK), or refused with its reason (NACK).

Read, check, compare, plan, apply: whatever fails on the way, the last good configuration goes on serving and the
versions say what was refused and why. Nobody who calls a component notices either.

Reading and watching files is not done here: `ConfigReloader` is handed the call that reads, and whoever sees a reason
(a watcher, a signal, an operator) asks for a reload.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from oneiric.core.errors import LifecycleError, LoadError
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Resolver
from oneiric.runtime._reload_apply import Applier, OnApplied, said
from oneiric.runtime._reload_plan import Draft, draft_of, needing_restart
from oneiric.runtime._reload_values import (
    AppliedVersion,
    Change,
    Consequences,
    RefusedVersion,
    ReloadPlan,
    ReloadResult,
    SlotName,
    Swap,
    Versions,
)
from oneiric.runtime._secret_redaction import REDACTOR
from oneiric.runtime.settings import LoadedSettings, ProviderSettings

__all__ = [
    "AppliedVersion",
    "Change",
    "ConfigReloader",
    "Consequences",
    "RefusedVersion",
    "ReloadPlan",
    "ReloadResult",
    "SlotName",
    "Swap",
    "Versions",
]

#: Reading that took less the last time is done on the event loop: handing it to a thread would take longer.
_QUICK_SECONDS: Final = 0.005

type _Observer = Callable[[ReloadResult], None]


class ConfigReloader:
    """Put a changed configuration in force while the process runs, or refuse it.

    A reload changes selections, tenants and the settings of providers. A provider whose settings differ is swapped to
    a new generation, like one that another takes the place of; all of them together or none. Selections that an
    operator made by a swap stay. What was selected or configured in code stays where the files say the same as
    before. Settings that are read at start only are listed in ``needs_restart``.

    Args:
        loaded: The settings in force.
        load: Reads them anew; called in a thread, unless it took less than 5 ms the last time.
        resolver: Holds the policy made from them.
        lifecycle: Holds the instances; of the same resolver.
        provider_settings: What *lifecycle* asks for the settings of a provider.
        on_applied: Called with the settings once their instances serve; may be async. If it raises, the reload is
            refused and it is called once more, with the former ones.
        foresee: Tells for a plan what *on_applied* would start and stop with these settings; called in any thread.
        live: Dotted keys that *on_applied* puts in force, beside those that a reload changes itself.
        clock: Seconds since the epoch, for the versions.
    """

    def __init__(
        self,
        loaded: LoadedSettings,
        load: Callable[[], LoadedSettings],
        *,
        resolver: Resolver,
        lifecycle: LifecycleManager,
        provider_settings: ProviderSettings,
        on_applied: OnApplied | None = None,
        foresee: Callable[[LoadedSettings], Consequences] | None = None,
        live: Iterable[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._started = self._loaded = loaded
        self._load = load
        self._resolver = resolver
        self._lifecycle = lifecycle
        self._applier = Applier(resolver, lifecycle, provider_settings, on_applied)
        self._foresee = foresee
        self._live = tuple(live)
        self._clock = clock
        self._versions = Versions(applied=AppliedVersion(number=1, digest=loaded.digest, at=clock()))
        self._observers: list[_Observer] = []
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[ReloadResult] | None = None
        self._running: set[asyncio.Task[ReloadResult]] = set()
        self._is_closed = False
        self._is_quick = False

    @property
    def loaded(self) -> LoadedSettings:
        """The settings in force."""
        return self._loaded

    @property
    def paths(self) -> tuple[Path, ...]:
        """What to watch: where the settings in force were read from, and what else was read for them."""
        where = () if self._loaded.path is None else (Path(self._loaded.path),)
        return tuple(dict.fromkeys((*where, *self._loaded.files)))

    @property
    def versions(self) -> Versions:
        """Which configuration is in force, and which was refused after it."""
        return self._versions

    @property
    def needs_restart(self) -> tuple[str, ...]:
        """Dotted keys in force that differ from what the process started with and that it reads at start only."""
        return needing_restart(self._started, self._loaded, self._live)

    def observe(self, observer: _Observer) -> Callable[[], None]:
        """Call *observer* with the result of each reload from now on; return the call that stops it."""
        self._observers.append(observer)

        def stop() -> None:
            if observer in self._observers:
                self._observers.remove(observer)

        return stop

    def read(self) -> LoadedSettings:
        """Read the configuration as it is now; nothing of it is put in force.

        Raises:
            ConfigurationError: It cannot be read.
        """
        return self._load()

    def plan(self, new: LoadedSettings | None = None) -> ReloadPlan:
        """Return what a reload would do; nothing is changed, and no instance is made.

        Args:
            new: The configuration to plan for; by default it is read now.

        Raises:
            ConfigurationError: It cannot be read.
        """
        new = self._load() if new is None else new
        draft = self._draft(new)
        return _with_problems(draft, _invalid_settings(draft.to_check, new)).plan

    async def reload(self, by: str = "watcher") -> ReloadResult:
        """Read the configuration and put it in force, or refuse it; return when its instances serve.

        Reloads take turns. One that is asked for while another waits for its turn shares that one's: what it reads is
        read after both were asked for. A caller that is cancelled leaves the reload to go on.

        Args:
            by: Who asks, for the result and the log.

        Returns:
            The result; ``accepted`` is False where it was refused, with the reason.

        Raises:
            LifecycleError: The reloader is closed, or was meanwhile.
        """
        if self._is_closed:
            raise LifecycleError("the configuration is not reloaded any more: the process is shutting down")
        task = self._next
        if task is None:
            task = self._next = asyncio.create_task(self._reload(by), name="oneiric.reload")
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        await asyncio.shield(asyncio.wait((task,)))
        if task.cancelled():
            raise LifecycleError("the reload was ended: the process is shutting down")
        return task.result()

    async def aclose(self, *, wait_seconds: float | None = None) -> None:
        """Refuse further reloads and see the one under way to its end. Safe to call twice.

        Args:
            wait_seconds: How long it may still take, say because an instance is slow to start; it is cancelled then,
                and what it changed is put back. None waits for it.
        """
        self._is_closed = True
        if self._running:
            _, slow = await asyncio.wait(tuple(self._running), timeout=wait_seconds)
            for task in slow:
                task.cancel()
            if slow:
                await asyncio.wait(slow)
        await self._applier.settle()

    async def _reload(self, by: str) -> ReloadResult:
        async with self._turn:
            self._next = None  # whoever asks from here on may know of a change that this one reads too early for
            started = time.perf_counter()
            attempt = _Attempt()
            try:
                await self._put_in_force(attempt)
            except Exception as error:  # noqa: BLE001 - whatever a loader, a provider or a hook raises is a refusal
                attempt.reason = REDACTOR.mask("; ".join([said(error), *getattr(error, "__notes__", ())]))
            if attempt.reason is not None:
                applied = self._versions.applied
                refused = RefusedVersion(
                    number=applied.number + 1, digest=attempt.digest, reason=attempt.reason, at=self._clock()
                )
                self._versions = Versions(applied=applied, refused=refused)
            result = ReloadResult(
                accepted=attempt.reason is None,
                version=self._versions.applied.number,
                digest=attempt.digest,
                reason=attempt.reason,
                plan=attempt.plan,
                by=by,
                duration_seconds=time.perf_counter() - started,
            )
        self._tell(result)
        return result

    async def _put_in_force(self, attempt: "_Attempt") -> None:
        new = await self._read()
        attempt.digest = new.digest
        applied = self._versions.applied
        if new.digest != applied.digest:
            draft = self._draft(new)
            if draft.to_check:
                draft = _with_problems(draft, await asyncio.to_thread(_invalid_settings, draft.to_check, new))
            attempt.plan = draft.plan
            attempt.reason = "; ".join(draft.plan.problems) or None
            if attempt.reason is not None:
                return
            await self._applier.apply(draft, self._loaded, new)
            self._loaded = new
            applied = AppliedVersion(number=applied.number + 1, digest=new.digest, at=self._clock())
        self._versions = Versions(applied=applied)

    async def _read(self) -> LoadedSettings:
        """Read the configuration, in a thread unless that takes less time than would be noticed."""
        started = time.perf_counter()
        try:
            return self._load() if self._is_quick else await asyncio.to_thread(self._load)
        finally:
            self._is_quick = time.perf_counter() - started < _QUICK_SECONDS

    def _draft(self, new: LoadedSettings) -> Draft:
        draft = draft_of(
            self._started, self._loaded, new, resolver=self._resolver, lifecycle=self._lifecycle, live=self._live
        )
        if self._foresee is None:
            return draft
        follows = self._foresee(new)
        return replace(draft, plan=replace(draft.plan, starts=follows.starts, stops=follows.stops))

    def _tell(self, result: ReloadResult) -> None:
        for observer in tuple(self._observers):
            try:
                observer(result)
            except Exception as error:  # noqa: BLE001 - what an observer thinks of it changes nothing
                context = {"message": f"an observer of reloads failed: {observer!r}", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)

    def __repr__(self) -> str:
        return f"<ConfigReloader version {self._versions.applied.number} of {self._loaded.path or 'defaults'}>"


@dataclass(slots=True)
class _Attempt:
    """A reload on its way."""

    digest: str = ""
    plan: ReloadPlan = field(default_factory=ReloadPlan)
    reason: str | None = None


def _invalid_settings(candidates: Iterable[Candidate], new: LoadedSettings) -> list[str]:
    """Return what is wrong with the settings of each candidate; importing the models may take a while."""
    settings = ProviderSettings(new)
    problems: list[str] = []
    for candidate in candidates:
        try:
            problems += [str(problem) for problem in settings.problems(candidate)]
        except LoadError:
            continue  # nothing uses it, or its swap will say so
    return problems


def _with_problems(draft: Draft, problems: list[str]) -> Draft:
    return replace(draft, plan=replace(draft.plan, problems=(*draft.plan.problems, *problems)))
