"""Staging: entries become candidates, their artifacts are verified, and nothing is registered or imported yet."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from oneiric.core.errors import FetchError, ManifestError, OneiricError
from oneiric.core.resolution import Candidate
from oneiric.remote._sync_delivery import OWN, Delivery
from oneiric.remote._sync_places import Place
from oneiric.remote._sync_values import Verdict
from oneiric.remote.artifacts import Artifact, ArtifactLimits, ArtifactStore, check_installed, open_artifact, stage
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
    """

    def __init__(
        self, store: ArtifactStore, policy: FactoryPolicy, limits: ArtifactLimits, *, installed_only: bool
    ) -> None:
        self._store = store
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
                candidates[publisher] = await self._publisher(publisher, manifest, work)
            except OneiricError as error:
                if publisher == OWN:
                    raise
                last, held = before.get(publisher, (None, None))
                delivery = delivery.without(publisher, f"publisher {publisher!r}: {error.message}", last, held)
                if last is not None and last is not manifest:
                    stored = _Work(None, refused=work.refused, opened=work.opened)
                    candidates[publisher] = await self._publisher(publisher, last, stored)
        return delivery, Staging(candidates=candidates, refused=tuple(work.refused), digest_checks=work.digest_checks)

    async def _publisher(self, publisher: str, manifest: VerifiedManifest, work: _Work) -> tuple[Candidate, ...]:
        entries = await asyncio.to_thread(manifest.candidates, self._policy)
        work.refused += [
            Verdict(name=each.name, outcome="refused", reason=each.reason, publisher=publisher)
            for each in entries.refused
        ]
        ready: list[tuple[Candidate, Artifact | None]] = []
        for candidate in entries.candidates:
            try:
                ready.append((candidate, await self._artifact_of(candidate, manifest, work)))
            except _NotInstalledError as error:
                verdict = Verdict(name=str(candidate), outcome="refused", reason=str(error), publisher=publisher)
                work.refused.append(verdict)
        # Only now that all of them are there is any of them made importable.
        return tuple(
            candidate if artifact is None else stage(candidate, artifact, self._store.path(artifact.sha256))
            for candidate, artifact in ready
        )

    async def _artifact_of(self, candidate: Candidate, manifest: VerifiedManifest, work: _Work) -> Artifact | None:
        uri = candidate.metadata.get("remote_uri")
        sha256, size = candidate.metadata.get("sha256"), candidate.metadata.get("size")
        # Earlier formats named artifacts without their size; those were stored and never imported.
        if uri is None or sha256 is None or size is None:
            if self._installed_only and manifest.signature != "unsigned":
                await asyncio.to_thread(_check_installed, candidate)
            return None
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
        if not is_stored:
            await asyncio.to_thread(self._store.put, data, sha256=sha256, size=size)
        return artifact


class _NotInstalledError(Exception):
    """An entry without artifact names code that no installed distribution stands for."""


def _check_installed(candidate: Candidate) -> None:
    for text in (candidate.factory, candidate.settings_model):
        if text is None:
            continue
        try:
            check_installed(str(text).partition(":")[0])
        except (ManifestError, OneiricError) as error:
            raise _NotInstalledError(error.message) from error
