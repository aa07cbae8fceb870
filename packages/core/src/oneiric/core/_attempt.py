"""Attempt: one candidate on its way to a slot, from load to pre_swap, and back if it does not get there."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from oneiric.core._candidate import Candidate, CandidateSource
from oneiric.core._generation import Generation, method_of
from oneiric.core._hooks import LifecycleHooks, LifecycleTimeouts
from oneiric.core._key import Key
from oneiric.core._loading import MissingModuleError, load_factory
from oneiric.core._reasons import Reasons
from oneiric.core._slot import Slot
from oneiric.core._steps import BUDGET, StepRunner, is_awaitable
from oneiric.core.errors import DeadlineError, LifecycleError, LoadError, MissingExtraError, UnhealthyError

__all__ = ["Attempt", "SettingsSource", "Workshop"]

_NOTHING: Final[Any] = object()

type SettingsFor = Callable[[Candidate, str | None], Any]


@dataclass(slots=True)
class SettingsSource:
    """What gives candidates their settings; it may be set after a manager was made, by whoever configures providers.

    Attributes:
        settings_for: Candidate and tenant → settings; None constructs the model without arguments.
    """

    settings_for: SettingsFor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What every attempt of a manager works with.

    Attributes:
        context: The manager's context, copied for each step.
        timeouts: Deadlines.
        hooks: Hooks.
        settings: Where the settings of candidates come from.
        reasons: Renders what goes wrong.
        provide: Activates the needs of a candidate and returns live proxies, by parameter name.
    """

    context: Context
    timeouts: LifecycleTimeouts
    hooks: LifecycleHooks
    settings: SettingsSource
    reasons: Reasons
    provide: Callable[[Mapping[str, Key[Any]], str | None], Any]


class Attempt:
    """One candidate on its way to a slot.

    Attributes:
        slot: Where it is to be bound.
        candidate: What is being started.
        number: The number of the generation to be; a failed attempt leaves a gap.
        step: The step under way, or the last one.
        instance: The instance, from the moment it exists.
    """

    __slots__ = (
        "_deadline",
        "_loop",
        "_workshop",
        "candidate",
        "instance",
        "number",
        "runner",
        "settings",
        "slot",
        "step",
    )

    def __init__(self, workshop: Workshop, slot: Slot, candidate: Candidate) -> None:
        self._workshop = workshop
        self._loop = asyncio.get_running_loop()
        self.slot = slot
        self.candidate = candidate
        slot.generations += 1
        self.number = slot.generations
        budget = workshop.timeouts.activation_seconds
        self._deadline = None if budget is None else self._loop.time() + budget
        self.runner = StepRunner(workshop.context, slot, self._deadline)
        self.step = "load"
        self.instance: Any = _NOTHING
        self.settings: Any = None

    @property
    def made(self) -> bool:
        """Whether there is an instance to clean up."""
        return self.instance is not _NOTHING

    async def prepare(self, old: Generation | None, *, force: bool) -> Generation:
        """Do every step before the binding and return the generation to bind.

        Raises:
            Exception: What the failing step raised; ``step`` names it.
        """
        factory = await self._load(self.candidate.factory)
        self.step = "settings"
        if self.candidate.settings_model is not None:
            self.settings = await self._settings()
        self.step = "instantiate"
        await self._instantiate(factory)
        instance = self.instance
        init = method_of(instance, "init")
        if init is not None:
            self.step = "init"
            await self.runner.run("init", BUDGET, init)
        self._check_budget()
        self.step = "health"
        await self._check_health(force=force)
        self.step = "pre_swap"
        for hook in tuple(self._workshop.hooks.pre_swap):
            await self._ask(hook, None if old is None else old.instance)
        return Generation(instance, self.candidate, self.settings, self.number)

    def _check_budget(self) -> None:
        # A synchronous step cannot be interrupted; that it took too long is found out afterwards.
        if self._deadline is not None and self._loop.time() > self._deadline:
            raise DeadlineError(self.step, self._workshop.timeouts.activation_seconds or 0.0)

    async def _load(self, target: Any) -> Any:
        if not isinstance(target, str):
            return target
        module = target.partition(":")[0]
        # What came from outside names a class or function of its own module, and nothing that module passes on.
        is_remote = self.candidate.source is CandidateSource.REMOTE_MANIFEST
        load = partial(load_factory, defined_there=True) if is_remote else load_factory
        try:
            if module in sys.modules:
                return load(target)
            return await self.runner.run_in_thread("load", BUDGET, load, target)
        except MissingModuleError as error:
            extra = self.candidate.requires_extra
            if extra is None:
                raise
            raise MissingExtraError(self.candidate.provider, extra, error.name) from error

    async def _settings(self) -> Any:
        # Loaded first, in a thread: a settings module that is not imported yet must not be imported on the loop.
        model = await self._load(self.candidate.settings_model)
        settings_for = self._workshop.settings.settings_for
        if settings_for is not None:
            return await self.runner.run("settings", BUDGET, settings_for, self.candidate, self.slot.name[2])
        return await self.runner.run("settings", BUDGET, model)

    async def _instantiate(self, factory: Any) -> None:
        candidate, runner = self.candidate, self.runner
        if not callable(factory):
            raise LoadError(f"factory {candidate.factory!r} of {candidate} is not callable", "name a class or function")
        needs: dict[str, Any] = {}
        if candidate.needs:
            needs = await runner.run("instantiate", BUDGET, self._workshop.provide, candidate.needs, self.slot.name[2])
        arguments = (self.settings,) if candidate.settings_model is not None else ()

        def make() -> Any:
            made = factory(*arguments, **needs)
            if is_awaitable(made):
                return self._receive(made)
            self._record(made)
            return None

        if candidate.blocking:
            received = await runner.run_in_thread("instantiate", BUDGET, make)
            if received is not None:
                await runner.run("instantiate", BUDGET, lambda: received)
        else:
            await runner.run("instantiate", BUDGET, make)

    async def _receive(self, awaitable: Awaitable[Any]) -> None:
        self._record(await awaitable)

    def _record(self, made: Any) -> None:
        # Kept where it is made: a cancellation may arrive in the very loop turn the result does.
        if made is None:
            raise LifecycleError(f"factory of {self.candidate} returned None", "return the instance")
        if is_awaitable(made):
            if hasattr(made, "close"):
                made.close()
            raise LifecycleError(f"factory of {self.candidate} returned an awaitable of an awaitable")
        self.instance = made

    async def _check_health(self, *, force: bool) -> None:
        health = method_of(self.instance, "health")
        if health is None:
            return
        try:
            verdict = await self.runner.run("health", self._workshop.timeouts.health_seconds, health)
            if verdict is False:
                raise UnhealthyError(f"{self.candidate} reports itself unhealthy")
        except Exception as error:  # whatever health raises is its verdict
            if not force or isinstance(error, DeadlineError):
                raise

    async def _ask(self, hook: Callable[[Any, Any, Any], Any], old: Any) -> None:
        seconds = self._workshop.timeouts.hook_seconds
        if await self.runner.run("pre_swap", seconds, hook, self.candidate, self.instance, old) is False:
            raise LifecycleError(f"hook {getattr(hook, '__qualname__', hook)!r} vetoed {self.candidate}")
