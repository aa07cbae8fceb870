"""Staging: entries become candidates, their artifacts are verified, and nothing is registered or imported yet."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from oneiric.core.errors import FetchError, FetchTimeoutError, OneiricError, UnsafePathError
from oneiric.core.resolution import Candidate
from oneiric.remote._installed import InstalledModules
from oneiric.remote._sync_delivery import OWN, Delivery
from oneiric.remote._sync_places import Place
from oneiric.remote._sync_values import Verdict
from oneiric.remote.artifacts import Artifact, ArtifactLimits, ArtifactStore, open_artifact, stage
from oneiric.remote.manifest import FactoryPolicy
from oneiric.remote.trust import VerifiedManifest

__all__ = ["Stager", "Staging"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Staging:
    """Candidates that may be registered.

    Attributes:
        candidates: Publisher → its candidates, in the order of its manifest.
        refused: Entries that were not taken.
        digest_checks: Artifacts whose digest was checked.
    """

    candidates: Mapping[str, tuple[Candidate, ...]]
    refused: tuple[Verdict, ...] = ()
    digest_checks: int = 0

    @property
    def flat(self) -> tuple[Candidate, ...]:
        """All of them, the product's own first."""
        return tuple(candidate for each in self.candidates.values() for candidate in each)


@dataclass(slots=True)
class _Work:
    """What one staging has done so far."""

    place: Place | None
    refused: list[Verdict] = field(default_factory=list)
    opened: dict[tuple[str, str], Artifact] = field(default_factory=dict)
    digest_checks: int = 0


