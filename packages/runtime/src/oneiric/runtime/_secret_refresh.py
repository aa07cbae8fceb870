"""Refresh: rotate what changed, every so often."""

import asyncio
import random
from collections.abc import Callable
from typing import Protocol

from oneiric.core.errors import OneiricError
from oneiric.runtime._secret_ports import SecretsConfiguration
from oneiric.runtime._secret_report import RotationReport, SecretsInfo
from oneiric.runtime.logging import get_logger

__all__ = ["SecretsRefresh"]


class _Rotates(Protocol):
    updated: asyncio.Event

    @property
    def settings(self) -> SecretsConfiguration: ...

    async def rotate(self, *, by: str | None = None) -> RotationReport: ...

    def info(self) -> SecretsInfo: ...


class SecretsRefresh:
    """A part of the orchestrator: rotates every secret in use each ``secrets.refresh_interval``, a tenth more or less.

    The tenth keeps the instances of one service from asking their secret manager in step. A rotation that fails is
    logged and tried again at the next round. Another interval holds from the moment new settings are in force; without
    one nothing is rotated.

    Args:
        hook: The hook.
        jitter: Returns a number from 0 to 1, anew for each round.
    """

    name = "secrets"

    def __init__(self, hook: _Rotates, *, jitter: Callable[[], float] = random.random) -> None:
        self._hook = hook
        self._jitter = jitter
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin; the first round comes after an interval."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="refresh of secrets")

    async def stop(self) -> None:
        """End; a rotation under way is cancelled, and the old instances serve. Safe to call twice."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        while True:
            interval = self._hook.settings.refresh_interval
            try:
                async with asyncio.timeout(None if interval is None else interval * (0.9 + 0.2 * self._jitter())):
                    while self._hook.settings.refresh_interval == interval:
                        await self._hook.updated.wait()
            except TimeoutError:
                await self._round()

    async def _round(self) -> None:
        failed: dict[str, object]
        try:
            report = await self._hook.rotate(by="refresh")
        except OneiricError:
            last = self._hook.info().last_rotation or RotationReport()
            failed = {"step": last.step, "reason": last.reason, "ids": list(last.rotated)}
        except Exception as error:  # noqa: BLE001 - one round must not end all that would follow
            failed = {"reason": type(error).__name__}
        else:
            if report.rotated:
                swapped = [list(slot) for slot in report.swapped]
                get_logger("oneiric.secrets").info("secrets-rotated", ids=list(report.rotated), swapped=swapped)
            return
        get_logger("oneiric.secrets").error("secrets-not-rotated", **failed)
