"""Activator: which slot a name means, what is to serve there, and the first activation that callers share."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from oneiric.core._candidate import Candidate
from oneiric.core._drain import Drainer
from oneiric.core._generation import Generation
from oneiric.core._key import Key
from oneiric.core._live import LiveProxy
from oneiric.core._locking import refuse_reentry, waiting_for
from oneiric.core._observers import Emitter
from oneiric.core._registry import Slot as SlotName
from oneiric.core._resolver import Resolver
from oneiric.core._slot import Slot, SlotTable
from oneiric.core._swapping import Request, Swapper
from oneiric.core.errors import InactiveError, LifecycleError, OneiricError
from oneiric.core.events import Retired

if TYPE_CHECKING:
    from oneiric.core._attempt import Workshop

__all__ = ["Activator", "slot_name"]


def slot_name(domain: str | Key[Any], key: str | None, tenant: str | None) -> SlotName:
    """Return the name of a slot from the ways a caller may state it.

    Raises:
        LifecycleError: A string domain came without a key.
    """
    if isinstance(domain, Key):
        return (domain.domain, domain.name, tenant)
    if key is None:
        raise LifecycleError(f"no key was named in domain {domain!r}", "pass a domain and a key, or a Key")
    return (domain, key, tenant)


def _serves_nothing(request: Request) -> bool:
    return request.slot.current is None


class Activator:
    """Everything of a manager that is not its public face."""

    __slots__ = ("_clock", "_closing", "_emit", "_loop", "drainer", "resolver", "slots", "swapper")

    def __init__(
        self,
        resolver: Resolver,
        emit: Emitter,
        clock: Callable[[], float],
        workshop: "Callable[[Callable[..., Any]], Workshop]",
        *,
        force: bool,
    ) -> None:
        self._clock = clock
        self._emit = emit
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Task[None] | None = None
        self.resolver = resolver
        self.slots = SlotTable()
        made = workshop(self._provide)
        self.drainer = Drainer(made, emit, clock, force=force)
        self.swapper = Swapper(resolver, made, self.drainer, emit, clock)

    @property
    def used(self) -> bool:
        """Whether a loop was ever bound."""
        return self._loop is not None

    def check_loop(self) -> None:
        """Bind to the running loop, or raise when it is another one than before.

        Raises:
            LifecycleError: The manager belongs to another event loop.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                raise LifecycleError(
                    "this LifecycleManager is bound to another event loop",
                    "make one per loop, or ask from that loop",
                )
            self._loop = loop

    # -- which slot, and what should serve there ---------------------------------------------------------------

    def slot(self, name: SlotName, provider: str | None = None, *, own: bool = False) -> Slot:
        """Return the slot a name means.

        A tenant has a slot of its own only where it has a selection of its own, or is about to get one.

        Args:
            name: Domain, key and tenant.
            provider: A provider to be had whether or not it is the active one: the main slot's when that serves it,
                or would, else a slot beside it.
            own: True when the tenant is about to get its own selection.
        """
        domain, key, tenant = name
        if tenant is not None and not own and self.resolver._current.own_selection(name) is None:  # noqa: SLF001 - one distribution
            name = (domain, key, None)
        if provider is None:
            return self.slots.get(name)
        main = self.slots.get(name)
        serves = self._would_serve(main) if main.current is None else main.current.provider
        return main if serves == provider else self.slots.get(name, provider)

    def _would_serve(self, slot: Slot) -> str | None:
        try:
            return self.winner(slot).provider
        except OneiricError:
            return None

    def winner(self, slot: Slot) -> Candidate:
        """Return what ranks first for a slot.

        Raises:
            ResolutionError: Nothing can be chosen.
        """
        domain, key, tenant = slot.name
        return self.resolver.resolve(domain, key, provider=slot.beside, tenant=tenant)

    def request(self, slot: Slot, provider: str | None, by: str | None) -> Request:
        """Return the request of a swap: a named provider is selected, an unnamed one lets the configuration decide."""
        domain, key, tenant = slot.name
        if provider is None:
            return Request(slot, lambda: self.resolver._resolve_configured(slot.name), select=False)  # noqa: SLF001 - as above
        return Request(
            slot,
            lambda: self.resolver.resolve(domain, key, provider=provider, tenant=tenant),
            select=True,
            by=by,
        )

    def is_withdrawn(self, candidate: Candidate) -> bool:
        """Tell whether a candidate is no longer on offer."""
        ladder = self.resolver._current.ladder(candidate.domain, candidate.key)  # noqa: SLF001 - as above
        return not any(row.candidate.identity == candidate.identity for row in ladder)

    def active_provider(self, domain: str, key: str, tenant: str | None) -> str | None:
        """Return the provider that serves, for explanations."""
        name: SlotName = (domain, key, tenant)
        if tenant is not None and self.resolver._current.own_selection(name) is None:  # noqa: SLF001 - as above
            name = (domain, key, None)
        slot = self.slots.find(name)
        return None if slot is None or slot.current is None else slot.current.candidate.provider

    # -- first use ----------------------------------------------------------------------------------------------

    async def first_use(self, slot: Slot) -> Generation:
        """Activate a slot that a lease, a live proxy or a handle asks for.

        Raises:
            InactiveError: It was retired.
        """
        self.check_loop()
        self._refuse_retired(slot)
        return await self.activated(slot, None, force=False, revives=False)

    async def activated(self, slot: Slot, provider: str | None, *, force: bool, revives: bool = True) -> Generation:
        """Return what serves in a slot, activating it if need be; concurrent callers share one attempt.

        Args:
            slot: The slot.
            provider: The provider to activate when nothing serves yet.
            force: Bind even what reports itself unhealthy.
            revives: Start also what was retired.

        Raises:
            InactiveError: It was retired, perhaps while this waited for its turn, and *revives* is False.
            ResolutionError: Nothing can be chosen.
            ActivationError: A step failed; everyone who waited for the attempt gets the same.
        """
        while (generation := slot.current) is None:
            if slot.attempt is None:
                await self._attempt(slot, provider, force=force, revives=revives)
                continue
            refuse_reentry(slot)
            attempt = slot.attempt
            with waiting_for(slot):
                await asyncio.wait((attempt,))
            if not attempt.cancelled() and (error := attempt.exception()) is not None:
                if revives and slot.retired and isinstance(error, InactiveError):
                    continue  # that was a first use's answer
                raise error
        return generation

    async def _attempt(self, slot: Slot, provider: str | None, *, force: bool, revives: bool) -> None:
        """Activate a slot for everyone who asks meanwhile; when cancelled, the next of them starts over."""
        attempt = slot.attempt = asyncio.get_running_loop().create_future()
        try:
            request = self._first_request(slot, provider) if revives else Request(slot, lambda: self._usable(slot))
            await self.swapper.swap([request], force=force, wanted=_serves_nothing)
        except Exception as error:
            attempt.set_exception(error)
            attempt.exception()  # looked at: there may be nobody waiting
            raise
        finally:
            slot.attempt = None
            if not attempt.done():
                attempt.cancel()

    def _usable(self, slot: Slot) -> Candidate:
        self._refuse_retired(slot)
        return self.winner(slot)

    def _refuse_retired(self, slot: Slot) -> None:
        if slot.retired:
            raise InactiveError(f"{slot} was retired", "activate() or swap() to start it again")

    def _first_request(self, slot: Slot, provider: str | None) -> Request:
        if provider is None:
            return Request(slot, lambda: self.winner(slot))
        named = self.request(slot, provider, None)
        # What ranks first anyway needs no selection to make resolution and service agree.
        return Request(slot, named.resolve) if self._would_serve(slot) == provider else named

    def _provide(self, needs: Mapping[str, Key[Any]], tenant: str | None) -> Any:
        async def provide() -> dict[str, Any]:
            proxies: dict[str, Any] = {}
            for parameter, key in needs.items():
                name = (key.domain, key.name, tenant)
                slot = self.slot(name)
                if slot.current is None:
                    await self.first_use(slot)
                proxies[parameter] = LiveProxy(self, name, None)
            return proxies

        return provide()

    # -- retiring -----------------------------------------------------------------------------------------------

    def unbind(self, slot: Slot, generation: Generation) -> Generation:
        """Take what serves out of a slot; assignments only. The caller holds the slot's lock."""
        slot.current = None
        generation.retiring = True
        slot.state = "retired"
        slot.retired = True
        at = slot.last_change_at = self._clock()
        slot.last_error = None
        self.resolver._journal_bound(at, "retired", slot.name, None)  # noqa: SLF001 - as above
        self._emit(Retired(at, *slot.name, generation.provider, generation.number))
        return generation

    async def retire(self, slot: Slot, *, forget: bool = False, orphan: bool = False) -> bool:
        """Drain and clean up what serves in a slot, which stays retired, or is forgotten before the drain begins.

        Args:
            slot: The slot.
            forget: Leave it as if it was never used, without what a swap selected for it.
            orphan: The same, unless its tenant has a selection of its own by the time it is locked.

        Returns:
            Whether something served.
        """
        generation: Generation | None = None
        async with self.swapper.locked([slot]):
            if orphan and self.resolver._current.own_selection(slot.name) is not None:  # noqa: SLF001 - one distribution
                return False
            if slot.current is not None:
                generation = self.unbind(slot, slot.current)
            slot.state, slot.retired = ("inactive", False) if forget or orphan else ("retired", True)
            if forget and slot.beside is None:
                self.forget_selection(slot.name)
        if generation is not None:
            await self.drainer.retire(slot, generation)
        return generation is not None

    def forget_selection(self, name: SlotName) -> None:
        """Let the configuration decide again what a swap selected."""
        with self.resolver._selecting({name: None}) as publish:  # noqa: SLF001 - one distribution
            publish()

    async def close(self, cleanup_seconds: float | None, drain_seconds: float | None = None) -> None:
        """Retire everything, last activated first, at the drain deadline also under leases.

        A caller that is cancelled leaves that to go on, and a second one waits for it.
        """
        self.swapper.close()
        if drain_seconds is not None:
            self.drainer.end_by(drain_seconds)
        closing = self._closing
        if closing is None or closing.done():
            closing = self._closing = self.drainer.own(self._close(cleanup_seconds))
        elif drain_seconds is not None:
            await self.drainer.end_drains()
        if not closing.done():
            await asyncio.wait((closing,))
        closing.result()

    async def _close(self, cleanup_seconds: float | None) -> None:
        retiring: list[tuple[Slot, Generation]] = []
        for slot in self.slots.all():
            async with slot.lock:
                if slot.current is not None:
                    retiring.append((slot, self.unbind(slot, slot.current)))
        retiring.sort(key=lambda pair: pair[1].order, reverse=True)
        for slot, generation in retiring:
            await self.drainer.retire(slot, generation, force=True)
        await self.drainer.end_drains()
        await self.drainer.settle(cleanup_seconds)
