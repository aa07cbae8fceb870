"""Swapping: prepare the new, bind it, drain the old; or leave the old one serving.

Everything up to the binding happens under the slots' locks, taken in sorted order, and is undone on any failure. The
binding is assignments only. What follows it runs in owned tasks and can undo nothing.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from oneiric.core._attempt import Attempt, Workshop
from oneiric.core._candidate import Candidate
from oneiric.core._drain import Drainer
from oneiric.core._generation import Generation
from oneiric.core._locking import Locks
from oneiric.core._observers import Emitter
from oneiric.core._policy import Selection
from oneiric.core._resolver import Resolver
from oneiric.core._slot import Slot
from oneiric.core.errors import ActivationError, InactiveError, LifecycleError, OneiricError, SwapError
from oneiric.core.events import Bound, HookFailed, SwapFailed

__all__ = ["Request", "Swapper"]

#: How often a change is begun at most: what registers itself anew whenever it starts would be outdated for ever.
_BEGINNINGS: Final = 5


class Request:
    """One slot to change.

    Attributes:
        slot: The slot.
        resolve: Returns the candidate to start; called under the slot's lock.
        select: True publishes the provider as a runtime selection, False removes one, None leaves it as it is.
        by: Who asked, for the selection.
    """

    __slots__ = ("by", "resolve", "select", "slot")

    def __init__(
        self, slot: Slot, resolve: Callable[[], Candidate], *, select: bool | None = None, by: str | None = None
    ) -> None:
        self.slot = slot
        self.resolve = resolve
        self.select = select
        self.by = by


class _Change:
    """A request on its way: what was resolved, what was made of it, and what that replaced."""

    __slots__ = ("before", "candidate", "in_flight", "new", "old", "request", "slot")
    candidate: Candidate
    new: Generation

    def __init__(self, request: Request) -> None:
        self.request = request
        self.slot = request.slot
        #: What served when it was begun.
        self.before: Generation | None = None
        self.old: Generation | None = None
        #: Leases held on the old generation at the binding.
        self.in_flight = 0


class Swapper:
    """Changes what is bound in slots."""

    __slots__ = ("_attempts", "_clock", "_drainer", "_emit", "_order", "_resolver", "_workshop", "closed", "ended")

    def __init__(
        self,
        resolver: Resolver,
        workshop: Workshop,
        drainer: Drainer,
        emit: Emitter,
        clock: Callable[[], float],
    ) -> None:
        self._resolver = resolver
        self._workshop = workshop
        self._drainer = drainer
        self._emit = emit
        self._clock = clock
        self._order = 0
        self._attempts: set[Attempt] = set()
        self.closed = False
        self.ended = False

    async def swap(
        self, requests: Sequence[Request], *, force: bool, wanted: Callable[[Request], bool] | None = None
    ) -> list[Any]:
        """Give each slot a new generation, all or none, and return their instances in the order asked.

        Args:
            requests: The slots to change.
            force: Bind also what reports itself unhealthy.
            wanted: Asked of each request once its slot is locked; what it says no to is left as it is.

        Raises:
            ResolutionError: A request resolves to nothing.
            ActivationError: A step failed and nothing was bound before.
            SwapError: A step failed before the binding; the old generations serve.
        """
        async with self.locked([request.slot for request in requests]):
            if wanted is not None and not (requests := [request for request in requests if wanted(request)]):
                return []
            changes = [_Change(request) for request in requests]
            started = asyncio.get_running_loop().time()
            await self._prepare_current(changes, started, force=force)
            self._bind(changes, started)
        await self._finish(changes)
        return [change.new.instance for change in changes]

    def locked(self, slots: Sequence[Slot]) -> Locks:
        """Hold the locks of some slots for an ``async with`` block, taken in sorted order.

        Raises:
            LifecycleError: A step of one of the slots asks for it: waiting would never end.
            InactiveError: The lifecycle is closed, or was meanwhile.
        """
        return Locks(slots, self.refuse_closed)

    def refuse_closed(self) -> None:
        """Raise `InactiveError` once the lifecycle is closed."""
        if self.closed:
            raise InactiveError("the lifecycle is closed", "open a new LifecycleManager")

    async def _prepare_current(self, changes: "list[_Change]", started: float, *, force: bool) -> None:
        """Resolve and prepare what is to serve, and begin again if something else is by the time it is ready.

        Nobody else would: whoever changed the registry meanwhile swaps what serves, and this does not yet. What took
        the place of an exclusive one serves even so: there is nothing to go back to.
        """
        for left in reversed(range(_BEGINNINGS)):
            self._refuse_ended()
            seen = self._resolver.revision
            for change in changes:
                change.before = change.slot.current
                change.candidate = change.request.resolve()
            try:
                await self._prepare(changes, started, force=force)
            except (ActivationError, SwapError):
                if not left or seen == self._resolver.revision or not self._are_outdated(changes):
                    raise
            else:
                if not left or seen == self._resolver.revision or not self._are_outdated(changes):
                    return
                reason = "something else is to serve by now"
                await self._drainer.see_through(self._tear_down(changes, started, "pre_swap", reason))

    def _refuse_ended(self) -> None:
        if self.ended:
            raise InactiveError("the lifecycle is closing")

    def _are_outdated(self, changes: "list[_Change]") -> bool:
        return not self.ended and any(map(self._is_outdated, changes))

    def _is_outdated(self, change: "_Change") -> bool:
        if change.slot.current is not change.before:
            return False
        try:
            return change.request.resolve() is not change.candidate
        except OneiricError:
            return True  # it is no longer on offer, and resolving it says so

    async def _prepare(self, changes: "list[_Change]", started: float, *, force: bool) -> None:
        if len(changes) == 1:
            change = changes[0]
            change.new = await self._prepare_one(change.slot, change.candidate, started, force=force)
            return
        tasks = [
            asyncio.create_task(self._prepare_one(change.slot, change.candidate, started, force=force))
            for change in changes
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            # Asked of the ended ones first: a failure ends the wait while others are still at work.
            for task in done:
                task.result()
        except BaseException as error:
            await self._drainer.see_through(self._undo(changes, tasks, started, self._workshop.reasons.of(error)))
            raise
        for change, task in zip(changes, tasks, strict=True):
            change.new = task.result()

    async def _undo(
        self, changes: "list[_Change]", tasks: list["asyncio.Task[Generation]"], started: float, reason: str
    ) -> None:
        """Stop the preparations of a group that failed, and tear down those that had succeeded."""
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        prepared = []
        for change, task in zip(changes, tasks, strict=True):
            if not task.cancelled() and task.exception() is None:
                change.new = task.result()
                prepared.append(change)
        await self._tear_down(prepared, started, "group", reason)

    async def _tear_down(self, prepared: "list[_Change]", started: float, step: str, reason: str) -> None:
        """Clean up what was prepared and will not be bound, and bring back what went first to make room for it."""
        for change in prepared:
            new = change.new
            self._record_failure(change.slot, new.provider, step, reason, new.number)
            await self._drainer.retire(change.slot, new)
        for change in prepared:
            if change.before is not None and change.slot.current is None:
                with suppress(LifecycleError):  # its status says so
                    await self._restore(change.slot, change.before.candidate, started)

    async def _prepare_one(self, slot: Slot, candidate: Candidate, started: float, *, force: bool) -> Generation:
        old = slot.current
        if old is not None and old.candidate.exclusive and candidate.exclusive:
            return await self._replace_exclusive(slot, old, candidate, started, force=force)
        return await self._attempt(slot, candidate, old, force=force)

    async def _attempt(self, slot: Slot, candidate: Candidate, old: Generation | None, *, force: bool) -> Generation:
        attempt = Attempt(self._workshop, slot, candidate)
        self._attempts.add(attempt)
        slot.pending_provider = candidate.provider
        if old is None:
            slot.state = "activating"
        try:
            return await attempt.prepare(old, force=force)
        except Exception as error:  # noqa: BLE001 - raised again below, as an error of ours
            try:
                await self._drainer.discard(attempt)
            finally:  # also when the caller is cancelled meanwhile
                failed = self._failed(attempt, error)
            cause = self._workshop.reasons.behind(failed, error)
        except BaseException as error:  # cancelled: the caller stops waiting, what was begun is still undone
            self._failed(attempt, error)
            await self._drainer.discard(attempt)
            raise
        finally:
            self._attempts.discard(attempt)
        # Out here, so that a cause that is withheld does not hang on as context.
        raise failed from cause

    def _failed(self, attempt: Attempt, error: BaseException) -> LifecycleError:
        """Record a failed attempt in status and event, and return the error that says the same."""
        slot, provider, reason = attempt.slot, attempt.candidate.provider, self._workshop.reasons.of(error)
        bound = self._record_failure(slot, provider, attempt.step, reason, attempt.number)
        domain, key, tenant = slot.name
        kind = SwapError if bound else ActivationError
        hint = error.hint if isinstance(error, OneiricError) else None
        hint = hint and self._workshop.reasons.masked(hint)
        return kind(domain, key, provider, attempt.step, reason, bound, tenant, hint)

    def _record_failure(self, slot: Slot, provider: str, step: str, reason: str, number: int) -> bool:
        """Write a failure into status and event; return whether an older generation goes on serving."""
        bound = slot.current is not None
        now = slot.last_change_at = self._clock()
        slot.pending_provider = None
        slot.failed += 1
        slot.last_error = f"{step} failed: {reason}"
        slot.state = "ready" if bound else "failed"
        revision = self._resolver.revision
        self._emit(SwapFailed(now, *slot.name, provider, number, step, reason, bound, revision))
        return bound

    async def _replace_exclusive(
        self, slot: Slot, old: Generation, candidate: Candidate, started: float, *, force: bool
    ) -> Generation:
        """Break before make: two instances cannot exist at once, so the old one goes first."""
        domain, key, tenant = slot.name
        if old.in_flight and not force:
            reason = f"{old.candidate} is exclusive and {old.in_flight} leases are held on it"
            self._record_failure(slot, candidate.provider, "exclusive", reason, slot.generations)
            raise SwapError(
                domain, key, candidate.provider, "exclusive", reason, True, tenant, "release them, or force"
            )
        slot.current = None
        slot.state = "activating"
        old.retiring = True
        retiring = self._drainer.own(self._drainer.retire(slot, old, force=True, until_gone=True))
        try:
            if not retiring.done():
                await self._gap(slot, candidate, retiring)
            return await self._attempt(slot, candidate, None, force=force)
        except BaseException as error:  # cancelled or failed: the key must not be left without its old provider
            failure = slot.last_error
            await self._drainer.see_through(self._restore(slot, old.candidate, started, retiring))
            slot.last_error = failure
            if not isinstance(error, ActivationError):
                raise
            raise SwapError(domain, key, candidate.provider, error.step, error.reason, True, tenant) from error

    async def _gap(self, slot: Slot, candidate: Candidate, retiring: "asyncio.Task[None]") -> None:
        """Wait until what goes first is gone; being cancelled or closed here is a failure of the swap."""
        try:
            await asyncio.wait((retiring,))
            self._refuse_ended()
        except BaseException as error:
            reason = self._workshop.reasons.of(error)
            self._record_failure(slot, candidate.provider, "exclusive", reason, slot.generations)
            raise

    async def _restore(
        self, slot: Slot, candidate: Candidate, started: float, retiring: "asyncio.Task[None] | None" = None
    ) -> None:
        if retiring is not None and not retiring.done():
            await asyncio.wait((retiring,))
        change = _Change(Request(slot, lambda: candidate))
        change.new = await self._attempt(slot, candidate, None, force=True)
        self._bind([change], started)

    def _bind(self, changes: "list[_Change]", started: float) -> None:
        """Bind every new generation in one go, with the selections that go with them, and announce it."""
        now, elapsed = self._clock(), asyncio.get_running_loop().time() - started
        selections: dict[tuple[str, str, str | None], Selection | None] = {}
        runtime = self._resolver._current.runtime  # noqa: SLF001 - resolver and lifecycle are one distribution
        for change in changes:
            request, name = change.request, change.slot.name
            chosen = runtime.get(name)
            if request.select:
                if chosen is None or chosen.provider != change.new.provider:
                    selections[name] = Selection(change.new.provider, "swap", request.by, now)
            elif chosen is not None and request.select is False:
                selections[name] = None
        if selections:
            with self._resolver._selecting(selections) as publish:  # noqa: SLF001 - as above
                self._assign(changes, now, elapsed)
                publish()
        else:
            self._assign(changes, now, elapsed)
        for change in changes:
            self._announce(change, now, elapsed)

    def _assign(self, changes: "list[_Change]", now: float, elapsed: float) -> None:
        """Make the binding: assignments and counts, nothing that could fail or let another task run."""
        for change in changes:
            slot, old = change.slot, change.slot.current
            self._order += 1
            change.new.order = self._order
            slot.current = change.new
            change.old = old
            if old is not None:
                old.retiring = True
                change.in_flight = old.in_flight
            slot.state = "ready"
            slot.retired = False
            slot.pending_provider = None
            slot.last_error = None
            slot.last_change_at = slot.last_activated_at = now
            slot.succeeded += 1
            slot.durations_ms.append(elapsed * 1000.0)

    def _announce(self, change: "_Change", now: float, elapsed: float) -> None:
        slot, new, old = change.slot, change.new, change.old
        self._resolver._journal_bound(now, "bound", slot.name, new.candidate)  # noqa: SLF001 - as above
        if self._emit:
            previous = None if old is None else old.provider
            number = self._resolver.revision
            self._emit(Bound(now, *slot.name, new.provider, new.number, previous, elapsed, change.in_flight, number))

    async def _finish(self, changes: "list[_Change]") -> None:
        """Tell the post_swap hooks and drain what was replaced, in owned tasks that a cancelled caller leaves alone."""
        hooked = bool(self._workshop.hooks.post_swap)
        if len(changes) == 1 and not hooked:
            if changes[0].old is not None:
                await self._drainer.retire(changes[0].slot, changes[0].old)
            return
        tasks = [self._drainer.own(self._finish_one(change)) for change in changes if hooked or change.old is not None]
        waiting = [task for task in tasks if not task.done()]
        if waiting:
            await asyncio.wait(waiting)

    async def _finish_one(self, change: "_Change") -> None:
        old = change.old
        for hook in tuple(self._workshop.hooks.post_swap):
            await self._tell(hook, change.slot, change.new, None if old is None else old.instance)
        if old is not None:
            await self._drainer.retire(change.slot, old)

    async def _tell(self, hook: Callable[[Any, Any, Any], Any], slot: Slot, new: Generation, old: Any) -> None:
        runner = self._drainer.runner(slot)
        try:
            seconds = self._workshop.timeouts.hook_seconds
            await runner.run("post_swap", seconds, hook, new.candidate, new.instance, old)
        except Exception as error:  # noqa: BLE001 - the swap stands whatever a hook thinks of it
            name = getattr(hook, "__qualname__", repr(hook))
            self._emit(
                HookFailed(self._clock(), *slot.name, new.provider, new.number, name, self._workshop.reasons.of(error))
            )

    def close(self) -> None:
        """Refuse every change from now on, and make the ones under way fail."""
        self.closed = True
        self.end()

    def end(self) -> None:
        """Start nothing from now on, and make the starts under way fail; what serves can still be retired."""
        self.ended = True
        for attempt in tuple(self._attempts):
            attempt.runner.abort(InactiveError("the lifecycle is closing"))
