"""From a place to verified manifests: roots, what is current, the product's manifest, those of its publishers."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from oneiric.core.errors import DigestError, FetchRefusedError, ManifestError, OneiricError, SignatureError
from oneiric.core.resolution import Candidate
from oneiric.remote._sync_places import LocalPlace, Place
from oneiric.remote.manifest import MAX_MANIFEST_BYTES
from oneiric.remote.trust import (
    Accepted,
    EmbeddedPolicy,
    TrustedManifests,
    VerifiedManifest,
    read_embedded,
    read_unsigned,
)

__all__ = ["OWN", "Delivery", "InForce", "Receiving", "is_enveloped", "restored"]

#: The product's own place among publishers.
OWN: Final = ""
_MOST_ROOTS: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Manifests that may be used now.

    Attributes:
        source: Where they came from.
        manifests: Publisher → its manifest; the product's own is under ``""`` and first.
        held: Publisher → the bytes of its manifest; only of those in envelopes.
        trusted: What is trusted after it; None when nothing was verified.
        problems: What is wrong with single publishers, as sentences; their last good manifests stand.
    """

    source: str
    manifests: Mapping[str, VerifiedManifest]
    held: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    trusted: TrustedManifests | None = None
    problems: tuple[str, ...] = ()

    @property
    def own(self) -> VerifiedManifest:
        """The product's own manifest."""
        return self.manifests[OWN]

    @property
    def signature(self) -> str:
        """How it was verified: ``envelope``, ``embedded`` or ``unsigned``."""
        return self.own.signature

    @property
    def digests(self) -> dict[str, str]:
        """Publisher → digest of its manifest."""
        return {name: each.digest for name, each in self.manifests.items()}

    def about(self) -> dict[str, Any]:
        """Return product, channel, version, digest, signature and signers, as far as they are stated."""
        own = self.own
        stated = {"product": None, "channel": None, "version": None, "issued": None, "expires": None, **own.about()}
        if own.body is not None:
            stated |= {"issued": own.body.issued, "expires": own.body.expires}
        return stated

    def without(self, publisher: str, problem: str, last: VerifiedManifest | None, held: bytes | None) -> "Delivery":
        """Return the delivery with a publisher's last good manifest in place of what it published, or without it."""
        manifests = {name: each for name, each in self.manifests.items() if name != publisher}
        bytes_held = {name: each for name, each in self.held.items() if name != publisher}
        if last is not None and held is not None:
            manifests[publisher], bytes_held[publisher] = last, held
        return replace(self, manifests=manifests, held=bytes_held, problems=(*self.problems, problem))


@dataclass(frozen=True, slots=True)
class InForce:
    """What is registered now, and what it came from.

    Attributes:
        delivery: The manifests; None when there are none.
        candidates: Those of them that are registered.
        is_complete: Whether no entry was refused: then the same manifests again bring the same candidates.
    """

    delivery: Delivery | None = None
    candidates: tuple[Candidate, ...] = ()
    is_complete: bool = False

    @property
    def revoked(self) -> frozenset[str]:
        """SHA-256 of what the manifests say must not be used any more."""
        manifests = () if self.delivery is None else self.delivery.manifests.values()
        return frozenset().union(*(each.revoked for each in manifests))

    def last(self) -> Mapping[str, tuple[VerifiedManifest, bytes]]:
        """Return publisher → its manifest and the bytes of it."""
        if self.delivery is None:
            return {}
        held = self.delivery.held
        return {name: (each, held[name]) for name, each in self.delivery.manifests.items() if name in held}


def is_enveloped(data: bytes) -> bool:
    """Tell whether bytes are meant to be an envelope; whether they are one, verification decides."""
    return data[:64].lstrip()[:1] == b"{" and b'"payloadType"' in data


