"""RemoteLoader: fetch, verify, stage, plan, apply, watch, commit; or what was before.

::

    loader = RemoteLoader(resolver, lifecycle, root=root, fetcher=SafeFetcher(), cache_dir=".oneiric_cache")
    await loader.restore()                      # the last good manifests, before the network is touched
    report = await loader.sync("https://updates.example.org/acme/manifest.json")

A sync that raises has changed nothing that serves, unless it is cancelled while it commits: then that is finished
first. What it may have moved all the same is trust: a root or a freshness document that was verified is remembered, so
that an older one is never taken again.
"""

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from oneiric.core.errors import (
    ConfigurationError,
    FetchError,
    FetchRefusedError,
    LifecycleError,
    ManifestError,
    OneiricError,
    UnhealthyError,
)
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Resolver
from oneiric.remote._sync_delivery import OWN, Delivery, InForce, Receiving, restored
from oneiric.remote._sync_lock import DirectoryLock
from oneiric.remote._sync_mounts import Mounts
from oneiric.remote._sync_options import LoaderOptions
from oneiric.remote._sync_places import Downloading, Fetcher, Place, is_network, place_at
from oneiric.remote._sync_publishers import PutBack, PutBacks, held_back
from oneiric.remote._sync_staging import Stager, Staging
from oneiric.remote._sync_status import STATUS_FILE, RemoteStatus
from oneiric.remote._sync_store import RemoteStore, TrustMemory
from oneiric.remote._sync_telling import Run, Teller, read_status
from oneiric.remote._sync_values import PlannedSwap, RemotePlan, SyncFailed, SyncReport, Verdict
from oneiric.remote.apply import Change, Probation, Transaction, change_between, counts, planned_swaps
from oneiric.remote.trust import TrustedManifests, TrustRoot

