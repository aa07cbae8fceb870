"""RemoteLoader: fetch, verify, stage, plan, apply, watch, commit; or what was before.

::

    loader = RemoteLoader(resolver, lifecycle, root=root, fetcher=SafeFetcher(), cache_dir=".oneiric_cache")
    await loader.restore()                      # the last good manifests, before the network is touched
    report = await loader.sync("https://updates.example.org/acme/manifest.json")

A sync that raises has changed nothing that serves. What it may have moved all the same is trust: a root or a
freshness document that was verified is remembered, so that an older one is never taken again.
"""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from oneiric.core.errors import FetchRefusedError, LifecycleError, OneiricError, UnhealthyError
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Resolver
from oneiric.core.snapshot import read_json, write_json
from oneiric.remote._sync_delivery import OWN, Delivery, InForce, Receiving, restored
from oneiric.remote._sync_mounts import Mounts
from oneiric.remote._sync_options import LoaderOptions
from oneiric.remote._sync_places import Fetcher, Place, is_network, place_at
from oneiric.remote._sync_staging import Stager, Staging
from oneiric.remote._sync_status import STATUS_FILE, RemoteStatus
from oneiric.remote._sync_store import RemoteStore, TrustMemory
from oneiric.remote._sync_values import PlannedSwap, RemotePlan, SyncFailed, SyncReport, Verdict
from oneiric.remote.apply import Change, Probation, Transaction, change_between, counts, planned_swaps
from oneiric.remote.trust import TrustedManifests, TrustRoot

__all__ = [
    "Fetcher",
    "LoaderOptions",
    "PlannedSwap",
    "RemoteLoader",
    "RemotePlan",
    "SyncFailed",
    "SyncReport",
    "Verdict",
    "is_network",
]

_MS: Final = 1000.0


@dataclass(slots=True)
class _Run:
    """One sync, as far as it has come."""

    source: str
    started: float
    step: str = "fetch"


