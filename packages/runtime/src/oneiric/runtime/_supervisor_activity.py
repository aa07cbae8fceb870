"""What a supervisor knows of activity: the store's last good word, and who wants to hear when it changes.

A store that is locked, broken or hangs never stops supervision: what was known stays in force, so that what was paused
stays paused, and the problem is reported.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from oneiric.core.errors import DeadlineError
from oneiric.runtime._supervisor_steps import Steps, reason_of
from oneiric.runtime._supervisor_tasks import report

__all__ = ["ActivityListener", "ActivityReading", "ActivitySource", "ActivitySurface", "ActivityWatch"]


class ActivityReading(Protocol):
    """Whether a key takes new work."""

    @property
    def paused(self) -> bool:
        """It takes no new work."""

    @property
    def draining(self) -> bool:
        """It takes no new work and finishes what it has."""


class ActivitySource(Protocol):
    """Where pauses are kept. What a store cannot do is raised; a supervisor bears that.

    It may also have ``add_listener(callback) -> unsubscribe``, which tells of changes made in this process at once;
    and ``problem``, a sentence or None.
    """

    def get(self, domain: str, key: str) -> ActivityReading:
        """Return the state of a key at this moment, from memory."""

    async def refresh(self) -> object:
        """Read what other processes changed."""

    def snapshot(self) -> Mapping[str, Mapping[str, ActivityReading]]:
        """Return what is known: domain → key → state; keys that simply work may be left out."""


#: Called with domain, key and the state that key is in now.
type ActivityListener = Callable[[str, str, ActivityReading], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Active:
    """The state of a key that nobody paused."""

    paused: bool = False
    draining: bool = False
    note: str | None = None


ACTIVE: Final[ActivityReading] = _Active()
#: A read of the store that takes longer is given up. A store waits less for a lock, so that it can tell of that itself.
REFRESH_SECONDS: Final = 10.0

type _Known = dict[tuple[str, str], ActivityReading]


class ActivityWatch:
    """The activity of all keys as last known.

    Args:
        source: The store; None knows of no pause.
        changed: Told after any change, once the listeners are.

    Attributes:
        problem: Why what is known may be out of date, or None.
    """

    def __init__(self, source: ActivitySource | None, changed: Callable[[], None]) -> None:
        self._source = source
        self._changed = changed
        self._known: _Known = {}
        self._listeners: tuple[tuple[str | None, ActivityListener], ...] = ()
        self._problem: str | None = None
        self._steps = Steps()
        self._refreshing: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], object] | None = None

    @property
    def problem(self) -> str | None:
        """Why what is known may be out of date: what this met, else what the store says of itself."""
        told = getattr(self._source, "problem", None)
        return self._problem or (None if told is None else str(told))

    def follow(self) -> None:
        """Hear of changes made in this process at once, where the store tells of them."""
        subscribe = getattr(self._source, "add_listener", None)
        if subscribe is None or self._unsubscribe is not None:
            return
        loop = asyncio.get_running_loop()

        def told(*_: object) -> None:
            if not loop.is_closed():  # the store may tell from any thread
                loop.call_soon_threadsafe(self.compare)

        self._unsubscribe = subscribe(told)

    def unfollow(self) -> None:
        """Hear of nothing any more, and end a read in progress."""
        if self._refreshing is not None:
            self._refreshing.cancel()
        unsubscribe, self._unsubscribe = self._unsubscribe, None
        if unsubscribe is not None:
            unsubscribe()

    async def refresh(self) -> None:
        """Read the store, or keep what is known and say why; concurrent callers share one read. Never fails."""
        if self._source is None:
            return
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.ensure_future(self._refresh(self._source.refresh))
        await asyncio.wait({self._refreshing})

    async def _refresh(self, read: Callable[[], Awaitable[object]]) -> None:
        if self._steps.abandoned:
            return  # an earlier read still hangs: a second one would hang beside it
        try:
            await self._steps.run("reading the activity store", REFRESH_SECONDS, read)
        except DeadlineError as error:
            self._problem = str(error)
        except Exception as error:  # noqa: BLE001 - whatever a store does, supervision goes on
            self._problem = f"reading the activity store failed: {reason_of(error)}"
        else:
            self._problem = None
        self.compare()

    def compare(self) -> None:
        """Tell the listeners what changed since the last time."""
        if self._source is None:
            return
        try:
            stated = self._source.snapshot()
            known = {(domain, key): state for domain, keys in stated.items() for key, state in keys.items()}
        except Exception as error:  # noqa: BLE001 - as above; what is known stays in force
            self._problem = f"the activity store cannot be read: {reason_of(error)}"
            return
        before, self._known = self._known, known
        changed = [name for name in {**before, **known} if _differ(before.get(name, ACTIVE), known.get(name, ACTIVE))]
        for domain, key in changed:
            for wanted, listener in self._listeners:
                if wanted in {None, domain}:
                    self._tell(listener, domain, key, known.get((domain, key), ACTIVE))
        if changed:
            self._changed()

    def add_listener(
        self, listener: ActivityListener, *, domain: str | None, fire_immediately: bool
    ) -> Callable[[], None]:
        """Add a listener; see `ServiceSupervisor.add_listener`."""
        entry = (domain, listener)
        self._listeners = (*self._listeners, entry)
        if fire_immediately:
            for (of, key), state in tuple(self._known.items()):
                if domain in {None, of}:
                    self._tell(listener, of, key, state)

        def unsubscribe() -> None:
            self._listeners = tuple(other for other in self._listeners if other is not entry)

        return unsubscribe

    def _tell(self, listener: ActivityListener, domain: str, key: str, state: ActivityReading) -> None:
        try:
            listener(domain, key, state)
        except Exception as error:  # noqa: BLE001 - a listener must never undo what it is told of
            report(f"activity listener {listener!r} failed on {domain}:{key}", error)

    def state(self, domain: str, key: str) -> ActivityReading:
        """Return the state of a key: the store's word now, else the last known one."""
        if self._source is not None:
            try:
                return self._source.get(domain, key)
            except Exception as error:  # noqa: BLE001 - as above
                self._problem = f"the activity store cannot be read: {reason_of(error)}"
        return self._known.get((domain, key), ACTIVE)

    def accepts(self, domain: str, key: str) -> bool:
        """Tell whether a key takes new work."""
        state = self.state(domain, key)
        return not (state.paused or state.draining)

    def snapshot(self) -> dict[str, dict[str, ActivityReading]]:
        """Return what is known: domain → key → state."""
        plain: dict[str, dict[str, ActivityReading]] = {}
        for (domain, key), state in self._known.items():
            plain.setdefault(domain, {})[key] = state
        return plain