__all__ = [
    "Downloading",
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


class RemoteLoader:
    """Keep a registry in step with a publisher's manifests.

    Belongs to one event loop. One sync runs at a time on a cache directory; a second one waits for the first, also
    that of another process.

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

    Raises:
        ConfigurationError: The client takes packed manifests, and there is a fetcher.

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
        if options.client.is_packed and fetcher is not None:
            raise ConfigurationError("a packed manifest is a local file, and nothing is fetched for it", "no fetcher")
        self._on_step = on_step
        self._store = RemoteStore(cache_dir)
        self._memory = TrustMemory(self._store, root, options.client)
        self._lock = DirectoryLock(cache_dir, options.lock_seconds)
        self._mounts = Mounts(lifecycle)
        self._stager = Stager(
            self._store.artifacts,
            options.factories,
            options.limits,
            installed_only=options.installed_only,
            on_mounted=self._mounts.staged,
        )
        self._in_force = InForce()
        self._put_back = PutBacks()
        self._places: dict[str, Place] = {}
        self._busy = asyncio.Lock()
        path = Path(cache_dir) / STATUS_FILE
        self.status = RemoteStatus(latency_budget_ms=options.latency_budget_ms, before=read_status(path))
        self._teller = Teller(path, self.status, self.status_document, clock=clock, trace=trace)

    def observe(self, observer: Callable[[SyncReport | SyncFailed], object]) -> Callable[[], None]:
        """Have *observer* told how each sync ended; return the call that stops it."""
        return self._teller.observe(observer)

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """What is registered from manifests now."""
        return self._in_force.candidates

    def status_document(self) -> dict[str, Any]:
        """Return what ``remote_status.json`` holds, as of now."""
        return self.status.as_dict(self._clock(), self._mounts.revoked(self._in_force.revoked))

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
            StoreError: What was to be remembered could not be written, or another process holds the directory.
        """
        if not verify_signature and is_network(manifest_url):
            raise FetchRefusedError(
                "a manifest from the network is verified, always: verify_signature=False is for local files",
                "the manifest's local copy, or verify_signature=True",
            )
        place = self._place(manifest_url)
        async with self._busy:
            run = Run(place.source)
            if again:
                self._put_back.clear()
            return await self._teller.told(
                run,
                self._lock.held(),
                lambda: self._synced(run, place, unsigned=not verify_signature, apply=apply),
            )

    async def plan(self, manifest_url: str, *, verify_signature: bool = True) -> RemotePlan:
        """Fetch, verify and stage as `sync` does, and return what it would change; nothing is registered or swapped.

        What was verified of roots and freshness documents is remembered all the same.

        Raises:
            OneiricError: As `sync`.
        """
        if not verify_signature and is_network(manifest_url):
            raise FetchRefusedError("a manifest from the network is verified, always", "verify_signature=True")
        place = self._place(manifest_url)
        async with self._busy, self._lock.held():
            run = Run(place.source)
            try:
                delivery, staging = await self._received(run, place, unsigned=not verify_signature)
                plan = self._planned(delivery, staging, await self._change_to(staging))
            finally:
                run.check()
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
        # Without the directory's lock: a system that is started is not to wait for the sync of another one.
        async with self._busy:
            run = Run("cache")
            trusted = await run.in_thread(self._memory.open, self._clock())
            run.check()
            if trusted is None or self._options.client.is_packed or OWN not in trusted.state.manifests:
                return None
            return await self._teller.told(run, nullcontext(), lambda: self._restored(run, trusted))

    # Steps

    async def _synced(self, run: Run, place: Place, *, unsigned: bool, apply: bool) -> SyncReport:
        delivery, staging = await self._received(run, place, unsigned=unsigned)
        while True:
            try:
                return await self._put_in_force(run, delivery, staging, apply=apply)
            except LifecycleError:
                put_back = self._put_back.of(delivery)
                narrowed = None if put_back is None else held_back(delivery, self._in_force, put_back)
                if narrowed is None or run.cancelled is not None:
                    raise
                self._step(run, "stage")
                delivery, staging = await self._stager.stage(narrowed, None, self._in_force.last())

    async def _put_in_force(self, run: Run, delivery: Delivery, staging: Staging, *, apply: bool) -> SyncReport:
        change = await self._change_to(staging)
        plan = self._planned(delivery, staging, change)
        if not apply or self._lifecycle is None:
            self._step(run, "commit")
            await self._commit(run, delivery)
            self.status.in_force(delivery, applied=False)
            self._mounts.release(self._in_force.candidates)
            return self._report("stored", plan, staging)
        if self._is_in_force(delivery) and not change.add and not change.withdraw:
            self._step(run, "commit")
            await self._commit(run, delivery)
            return self._report("unchanged", plan, staging)
        if self._put_back.of(delivery) is not None:
            self._mounts.release(self._in_force.candidates)
            raise UnhealthyError(
                f"the manifest of {delivery.source} is the one that was put back before; what served serves on",
                "another one from its publisher; or oneiric remote-sync, to try it again",
            )
        swapped = await self._applied(run, delivery, change, self._options.probation)
        self._in_force = replace(self._in_force, is_complete=not staging.refused)
        return self._report("applied", plan, staging, swapped)

    async def _restored(self, run: Run, trusted: TrustedManifests) -> SyncReport:
        delivery, staging = await self._read_back(run, trusted)
        change = await self._change_to(staging)
        plan = self._planned(delivery, staging, change)
        swapped = await self._applied(run, delivery, change, None)
        self._in_force = replace(self._in_force, is_complete=not staging.refused)
        return self._report("restored", plan, staging, swapped)

    async def _read_back(self, run: Run, trusted: TrustedManifests) -> tuple[Delivery, Staging]:
        """Verify and stage what was committed to; what another process commits to meanwhile, instead of that."""
        while True:
            try:
                self._step(run, "verify")
                delivery = await asyncio.to_thread(restored, trusted, self._store.get_manifest)
                self._step(run, "stage")
                return await self._stager.stage(delivery, None, {})
            except (ManifestError, FetchError):
                # Where that removed what was named a moment ago, it has named something else first.
                now = await run.in_thread(self._memory.open, self._clock())
                run.check()
                if now is None or now.state.manifests.get(OWN) in {None, trusted.state.manifests[OWN]}:
                    raise
                trusted = now

    async def _received(self, run: Run, place: Place, *, unsigned: bool) -> tuple[Delivery, Staging]:
        """Fetch, verify and stage; what was verified of roots and freshness is remembered even if it fails."""
        now = self._clock()
        trusted = await run.in_thread(self._memory.open, now)
        run.check()
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
            if self._is_in_force(delivery) and self._in_force.is_complete:
                return delivery, Staging(candidates={OWN: self._in_force.candidates})
            self._step(run, "stage")
            delivery, staging = await self._stager.stage(delivery, place, last)
        except BaseException:
            await self._let_go(run, trusted)
            raise
        self._step(run, "plan")
        return delivery, staging

    async def _change_to(self, staging: Staging) -> Change:
        # Thousands of entries take long to compare, and calls are being served.
        return await asyncio.to_thread(change_between, self._in_force.candidates, staging.flat)

    async def _applied(
        self, run: Run, delivery: Delivery, change: Change, probation: Probation | None
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
                await self._commit(run, delivery)
        except BaseException as error:
            if isinstance(error, LifecycleError):
                self._put_back.add(PutBack.of(delivery, error))
            # A restore has verified nothing new, and does not hold the directory.
            await self._undone(run, transaction, None if probation is None else delivery.trusted, error)
            raise
        self._in_force = InForce(delivery, change.result)
        self.status.in_force(delivery, applied=True)
        self.status.trusted(delivery.trusted)
        self._mounts.release(change.result)
        self._step(run, "done")
        return transaction.swapped

    async def _undone(
        self, run: Run, transaction: Transaction, trusted: TrustedManifests | None, error: BaseException
    ) -> None:
        """Put everything back, also when the sync is cancelled, and again while that goes on."""
        problem = await run.to_its_end(asyncio.ensure_future(transaction.undo()))
        if problem is not None:
            error.add_note(problem)
        await self._let_go(run, trusted)

    async def _commit(self, run: Run, delivery: Delivery) -> None:
        """Remember what is in force, also when the sync is cancelled meanwhile; only what came in envelopes is."""
        if delivery.trusted is not None:
            held = tuple(delivery.held.values())
            await run.in_thread(self._memory.commit, delivery.trusted, delivery.manifests, held)
            self.status.trusted(delivery.trusted)

    async def _let_go(self, run: Run, trusted: TrustedManifests | None) -> None:
        """Keep what was verified of roots and freshness of a sync that failed, and forget its artifacts."""
        self._mounts.release(self._in_force.candidates)
        if trusted is not None:
            with suppress(OneiricError):  # the error that is on its way is the one to tell
                await run.in_thread(self._memory.remember, trusted)
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

    def _step(self, run: Run, name: str) -> None:
        run.step = name
        self._on_step(name)

    def _place(self, url: str) -> Place:
        """Return the place of a manifest, the same as before: it remembers what a server called the last one."""
        place = self._places.get(url)
        if place is None:
            place = place_at(url, self._fetcher, self._options.on_download)
            self._places = {url: place}
        return place
