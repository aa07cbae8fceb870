"""One rotation: read, try, and only when everything new serves, forget the old."""

from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from oneiric.core import Secret
from oneiric.core.errors import SecretNotFoundError
from oneiric.runtime._secret_memory import SecretMemory
from oneiric.runtime._secret_ports import SecretsConfiguration, SecretUsers, Slot
from oneiric.runtime._secret_report import RotationReport, RotationStep

__all__ = ["Rotation"]


class _Hook(Protocol):
    users: SecretUsers

    @property
    def settings(self) -> SecretsConfiguration: ...

    async def read(self, ids: Collection[str]) -> dict[str, Secret | None]: ...

    def supersede(self, ids: Iterable[str]) -> None: ...

    def absent(self, ids: Iterable[str]) -> SecretNotFoundError: ...


class Rotation:
    """What one call of `SecretsHook.rotate` does, and how far it got.

    Args:
        hook: Reads from the provider.
        memory: What is cached and what was given out; changed when everything new serves, and not before.
        trial: What the hook gives out meanwhile; filled here.
        clock: Seconds that only go forward.
    """

    def __init__(self, hook: _Hook, memory: SecretMemory, trial: dict[str, Secret], clock: Callable[[], float]) -> None:
        self._hook, self._memory, self._trial, self._clock = hook, memory, trial, clock
        self._inline: frozenset[str] = frozenset()
        self._rotated: frozenset[str] = frozenset()
        self._unchanged: frozenset[str] = frozenset()
        self._swapped: tuple[Slot, ...] = ()
        self._beside: tuple[str, ...] = ()
        self._step: RotationStep | None = "read"
        self._reason: str | None = None

    async def run(self, ids: frozenset[str] | None) -> None:
        """Rotate *ids*, or everything that was ever given out.

        Raises:
            OneiricError: A step failed; nothing was forgotten.
        """
        hook, memory = self._hook, self._memory
        asked = memory.known if ids is None else ids
        inline = {one: hook.settings.inline[one] for one in asked & hook.settings.inline.keys()}
        self._inline = frozenset(inline)
        started = self._clock()
        fresh = inline | await self._read(asked - self._inline, is_named=ids is not None)
        self._rotated = memory.changed(fresh)
        self._unchanged = frozenset(fresh) - self._rotated
        # What is on its way was asked for before this, and may be the old value.
        hook.supersede(self._rotated)
        self._trial.update({one: fresh[one] for one in self._rotated})
        await self._replace()
        memory.settle(fresh, started)
        memory.drop(self._inline)
        self._step = None

    async def _read(self, ids: frozenset[str], *, is_named: bool) -> dict[str, Secret]:
        found = await self._hook.read(ids) if ids else {}
        missing = {one for one, secret in found.items() if secret is None}
        if not is_named:
            # Once used, and nobody's now: that it is gone from the provider is how it should be.
            gone = {one for one in missing if not self._hook.users.users_of([one])}
            self._memory.forget(gone)
            missing -= gone
        if missing:
            raise self._hook.absent(missing)
        return {one: secret for one, secret in found.items() if secret is not None}

    async def _replace(self) -> None:
        users = self._hook.users
        if not self._rotated:
            return
        slots = users.users_of(self._rotated)
        self._step = "settings"
        await users.check(slots)
        self._step = "swap"
        if slots:
            self._swapped = await users.renew(slots)
        # Those that were on their way to their first instance, with the old value in hand, when the others were listed.
        late = tuple(slot for slot in users.users_of(self._rotated) if slot not in slots)
        if late:
            self._swapped += await users.renew(late)
        self._beside = users.beside(self._rotated)

    def fail(self, reason: str) -> None:
        """Note why it stopped."""
        self._reason = reason

    def report(self, *, by: str | None, at: float, duration_seconds: float) -> RotationReport:
        """Return what it did."""
        return RotationReport(
            rotated=tuple(sorted(self._rotated)),
            unchanged=tuple(sorted(self._unchanged)),
            inline=tuple(sorted(self._inline)),
            swapped=self._swapped,
            beside=self._beside,
            by=by,
            at=at,
            duration_seconds=duration_seconds,
            step=self._step,
            reason=self._reason,
        )