class Stager:
    """Makes candidates of verified manifests.

    Args:
        store: Keeps artifacts by digest.
        policy: Which factories remote entries may name.
        limits: How much an artifact may hold.
        installed_only: Whether an entry without artifact must name a module that an installed distribution recorded.
        keeps: Whether what was fetched is stored.
        on_mounted: Told each candidate whose artifact was made importable; the staging may fail after it.
    """

    def __init__(
        self,
        store: ArtifactStore,
        policy: FactoryPolicy,
        limits: ArtifactLimits,
        *,
        installed_only: bool,
        keeps: bool = True,
        on_mounted: Callable[[Candidate], object] = lambda _: None,
    ) -> None:
        self._store = store
        self._keeps = keeps
        self._on_mounted = on_mounted
        self._policy = policy
        self._limits = limits
        self._installed_only = installed_only

    async def stage(
        self, delivery: Delivery, place: Place | None, before: Mapping[str, tuple[VerifiedManifest, bytes]]
    ) -> tuple[Delivery, Staging]:
        """Make candidates of a delivery.

        An entry that breaks its schema or the policy is left out, with a verdict. An artifact that cannot be had or
        is not what was signed for refuses the whole manifest. A publisher's trouble is the publisher's: its last good
        manifest stands.

        Args:
            delivery: What was verified.
            place: Where artifacts lie that are not stored yet; None takes stored ones only.
            before: Publisher → its manifest in force, and its bytes.

        Returns:
            The delivery, without what could not be staged of publishers; and what was staged.

        Raises:
            FetchError: An artifact of the product cannot be had.
            ManifestError: An artifact of the product is not what was signed for, or not safe.
        """
        work = _Work(place)
        candidates: dict[str, tuple[Candidate, ...]] = {}
        for publisher, manifest in delivery.manifests.items():
            try:
                async with self._in_time(publisher):
                    candidates[publisher] = await self._publisher(publisher, manifest, work)
            except OneiricError as error:
                if publisher == OWN:
                    raise
                last, held = before.get(publisher, (None, None))
                delivery = delivery.without(publisher, f"publisher {publisher!r}: {error.message}", last, held)
                if last is not None and last is not manifest:
                    stored = _Work(None, refused=work.refused, opened=work.opened)
                    try:
                        candidates[publisher] = await self._publisher(publisher, last, stored)
                    except OneiricError as lost:
                        delivery = delivery.without(publisher, f"publisher {publisher!r}: {lost.message}", None, None)
        return delivery, Staging(candidates=candidates, refused=tuple(work.refused), digest_checks=work.digest_checks)

    @asynccontextmanager
    async def _in_time(self, publisher: str) -> AsyncIterator[None]:
        """Bound what a delegated publisher may take; what is the product's own, each fetch bounds."""
        seconds = None if publisher == OWN else self._limits.publisher_seconds
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise FetchTimeoutError(f"its artifacts did not arrive within {seconds:g} s", "smaller or fewer") from error

    async def _publisher(self, publisher: str, manifest: VerifiedManifest, work: _Work) -> tuple[Candidate, ...]:
        entries = await asyncio.to_thread(manifest.candidates, self._policy)
        work.refused += [
            Verdict(name=each.name, outcome="refused", reason=each.reason, publisher=publisher)
            for each in entries.refused
        ]
        self._check_amount(sum(_sizes(entries.candidates).values()))
        verifies_installed = self._installed_only and manifest.signature != "unsigned"
        opened: dict[Candidate, Artifact | None] = {}
        held, count = set[str](), 0
        for candidate in entries.candidates:
            artifact = opened[candidate] = await self._artifact_of(candidate, work)
            if artifact is not None and artifact.sha256 not in held:
                held.add(artifact.sha256)
                count += artifact.unpacked_bytes
                self._check_amount(count)
        absent = await asyncio.to_thread(_not_installed, opened) if verifies_installed else {}
        work.refused += [
            Verdict(name=str(candidate), outcome="refused", reason=reason, publisher=publisher)
            for candidate, reason in absent.items()
        ]
        # Only now that all of them are there is any of them made importable.
        return tuple(
            candidate if artifact is None else self._mounted(candidate, artifact)
            for candidate, artifact in opened.items()
            if candidate not in absent
        )

    def _mounted(self, candidate: Candidate, artifact: Artifact) -> Candidate:
        staged = stage(candidate, artifact, self._store.path(artifact.sha256))
        self._on_mounted(staged)
        return staged

    def _check_amount(self, count: int) -> None:
        most = self._limits.manifest_bytes
        if count > most:
            raise UnsafePathError(f"its artifacts are {count} bytes together, and {most} is the most of one manifest")

    async def _artifact_of(self, candidate: Candidate, work: _Work) -> Artifact | None:
        if not _has_artifact(candidate):
            return None
        uri, sha256, size = (candidate.metadata[name] for name in _ARTIFACT)
        module = str(candidate.factory).partition(":")[0]
        what = (str(sha256).lower(), module if str(uri).lower().endswith(".py") else "")
        artifact = work.opened.get(what)
        if artifact is None:
            artifact = work.opened[what] = await self._artifact(str(uri), what[0], size, module, work)
        return artifact

    async def _artifact(self, uri: str, sha256: str, size: int, module: str, work: _Work) -> Artifact:
        data = await asyncio.to_thread(self._store.get, sha256, size=size)
        is_stored = data is not None
        if data is None:
            if work.place is None:
                raise FetchError(f"artifact {sha256} of {uri!r:.200} is not stored here", "oneiric remote-sync")
            data = await work.place.artifact(uri, sha256=sha256, size=size)
        work.digest_checks += 1
        artifact = await asyncio.to_thread(
            open_artifact, data, sha256=sha256, size=size, uri=uri, module=module, limits=self._limits
        )
        if self._keeps and not is_stored:
            await asyncio.to_thread(self._store.put, data, sha256=sha256, size=size)
        return artifact


_ARTIFACT: Final = ("remote_uri", "sha256", "size")


def _sizes(candidates: Iterable[Candidate]) -> dict[object, int]:
    """Return artifact → its size, as the entries state them."""
    stated = ((each.metadata.get("sha256"), each.metadata.get("size")) for each in candidates)
    return {digest: size for digest, size in stated if digest is not None and isinstance(size, int)}


def _has_artifact(candidate: Candidate) -> bool:
    # Earlier formats named artifacts without their size; those were stored and never imported.
    return all(candidate.metadata.get(name) is not None for name in _ARTIFACT)


def _not_installed(opened: Mapping[Candidate, Artifact | None]) -> dict[Candidate, str]:
    """Return why candidates are refused: what they name is in no artifact, and no installed distribution stands for it.

    An artifact must hold the factory itself (`stage` sees to that); the model of its settings may be installed.
    """
    installed, found = InstalledModules(), {}
    for candidate, artifact in opened.items():
        named = (candidate.settings_model,) if artifact is not None else (candidate.factory, candidate.settings_model)
        modules = [str(text).partition(":")[0] for text in named if text is not None]
        try:
            for module in modules:
                if artifact is None or not artifact.holds(module):
                    installed.check(module)
        except OneiricError as error:
            found[candidate] = error.message
    return found
