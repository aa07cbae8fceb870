"""Secrets of a running application: fetched when settings ask for them, used for a while, rotated without a gap.

Owned here: `SecretsHook`, which stands between settings and the ``secrets`` family (that family is not imported; the
hook is handed a way to lease a provider), `SecretsRefresh`, which rotates by the clock, and `Redactor`, which masks
known values in the text of others. No value is ever part of what these tell, log or raise.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Final

from oneiric.core import Secret
from oneiric.core.errors import AdapterTimeoutError, OneiricError, SecretNotFoundError, UnavailableError
from oneiric.core.events import Bound
from oneiric.runtime._secret_memory import SecretMemory
from oneiric.runtime._secret_ports import NoUsers, SecretReader, SecretsConfiguration, SecretSource, SecretUsers, Slot
from oneiric.runtime._secret_redaction import REDACTOR, Redactor
from oneiric.runtime._secret_refresh import SecretsRefresh
from oneiric.runtime._secret_report import RotationReport, SecretsInfo
from oneiric.runtime._secret_rotation import Rotation
from oneiric.runtime._secret_users import LifecycleUsers
from oneiric.runtime.logging import get_logger

__all__ = [
    "REDACTOR",
    "LifecycleUsers",
    "Redactor",
    "RotationReport",
    "SecretReader",
    "SecretSource",
    "SecretUsers",
    "SecretsConfiguration",
    "SecretsHook",
    "SecretsInfo",
    "SecretsRefresh",
    "Slot",
]

#: A secret manager throttles who asks for everything at once.
_AT_ONCE: Final = 8


class _Flight:
    """One fetch that all who ask meanwhile share; stale once the secret was invalidated under it."""

    __slots__ = ("is_stale", "task")

    def __init__(self, task: "asyncio.Task[Secret]") -> None:
        self.task = task
        self.is_stale = False


class SecretsHook:
    """Give out secrets by their ids: those in the settings first, then the provider's, kept for a while.

    Concurrent first readers share one fetch. What is missing, or cannot be read, is never remembered. Bound to the
    event loop it is first used from.

    Args:
        settings: The section ``secrets``.
        source: Leases the provider: ``lambda: lifecycle.lease("adapter", "secrets")``.
        users: Whom a rotation replaces; by default nobody. `users` sets it later.
        redactor: Told of every secret; by default the process's.
        clock: Seconds that only go forward.
        wall_clock: Seconds since the epoch, for reports.
        timeout_seconds: How long a fetch may take, the provider's first start included.
    """

    def __init__(
        self,
        settings: SecretsConfiguration,
        *,
        source: SecretSource,
        users: SecretUsers | None = None,
        redactor: Redactor | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        timeout_seconds: float = 30.0,
    ) -> None:
        self._settings = settings
        self._source = source
        self._redactor = REDACTOR if redactor is None else redactor
        self._clock, self._wall_clock = clock, wall_clock
        self._timeout_seconds = timeout_seconds
        self._memory = SecretMemory(settings.cache_ttl_seconds, clock)
        self._flights: dict[str, _Flight] = {}
        #: What a rotation under way gives out: new instances are built with it before it is known to be good.
        self._trial: dict[str, Secret] = {}
        self._rotating = asyncio.Lock()
        self._fetches = self._failures = 0
        self._last_rotation: RotationReport | None = None
        self._listeners: dict[object, Callable[[RotationReport], object]] = {}
        #: Whom a rotation replaces.
        self.users: SecretUsers = users or NoUsers()
        #: Set, and replaced by another, when other settings are put in force.
        self.updated = asyncio.Event()
        self._redactor.add(*settings.inline.values())

    @property
    def settings(self) -> SecretsConfiguration:
        """The section in force."""
        return self._settings

    def update(self, settings: SecretsConfiguration) -> frozenset[str]:
        """Put another section in force; return the ids of inline secrets that differ, to be given to `rotate`.

        Values that came from a provider are fetched anew if it may be another one now.
        """
        before, self._settings = self._settings, settings
        self._redactor.add(*settings.inline.values())
        self._memory.ttl_seconds = settings.cache_ttl_seconds
        self.updated.set()
        self.updated = asyncio.Event()
        if (before.domain, before.key, before.provider) != (settings.domain, settings.key, settings.provider):
            self.invalidate()
        ids = {*before.inline, *settings.inline}
        return frozenset(one for one in ids if before.inline.get(one) != settings.inline.get(one))

    async def get(self, secret_id: str) -> Secret:
        """Return a secret.

        Raises:
            SecretNotFoundError: There is none of that id.
            AdapterTimeoutError: The provider did not answer in time.
            OneiricError: The provider cannot be started, or cannot read it.
        """
        while True:
            found = self._at_hand(secret_id)
            if found is None:
                flight = self._flights.get(secret_id) or self._take_off(secret_id)
                # One who stops waiting does not stop the others.
                try:
                    found = await asyncio.shield(flight.task)
                except OneiricError:
                    if not flight.is_stale:
                        raise
                if found is None or flight.is_stale:
                    continue  # invalidated meanwhile: what arrived may be the old value, or an error of then
            self._memory.give(secret_id, found)
            return found

    async def prefetch(self, ids: Iterable[str]) -> None:
        """Fetch *ids* now, so that the first use does not wait.

        Raises:
            SecretNotFoundError: Some are missing; all of those are named.
            OneiricError: One cannot be read.
        """
        found = await asyncio.gather(*map(self.get, dict.fromkeys(ids)), return_exceptions=True)
        missing = [one for one in found if isinstance(one, SecretNotFoundError)]
        for one in found:
            if isinstance(one, BaseException) and one not in missing:
                raise one
        if len(missing) == 1:
            raise missing[0]
        if missing:
            raise SecretNotFoundError("; ".join(one.message for one in missing), missing[0].hint)

    def invalidate(self, ids: Iterable[str] | None = None) -> int:
        """Forget *ids*, or all: the next reader fetches. Nothing is swapped by this; `rotate` does that.

        Returns:
            How many values were held.
        """
        names = None if ids is None else frozenset(ids)
        self.supersede([*self._flights] if names is None else names)
        return self._memory.drop(names)

    def supersede(self, ids: Iterable[str]) -> None:
        """Let what is on its way of *ids* be fetched again by those who wait for it."""
        for one in ids:
            flight = self._flights.pop(one, None)
            if flight is not None:
                flight.is_stale = True

    def on_event(self, event: object) -> None:
        """Forget everything when another provider begins to serve; an observer for ``lifecycle.observe``."""
        if isinstance(event, Bound) and (event.domain, event.key) == (self._settings.domain, self._settings.key):
            self.invalidate()

    def observe(self, listener: Callable[[RotationReport], object]) -> Callable[[], None]:
        """Call *listener* after each rotation that changed something; return the call that stops it.

        For those who hold secrets and are no slots of a lifecycle, such as a server's keys.
        """
        token = object()
        self._listeners[token] = listener

        def stop() -> None:
            self._listeners.pop(token, None)

        return stop

    async def rotate(self, ids: Iterable[str] | None = None, *, by: str | None = None) -> RotationReport:
        """Fetch secrets anew, and swap everything active whose settings use one that changed, all or none.

        Until the new instances serve, nothing that was cached is forgotten; if one of them fails, the old instances
        go on with the old values, which stay cached for the rest of their time. Rotations run one after another.

        Args:
            ids: By default every secret that was ever given out.
            by: Who asked; the report names them.

        Raises:
            SecretNotFoundError: One is missing now.
            SwapError: A new instance did not start, or is unhealthy; ``step`` names where.
            OneiricError: One cannot be read, or new settings would not be valid. `info` has the report of it.
        """
        async with self._rotating:
            rotation = Rotation(self, self._memory, self._trial, self._clock)
            started, at = self._clock(), self._wall_clock()
            try:
                await rotation.run(None if ids is None else frozenset(ids))
            except OneiricError as error:
                rotation.fail(self._redactor.mask(error.message))
                raise
            except BaseException as error:
                rotation.fail("it was cancelled" if isinstance(error, asyncio.CancelledError) else type(error).__name__)
                raise
            finally:
                self._trial.clear()
                self._last_rotation = rotation.report(by=by, at=at, duration_seconds=self._clock() - started)
            self._tell(self._last_rotation)
            return self._last_rotation

    def _tell(self, report: RotationReport) -> None:
        for listener in [*self._listeners.values()] if report.rotated else ():
            try:
                listener(report)
            except Exception as error:  # noqa: BLE001 - the rotation stands, whatever those who hear of it do
                get_logger("oneiric.secrets").error("rotation-listener-failed", reason=type(error).__name__)

    def info(self) -> SecretsInfo:
        """Return counts, ages and the last rotation; never a value."""
        return SecretsInfo(
            provider=self._settings.provider,
            cache_ttl_seconds=self._settings.cache_ttl_seconds,
            refresh_interval=self._settings.refresh_interval,
            inline_entries=len(self._settings.inline),
            cached=self._memory.ages(),
            fetches=self._fetches,
            failures=self._failures,
            last_rotation=self._last_rotation,
        )

    async def read(self, ids: Collection[str]) -> dict[str, Secret | None]:
        """Ask the provider for *ids*, past every cache; None stands for those it does not have.

        Raises:
            OneiricError: It cannot be started, or cannot read one.
        """
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(provider: SecretReader, secret_id: str) -> Secret | None:
            async with gate:
                return await provider.get_secret(secret_id)

        async def all_of_them() -> dict[str, Secret | None]:
            async with self._source() as provider:
                await provider.invalidate_cache(ids)
                async with asyncio.TaskGroup() as group:
                    tasks = {name: group.create_task(one(provider, name)) for name in ids}
            return {name: task.result() for name, task in tasks.items()}

        found = await self._guarded(all_of_them(), f"{len(ids)} secrets")
        self._redactor.add(*(secret for secret in found.values() if secret is not None))
        return found

    def absent(self, ids: Iterable[str]) -> SecretNotFoundError:
        """Return the error that names ids no provider has."""
        provider = self._settings.provider
        which = f"{self._settings.domain}:{self._settings.key}" + (f" provider {provider!r}" if provider else "")
        names = ", ".join(repr(one) for one in sorted(ids))
        return SecretNotFoundError(f"there is no secret {names} in {which}", "add it there, or to secrets.inline")

    def _at_hand(self, secret_id: str) -> Secret | None:
        for held in (self._settings.inline, self._trial):
            if secret_id in held:
                return held[secret_id]
        return self._memory.get(secret_id)

    def _take_off(self, secret_id: str) -> _Flight:
        flight = _Flight(asyncio.create_task(self._fetch(secret_id), name=f"fetch of secret {secret_id}"))

        def land(task: "asyncio.Task[Secret]") -> None:
            if self._flights.get(secret_id) is flight:
                del self._flights[secret_id]
            if not task.cancelled():
                task.exception()  # looked at: everyone who waited may have stopped waiting

        self._flights[secret_id] = flight
        flight.task.add_done_callback(land)
        return flight

    async def _fetch(self, secret_id: str) -> Secret:
        started = self._clock()
        mine = self._flights[secret_id]

        async def ask() -> Secret | None:
            async with self._source() as provider:
                return await provider.get_secret(secret_id)

        found = await self._guarded(ask(), f"secret {secret_id!r}")
        if found is None:
            raise self.absent([secret_id])
        self._redactor.add(found)
        if not mine.is_stale:
            self._memory.put(secret_id, found, started)
        return found

    async def _guarded[T](self, asking: Awaitable[T], what: str) -> T:
        """Ask the provider; whatever goes wrong is an error of ours, and shows no value."""
        self._fetches += 1
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await asking
        except OneiricError:
            self._failures += 1
            raise
        except TimeoutError:
            problem: OneiricError = AdapterTimeoutError(
                f"{what} did not arrive within {self._timeout_seconds:g} s", "whether the provider can be reached"
            )
        except Exception as error:  # noqa: BLE001 - a provider's stray error may hold the value it read
            cause = _first_of(error)
            unknown = UnavailableError(f"{what} cannot be read: {type(cause).__name__}")
            problem = cause if isinstance(cause, OneiricError) else unknown
        self._failures += 1
        # Out here nothing of theirs hangs on to it: neither as cause nor as context.
        raise problem


def _first_of(error: BaseException) -> BaseException:
    """Return the error, or of a group the first one, one of ours before any other."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    inner = [_first_of(one) for one in error.exceptions]
    return next((one for one in inner if isinstance(one, OneiricError)), inner[0])