@dataclass(slots=True, kw_only=True)
class Receiving:
    """One reception: what is read from where, and by which rules.

    Attributes:
        place: Where the documents lie.
        trusted: What is trusted before it; roots and what is current move it even if the manifest is refused.
            None where no key is known.
        held: Publisher → digest and bytes of the manifest in force.
        embedded: What is asked of documents of earlier formats.
        unsigned: Whether a local file may be unsigned.
        now: Seconds since the epoch.
        on_step: Told ``fetch`` and ``verify`` as they begin.
    """

    place: Place
    trusted: TrustedManifests | None
    held: Mapping[str, tuple[str, bytes]]
    embedded: EmbeddedPolicy
    unsigned: bool
    now: float
    on_step: Callable[[str], object] = str

    async def receive(self) -> Delivery:
        """Read and verify.

        Raises:
            FetchError: Something could not be had.
            ManifestError: What came is not to be used.
        """
        trusted = self.trusted
        has_roots = trusted is not None and trusted.root.freshness is not None
        if trusted is not None and has_roots and await self._is_enveloped():
            await self._roots(trusted)
            if trusted.asks_what_is_current:
                return await self._pinned(trusted)
        data = await self._manifest(None)
        self.on_step("verify")
        if not is_enveloped(data):
            return await asyncio.to_thread(self._earlier, data)
        if trusted is None:
            raise SignatureError(
                "no key is trusted for manifests", "remote.root_path, or ONEIRIC_TRUSTED_PUBLIC_KEYS=<base64>"
            )
        manifest = await asyncio.to_thread(trusted.update_manifest, data)
        return await self._publishers(trusted, manifest, data)

    async def _is_enveloped(self) -> bool:
        """Tell whether an envelope is to be expected: always, but of a file that an operator named."""
        return not isinstance(self.place, LocalPlace) or is_enveloped(await self._manifest(None))

    async def _pinned(self, trusted: TrustedManifests) -> Delivery:
        """Take what is current, and the manifest that is pinned there."""
        freshness = await self._document("freshness.json")
        current = trusted.update_freshness(freshness)
        pin = current.manifest
        digest, held = self.held.get(OWN, ("", b""))
        try:
            data = held if digest == pin.sha256 else await self._manifest(pin.sha256, pin.length)
        except DigestError as error:
            raise DigestError(
                f"{error.message}: it is not the manifest that freshness.json says is current",
                "publish freshness.json once manifest.json is there; or another mirror",
            ) from error
        self.on_step("verify")
        manifest = await asyncio.to_thread(trusted.update_manifest, data)
        return await self._publishers(trusted, manifest, data)

    async def _roots(self, trusted: TrustedManifests) -> None:
        self.on_step("fetch")
        for _ in range(_MOST_ROOTS):
            data = await self.place.next_root(trusted.root.version + 1)
            if data is None:
                return
            self.on_step("verify")
            trusted.update_root(data)
            self.on_step("fetch")

    async def _document(self, name: str) -> bytes:
        self.on_step("fetch")
        data = await self.place.document(name)
        self.on_step("verify")
        return data

    async def _manifest(self, digest: str | None, length: int = MAX_MANIFEST_BYTES) -> bytes:
        self.on_step("fetch")
        known, held = self.held.get(OWN, (None, b""))
        data = await self.place.manifest(length, digest=digest, held=known)
        if data is None and known is not None:
            return held
        if data is None:
            raise FetchRefusedError(f"{self.place.source} says that nothing changed, and nothing is held")
        return data

    def _earlier(self, data: bytes) -> Delivery:
        """Verify a document that is no envelope, or take it unsigned where that is allowed."""
        source = self.place.source
        keys = () if self.trusted is None else self.trusted.root.manifest.keys
        is_allowed_unsigned = self.unsigned and isinstance(self.place, LocalPlace)
        if is_allowed_unsigned and not (self.embedded.accept and b"signature" in data):
            return Delivery(source=source, manifests={OWN: read_unsigned(data, what=source)})
        manifest = read_embedded(data, keys, self.embedded, now=self.now, what=source)
        return Delivery(source=source, manifests={OWN: manifest})

    async def _publishers(self, trusted: TrustedManifests, own: VerifiedManifest, data: bytes) -> Delivery:
        """Take the manifests of delegated publishers; what is wrong with one is no matter of the others."""
        body = own.body
        delegations = (*trusted.root.delegations, *(() if body is None else body.delegations))
        current = trusted.freshness if trusted.asks_what_is_current else None
        held, problems = {OWN: data}, list(trusted.problems)
        for publisher in dict.fromkeys(each.publisher for each in delegations):
            if current is not None and publisher not in current.publishers:
                continue
            if isinstance(self.place, LocalPlace) and not (current or self.place.holds(_published_as(publisher))):
                continue  # nobody says that it has published anything, and nothing of it was shipped
            before = self.held.get(publisher)
            try:
                pin = None if current is None else current.publishers[publisher]
                published = await self._published(publisher, None if pin is None else pin.sha256)
                await asyncio.to_thread(trusted.update_publisher, publisher, published)
                held[publisher] = published
            except OneiricError as error:
                problems.append(f"publisher {publisher!r}: {error.message}")
                if before is not None and _restored(trusted, publisher, before[1]):
                    held[publisher] = before[1]
        return Delivery(
            source=self.place.source,
            manifests=dict(trusted.manifests),
            held=held,
            trusted=trusted,
            problems=tuple(problems),
        )

    async def _published(self, publisher: str, digest: str | None) -> bytes:
        known, held = self.held.get(publisher, ("", b""))
        if digest == known:
            return held
        return await self.place.document(_published_as(publisher), MAX_MANIFEST_BYTES, digest=digest)


def _published_as(publisher: str) -> str:
    return f"publisher/{publisher}.json"


def restored(trusted: TrustedManifests, stored: Callable[[Accepted], bytes | None]) -> Delivery:
    """Verify again what was committed to, whether or not it has expired.

    Args:
        trusted: What is remembered.
        stored: Returns the bytes of a manifest, None when they are gone.

    Raises:
        ManifestError: The product's manifest is gone, is another one, or its keys no longer count.
    """
    manifests: dict[str, VerifiedManifest] = {}
    held: dict[str, bytes] = {}
    problems = list(trusted.problems)
    for publisher, accepted in sorted(trusted.state.manifests.items()):
        try:
            data = stored(accepted)
            if data is None:
                raise DigestError(f"the manifest of version {accepted.version} is not stored here", "a sync")
            manifests[publisher] = trusted.restore_manifest(data, publisher)
            held[publisher] = data
        except ManifestError as error:
            if publisher == OWN:
                raise
            problems.append(f"publisher {publisher!r}: {error.message}")
    return Delivery(source="cache", manifests=manifests, held=held, trusted=trusted, problems=tuple(problems))


def _restored(trusted: TrustedManifests, publisher: str, data: bytes) -> bool:
    try:
        trusted.restore_manifest(data, publisher)
    except ManifestError:
        return False
    return True