def _differ(one: ActivityReading, other: ActivityReading) -> bool:
    if one is ACTIVE or other is ACTIVE:  # the store may spell out what nobody paused, in its own type
        return (one.paused, one.draining) != (other.paused, other.draining)
    return one != other


class ActivitySurface:
    """What a supervisor tells of activity to those who hand out work."""

    _activity: ActivityWatch

    def activity_state(self, domain: str, key: str) -> ActivityReading:
        """Return whether a key is paused or draining: the store's word now, else the last known one."""
        return self._activity.state(domain, key)

    def should_accept_work(self, domain: str, key: str) -> bool:
        """Tell whether a key takes new work: it is neither paused nor draining."""
        return self._activity.accepts(domain, key)

    async def refresh(self) -> None:
        """Look at the activity store now; never fails: a problem is in `info`, and what was known stays in force."""
        await self._activity.refresh()

    def snapshot(self) -> dict[str, dict[str, ActivityReading]]:
        """Return the activity as last known: domain → key → state."""
        return self._activity.snapshot()

    def add_listener(
        self, callback: ActivityListener, *, domain: str | None = None, fire_immediately: bool = False
    ) -> Callable[[], None]:
        """Call back whenever the activity of a key changes.

        Args:
            callback: Called with domain, key and state; what it raises goes to the loop's exception handler.
            domain: Only for keys of this domain; None is all.
            fire_immediately: Also call it now, for every key that is known.

        Returns:
            The call that ends this.
        """
        return self._activity.add_listener(callback, domain=domain, fire_immediately=fire_immediately)