class RemoteLoader:
    """Keep a registry in step with a publisher's manifests.

    Belongs to one event loop. One sync runs at a time; a second call waits for the first.

    Args:
        resolver: Where candidates are registered.
        lifecycle: What swaps them; None registers and swaps nothing (see `sync`, *apply*).
        root: Where trust starts; None knows no key, and takes only unsigned local files.
        fetcher: Gets what lies elsewhere; None reads local files only.
        cache_dir: Where trusted state, manifests, artifacts and status are kept.
        options: How it behaves.
        clock: Seconds since the epoch.
        trace: Opened around each sync, such as a span.
        on_step: Told the name of each step as it begins; for those who watch, and for tests that kill.

    Attributes:
        status: What is known of remote delivery; written to ``remote_status.json`` after each sync.
    """

    def __init__(
        self,
        resolver: Resolver,
        lifecycle: LifecycleManager | None = None,
        *,
        root: TrustRoot | None = None,
        fetcher: Fetcher | None = None,
        cache_dir: str | os.PathLike[str],
        options: LoaderOptions | None = None,
        clock: Callable[[], float] = time.time,
        trace: Callable[[], AbstractContextManager[object]] = nullcontext,
        on_step: Callable[[str], object] = str,
    ) -> None:
        self._resolver, self._lifecycle = resolver, lifecycle
        self._fetcher, self._clock = fetcher, clock
        self._options = options = options or LoaderOptions()
        self._trace, self._on_step = trace, on_step
        self._store = RemoteStore(cache_dir)
        self._memory = TrustMemory(self._store, root, options.client)
        self._status_path = Path(cache_dir) / STATUS_FILE
        self._stager = Stager(
            self._store.artifacts, options.factories, options.limits, installed_only=options.installed_only
        )
        self._mounts = Mounts(lifecycle)
        self._in_force = InForce()
        #: Publisher → digest of the manifests that were put back last.
        self._put_back: dict[str, str] = {}
        self._places: dict[str, Place] = {}
        self._busy = asyncio.Lock()
        self._observers: list[Callable[[SyncReport | SyncFailed], object]] = []
        self.status = RemoteStatus(latency_budget_ms=options.latency_budget_ms, before=_read_status(self._status_path))

    def observe(self, observer: Callable[[SyncReport | SyncFailed], object]) -> Callable[[], None]:
        """Have *observer* told how each sync ended; return the call that stops it."""
        self._observers.append(observer)

        def stop() -> None:
            with suppress(ValueError):
                self._observers.remove(observer)

        return stop

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """What is registered from manifests now."""
        return self._in_force.candidates

    def status_document(self) -> dict[str, Any]:
        """Return what ``remote_status.json`` holds, as of now."""
        return self.status.as_dict(self._clock())

    async def sync(
        self, manifest_url: str, *, verify_signature: bool = True, apply: bool = True, again: bool = True
    ) -> SyncReport:
        """Fetch what is current and put it in force, or leave everything as it is.

        Args:
            manifest_url: https URL of the manifest, or a local file.
            verify_signature: False takes a local file that is not signed at all; what is signed is verified anyway.
            apply: False registers and swaps nothing: what is verified is stored, and applied at the next start.
            again: False leaves alone what did not start or was unhealthy the last time: whoever syncs by the clock
                does not disturb what serves again and again.

        Returns:
            What was done.

        Raises:
            FetchRefusedError: *verify_signature* is False and the manifest is on the network, or the fetcher refuses.
            FetchError: Something could not be had.
            ManifestError: What came is not to be used: `SignatureError`, `DigestError`, `ExpiredError`,
                `RollbackError`, `SchemaError`, `UnsafePathError`.
            SwapError: A new generation did not start.
            UnhealthyError: One did not pass its probation.
            StoreError: What was to be remembered could not be written.
        """
        if not verify_signature and is_network(manifest_url):
            raise FetchRefusedError(
                "a manifest from the network is verified, always: verify_signature=False is for local files",
                "the manifest's local copy, or verify_signature=True",
            )
        place = self._place(manifest_url)
        async with self._busy:
            run = _Run(place.source, time.monotonic())
            if again:
                self._put_back = {}
            return await self._reported(run, self._synced(run, place, unsigned=not verify_signature, apply=apply))

    async def plan(self, manifest_url: str, *, verify_signature: bool = True) -> RemotePlan:
        """Fetch, verify and stage as `sync` does, and return what it would change; nothing is registered or swapped.

        What was verified of roots and freshness documents is remembered all the same.

        Raises:
            OneiricError: As `sync`.
        """
        if not verify_signature and is_network(manifest_url):
            raise FetchRefusedError("a manifest from the network is verified, always", "verify_signature=True")
        place = self._place(manifest_url)
        async with self._busy:
            run = _Run(place.source, time.monotonic())
            delivery, staging = await self._received(run, place, unsigned=not verify_signature)
            plan = self._planned(delivery, staging, change_between(self._in_force.candidates, staging.flat))
            self._mounts.release(self._in_force.candidates)
            return plan

    async def restore(self) -> SyncReport | None:
        """Put in force again what was committed to last; reads local files only, and verifies them anew.

        Returns:
            What was done; None when there is nothing to restore.

        Raises:
            ManifestError: What is stored is not what was committed to, or its keys no longer count.
            FetchError: A stored artifact is gone; a sync brings it back.
        """
        async with self._busy:
            trusted = await asyncio.to_thread(self._memory.open, self._clock())
            if trusted is None or OWN not in trusted.state.manifests:
                return None
            run = _Run("cache", time.monotonic(), "verify")
            return await self._reported(run, self._restored(run, trusted))

    # Steps

    async def _synced(self, run: _Run, place: Place, *, unsigned: bool, apply: bool) -> SyncReport:
        delivery, staging = await self._received(run, place, unsigned=unsigned)
        change = change_between(self._in_force.candidates, staging.flat)
        plan = self._planned(delivery, staging, change)
        if not apply or self._lifecycle is None:
            self._step(run, "commit")
            await self._commit(delivery)
            self.status.in_force(delivery, applied=False)
            self._mounts.release(self._in_force.candidates)
            return self._report("stored", plan, staging)
        if self._is_in_force(delivery) and not change.add and not change.withdraw:
            self._step(run, "commit")
            await self._commit(delivery)
            return self._report("unchanged", plan, staging)
        if self._put_back == delivery.digests:
            self._mounts.release(self._in_force.candidates)
            raise UnhealthyError(
                f"the manifest of {delivery.source} is the one that was put back before; what served serves on",
                "another one from its publisher; or oneiric remote-sync, to try it again",
            )
        swapped = await self._applied(run, delivery, change, self._options.probation)
        return self._report("applied", plan, staging, swapped)

    async def _restored(self, run: _Run, trusted: TrustedManifests) -> SyncReport:
        delivery = await asyncio.to_thread(restored, trusted, self._store.get_manifest)
        self._step(run, "stage")
        delivery, staging = await self._stager.stage(delivery, None, {})
        self._mounts.staged(staging.flat)
        change = change_between(self._in_force.candidates, staging.flat)
        plan = self._planned(delivery, staging, change)
        return self._report("restored", plan, staging, await self._applied(run, delivery, change, None))

    async def _received(self, run: _Run, place: Place, *, unsigned: bool) -> tuple[Delivery, Staging]:
        """Fetch, verify and stage; what was verified of roots and freshness is remembered even if it fails."""
        now = self._clock()
        trusted = await asyncio.to_thread(self._memory.open, now)
        last = self._in_force.last()
        receiving = Receiving(
            place=place,
            trusted=trusted,
            held={name: (manifest.digest, data) for name, (manifest, data) in last.items()},
            embedded=self._options.embedded,
            unsigned=unsigned,
            now=now,
            on_step=lambda name: self._step(run, name),
        )
        try:
            delivery = await receiving.receive()
            self._step(run, "stage")
            delivery, staging = await self._stager.stage(delivery, place, last)
        except BaseException:
            await self._let_go(trusted)
            raise
        self._mounts.staged(staging.flat)
        self._step(run, "plan")
        return delivery, staging

    async def _applied(
        self, run: _Run, delivery: Delivery, change: Change, probation: Probation | None
    ) -> tuple[tuple[str, str, str | None], ...]:
        """Register, swap, watch and commit; or put everything back. Without probation nothing is committed anew."""
        transaction = Transaction(self._resolver, self._lifecycle, change)
        try:
            self._step(run, "apply")
            transaction.register()
            self._step(run, "swap")
            await transaction.swap()
            if probation is not None:
                self._step(run, "probation")
                if self._lifecycle is not None:
                    await probation.watch(self._lifecycle, transaction.swapped)
                self._step(run, "commit")
                await self._commit(delivery)
        except BaseException as error:
            if isinstance(error, LifecycleError):
                self._put_back = delivery.digests
            await self._undone(transaction, delivery, error)
            raise
        self._in_force = InForce(delivery, change.result)
        self.status.in_force(delivery, applied=True)
        self.status.trusted(delivery.trusted)
        self._mounts.release(change.result)
        self._step(run, "done")
        return transaction.swapped

    async def _undone(self, transaction: Transaction, delivery: Delivery, error: BaseException) -> None:
        """Put everything back, also when the sync is cancelled, and again while that goes on."""
        undoing = asyncio.ensure_future(transaction.undo())
        while not undoing.done():
            with suppress(asyncio.CancelledError):
                await asyncio.shield(undoing)
        if (problem := undoing.result()) is not None:
            error.add_note(problem)
        await self._let_go(delivery.trusted)

    async def _commit(self, delivery: Delivery) -> None:
        """Remember what is in force; only what came in envelopes is."""
        if delivery.trusted is not None:
            await asyncio.to_thread(
                self._memory.commit, delivery.trusted, delivery.manifests, tuple(delivery.held.values())
            )
            self.status.trusted(delivery.trusted)

    async def _let_go(self, trusted: TrustedManifests | None) -> None:
        """Keep what was verified of roots and freshness of a sync that failed, and forget its artifacts."""
        self._mounts.release(self._in_force.candidates)
        if trusted is not None:
            with suppress(OneiricError):  # the error that is on its way is the one to tell
                await asyncio.to_thread(self._memory.remember, trusted)
            self.status.trusted(trusted)

    def _is_in_force(self, delivery: Delivery) -> bool:
        before = self._in_force.delivery
        return before is not None and before.digests == delivery.digests

    # Reports

    def _planned(self, delivery: Delivery, staging: Staging, change: Change) -> RemotePlan:
        return RemotePlan(
            source=delivery.source,
            signature=delivery.signature,
            manifest=delivery.about(),
            verdicts=(*change.verdicts, *staging.refused),
            swaps=planned_swaps(self._resolver, self._lifecycle, change),
            problems=delivery.problems,
        )

    def _report(self, outcome: Any, plan: RemotePlan, staging: Staging, swapped: Any = ()) -> SyncReport:
        return SyncReport(
            outcome=outcome,
            plan=plan,
            swapped=swapped,
            registered=len(staging.flat),
            per_domain=counts(staging.flat),
            digest_checks=staging.digest_checks,
            revision=self._resolver.revision,
        )

    async def _reported(self, run: _Run, work: Coroutine[Any, Any, SyncReport]) -> SyncReport:
        """Do the work, and tell status and observers how it ended."""
        ended: SyncReport | SyncFailed
        try:
            with self._trace():
                ended = report = replace(await work, duration_ms=_since(run))
        except OneiricError as error:
            step = {"swap": "apply"}.get(run.step, run.step)
            ended = SyncFailed(
                source=run.source,
                step=step,
                error=type(error).__name__,
                reason=_sentence(error),
                duration_ms=_since(run),
            )
            self.status.failed(ended, self._clock())
            await self._told(ended)
            raise
        self.status.succeeded(report, self._clock())
        await self._told(ended)
        return report

    async def _told(self, ended: SyncReport | SyncFailed) -> None:
        with suppress(OSError, ValueError):  # a file for readers outside: nothing hangs on it
            await asyncio.to_thread(write_json, self._status_path, self.status_document())
        for observer in tuple(self._observers):
            observer(ended)

    def _step(self, run: _Run, name: str) -> None:
        run.step = name
        self._on_step(name)

    def _place(self, url: str) -> Place:
        """Return the place of a manifest, the same as before: it remembers what a server called the last one."""
        place = self._places.get(url)
        if place is None:
            place = place_at(url, self._fetcher)
            self._places = {url: place}
        return place


def _since(run: _Run) -> float:
    return round((time.monotonic() - run.started) * _MS, 3)


def _sentence(error: OneiricError) -> str:
    return "; ".join([error.message, *getattr(error, "__notes__", ())])


def _read_status(path: Path) -> object:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None  # it is written anew
