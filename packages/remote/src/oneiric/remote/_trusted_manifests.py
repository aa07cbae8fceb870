"""The state machine of trust: see `oneiric.remote.trust`."""

import copy
import hashlib
from collections.abc import Mapping
from typing import Final

from oneiric.core.errors import DigestError, ExpiredError, ManifestError, RollbackError, SchemaError
from oneiric.remote._manifest_body import Delegation
from oneiric.remote._timestamps import parse_time
from oneiric.remote._trust_checks import (
    ClientPolicy,
    accepted,
    opened,
    refuse_double_delegation,
    refuse_out_of_scope,
    refuse_taken,
    require_audience,
    require_current,
    require_mine,
    require_newer,
    require_time,
)
from oneiric.remote._trust_documents import (
    MAX_DOCUMENT_BYTES,
    FreshnessBody,
    KeySet,
    Pin,
    RootBody,
    TrustRoot,
    parse_document,
)
from oneiric.remote._trust_manifests import VerifiedManifest
from oneiric.remote._trust_reading import ManifestReader
from oneiric.remote._trust_state import Accepted, TrustedState
from oneiric.remote.envelope import FRESHNESS_TYPE, Envelope

__all__ = ["TrustedManifests"]

#: The product's own place in the table of publishers.
_OWN: Final = ""


class TrustedManifests:
    """What is trusted, at one moment; starts from a root and what was remembered, and moves by verified bytes only.

    Args:
        root: Where trust starts.
        policy: What the client is.
        state: What was remembered; it is verified anew, and what no longer verifies is dropped.
        now: Seconds since the epoch. Time that was signed is believed over a clock that stands before it.

    Attributes:
        problems: What of the remembered state was lost, as sentences; without it trust starts from the pinned root.

    Raises:
        SchemaError: The root is another product's.
    """

    def __init__(
        self, root: TrustRoot, policy: ClientPolicy | None = None, *, state: TrustedState | None = None, now: float
    ) -> None:
        self._policy = policy or ClientPolicy()
        if root.product is not None and self._policy.product not in {None, root.product}:
            raise SchemaError(f"the root is of product {root.product!r}, and {self._policy.product!r} was asked for")
        self._root = root
        self._clock = now
        self._reader = ManifestReader(self._policy.max_bytes)
        self._roots: list[bytes] = []
        self._freshness: tuple[bytes, FreshnessBody] | None = None
        self._accepted: dict[str, Accepted] = {}
        self._manifests: dict[str, VerifiedManifest] = {}
        self.problems: tuple[str, ...] = ()
        self._restore(state or TrustedState())

    @property
    def root(self) -> TrustRoot:
        """The root that is trusted now."""
        return self._root

    @property
    def asks_what_is_current(self) -> bool:
        """Whether a freshness document must say which manifest is current."""
        return self._root.freshness is not None and not self._policy.is_packed

    @property
    def freshness(self) -> FreshnessBody | None:
        """The last freshness document, expired or not; None when there is none."""
        return None if self._freshness is None else self._freshness[1]

    @property
    def manifests(self) -> Mapping[str, VerifiedManifest]:
        """Publisher → the manifest accepted from it; the product's own is under ``""``."""
        return dict(self._manifests)

    @property
    def state(self) -> TrustedState:
        """What to remember."""
        freshness = None if self._freshness is None else self._freshness[0]
        return TrustedState(roots=tuple(self._roots), freshness=freshness, manifests=dict(self._accepted))

    @property
    def now(self) -> float:
        """The time that counts: the clock's, or the latest that was signed if the clock stands before it."""
        signed = [each.issued for each in self._accepted.values()]
        if self._freshness is not None:
            signed.append(parse_time(self._freshness[1].issued))
        return max([self._clock, *signed])

    def at(self, now: float) -> "TrustedManifests":
        """Return what is trusted as it stands, at a later time: where a process that goes on starts its next sync.

        The same manifest again then costs one signature check.
        """
        later = copy.copy(self)
        later._clock = now  # noqa: SLF001 - our own copy
        later._roots, later._accepted = list(self._roots), dict(self._accepted)  # noqa: SLF001 - as above
        later._manifests = dict(self._manifests)  # noqa: SLF001 - as above
        return later

    # Roots

    def update_root(self, data: bytes) -> TrustRoot:
        """Take the next root.

        Args:
            data: Its envelope.

        Returns:
            The root that is trusted now; the same as before if *data* is the one that was.

        Raises:
            SignatureError: The keys of the root before, or its own, have not signed it.
            RollbackError: Its version is not the next one.
            SchemaError: It is no root document, another product's, or no root may follow.
        """
        what = "root"
        before = self._root
        if hashlib.sha256(data).hexdigest() == before.sha256:
            return before
        if before.root is None:
            raise SchemaError("a root document came, and this client trusts keys only", "pin a root document")
        envelope = Envelope.parse(data, what=what, max_bytes=MAX_DOCUMENT_BYTES)
        envelope.require(before.root.keys, before.root.threshold, f"{what} after version {before.version}")
        following = TrustRoot.signed_by_itself(envelope, hashlib.sha256(data).hexdigest(), what)
        if following.version != before.version + 1:
            raise RollbackError(
                f"{what} has version {following.version}, and {before.version + 1} is the next after {before.version}",
                "roots are taken one by one, in order",
            )
        if following.product != before.product:
            raise SchemaError(f"{what} is of product {following.product!r}, and the one before of {before.product!r}")
        self._root = following
        self._roots.append(data)
        self._forget_whom_nobody_trusts()
        return following

    def _forget_whom_nobody_trusts(self) -> None:
        """Drop what is only accepted because of keys that no longer count.

        Otherwise a thief of the old keys could have set versions so high that no honest one would ever follow. What
        was accepted of manifests is held against the keys when it is next asked for (`require_newer`).
        """
        if self._freshness is not None:
            try:
                self._signed_freshness(self._freshness[0])
            except ManifestError:
                self._freshness = None
        self._manifests.clear()

    # What is current

    def update_freshness(self, data: bytes) -> FreshnessBody:
        """Take the document that says what is current.

        Args:
            data: Its envelope.

        Raises:
            SignatureError: Too few of the freshness keys signed it.
            ExpiredError: It or the root has expired, or it was signed in the future.
            RollbackError: An older one, or another one of the same version, than was taken before.
            SchemaError: It is no freshness document, or another product's or channel's.
        """
        require_current(self._root, self.now)
        body = self._signed_freshness(data)
        require_mine(self._policy, self._root, body.product, body.channel, "freshness document")
        self._require_time(body.issued, body.expires, "freshness document")
        if self._freshness is not None:
            before = self._freshness[1]
            if body.version < before.version:
                raise RollbackError(
                    f"freshness document has version {body.version}, and {before.version} was seen before",
                    "another mirror; this one serves what is old",
                )
            if body.version == before.version and body != before:
                raise RollbackError(f"two freshness documents have version {body.version} and differ", "another mirror")
        self._freshness = (data, body)
        return body

    def _signed_freshness(self, data: bytes) -> FreshnessBody:
        what = "freshness document"
        keys = self._root.freshness
        if keys is None:
            raise SchemaError(f"a {what} came, and no key is trusted for it", "pin a root document")
        envelope, _ = opened(data, FRESHNESS_TYPE, keys, what, MAX_DOCUMENT_BYTES)
        return parse_document(FreshnessBody, envelope.payload, what)

    # Manifests

    def update_manifest(self, data: bytes) -> VerifiedManifest:
        """Take the product's manifest.

        Args:
            data: Its envelope.

        Raises:
            SignatureError: Too few of the manifest keys signed it.
            DigestError: It is not the one that is current.
            ExpiredError: It, the root or what says what is current has expired, or it was signed in the future.
            RollbackError: An older one, or another one of the same version, than was accepted before.
            SchemaError: It is no manifest, or for another product, channel or audience.
        """
        require_current(self._root, self.now)
        manifest = self._take(data, _OWN, self._root.manifest, frozenset())
        refuse_double_delegation(self._root, manifest)
        self._accepted[_OWN] = accepted(manifest)
        self._manifests = {_OWN: manifest}
        return manifest

    def update_publisher(self, publisher: str, data: bytes) -> VerifiedManifest:
        """Take the manifest of a delegated publisher, after the product's own.

        Args:
            publisher: Its name in the delegation.
            data: Its envelope.

        Raises:
            SchemaError: Nobody delegated to it, it offers what was not delegated to it, or it is another publisher's.
            DigestError: It is not the one that is current, or was revoked.
            ManifestError: As `update_manifest`.
        """
        require_current(self._root, self.now)
        delegation, revoked = self._delegated(publisher, self._reader.digest(data, publisher))
        manifest = self._take(data, publisher, KeySet.of(delegation), revoked)
        refuse_out_of_scope(manifest, delegation)
        refuse_taken(manifest, {name: each for name, each in self._manifests.items() if name != publisher})
        self._accepted[publisher] = accepted(manifest)
        self._manifests[publisher] = manifest
        return manifest

    def restore_manifest(self, data: bytes, publisher: str = _OWN) -> VerifiedManifest:
        """Take again, after a restart, the very manifest that was accepted before, whether or not it has expired.

        What served yesterday may serve until something newer comes; status says that it is stale. The keys must still
        be trusted.

        Args:
            data: Its envelope, from a cache.
            publisher: Whose it is; by default the product's own.

        Raises:
            DigestError: It is not the one that was accepted, or none was.
            SignatureError: The keys that signed it no longer count.
            SchemaError: Nobody delegates to the publisher any more, or the client is another one now.
        """
        before, digest = self._accepted.get(publisher), self._reader.digest(data, publisher)
        if before is None or digest != before.sha256:
            raise DigestError("the cached manifest is not the one that was accepted", "fetch it again")
        if publisher == _OWN:
            manifest = self._read(data, digest, _OWN, self._root.manifest)
            self._manifests = {_OWN: manifest}
            return manifest
        delegation, revoked = self._delegated(publisher, before.sha256)
        manifest = self._read(data, digest, publisher, KeySet.of(delegation), revoked)
        refuse_out_of_scope(manifest, delegation)
        refuse_taken(manifest, {name: each for name, each in self._manifests.items() if name != publisher})
        self._manifests[publisher] = manifest
        return manifest

    def _delegated(self, publisher: str, digest: str) -> tuple[Delegation, frozenset[str]]:
        """Return what a publisher may do, and what of all publishers was revoked."""
        own = self._manifests.get(_OWN)
        if own is None:
            raise SchemaError(f"publisher {publisher[:80]!r} comes after the product's own manifest")
        listed = (*self._root.delegations, *(() if own.body is None else own.body.delegations))
        delegation = next((each for each in listed if each.publisher == publisher), None)
        if delegation is None:
            raise SchemaError(f"nobody delegates to publisher {publisher[:80]!r}", "a root or manifest that names it")
        if digest in own.revoked:
            raise DigestError(f"manifest of publisher {publisher!r} was revoked ({digest})")
        return delegation, own.revoked

    def _take(self, data: bytes, publisher: str, keys: KeySet, revoked: frozenset[str]) -> VerifiedManifest:
        """Verify a manifest that is to be accepted now."""
        what = _called(publisher)
        pin = self._pin(publisher)
        digest = self._reader.digest(data, publisher)
        if pin is not None and (len(data), digest) != (pin.length, pin.sha256):
            raise DigestError(
                f"{what} is {len(data)} bytes of digest {digest}; current is {pin.length} bytes of {pin.sha256}",
                "another mirror; this one serves something else",
            )
        manifest = self._read(data, digest, publisher, keys, revoked)
        body = manifest.body
        assert body is not None  # noqa: S101 - an envelope always holds one
        if pin is not None and body.version != pin.version:
            raise RollbackError(f"{what} has version {body.version}, and current is {pin.version}")
        self._require_time(body.issued, body.expires, what)
        require_newer(self._accepted.get(publisher), manifest, keys, what)
        return manifest

    def _read(
        self, data: bytes, digest: str, publisher: str, keys: KeySet, revoked: frozenset[str] = frozenset()
    ) -> VerifiedManifest:
        """Verify all that does not depend on the time: signatures, schema, whose it is and for whom."""
        what = _called(publisher)
        reading, signers = self._reader.read(data, digest, publisher, keys, what)
        body = reading.body
        require_mine(self._policy, self._root, body.product, body.channel, what)
        require_audience(self._policy, body.audience, what)
        if (body.publisher or _OWN) != publisher:
            raise SchemaError(f"{what} says that its publisher is {body.publisher!r}")
        return VerifiedManifest(
            digest=reading.digest,
            length=len(data),
            signature="envelope",
            signed_by=tuple(key.key_id for key in signers),
            entries=body.entries,
            body=body,
            revoked=frozenset(body.revoked) | revoked,
        )

    def _pin(self, publisher: str) -> Pin | None:
        """Return what is current of a publisher; None where nobody is asked to say so."""
        if not self.asks_what_is_current:
            return None
        if self._freshness is None:
            raise ExpiredError("nothing says which manifest is current", "a freshness document comes first")
        body = self._freshness[1]
        self._require_time(body.issued, body.expires, "freshness document")
        pin = body.publishers.get(publisher) if publisher else body.manifest
        if pin is None:
            raise DigestError(f"no manifest of publisher {publisher!r} is current")
        return pin

    # What is asked of every document

    def _require_time(self, issued: str, expires: str, what: str) -> None:
        require_time(issued, expires, now=self.now, skew_seconds=self._policy.skew_seconds, what=what)

    # What was remembered

    def _restore(self, state: TrustedState) -> None:
        problems = [] if state.problem is None else [state.problem]
        for number, data in enumerate(state.roots, 1):
            try:
                # The pin may have been renewed since: what it covers is not asked for again.
                if parse_document(RootBody, Envelope.parse(data).payload, "root").version > self._root.version:
                    self.update_root(data)
            except ManifestError as error:
                problems.append(f"remembered root {number} of {len(state.roots)} does not follow: {error.message}")
                break
        self._accepted = dict(state.manifests)
        if state.freshness is not None:
            try:
                body = self._signed_freshness(state.freshness)
                require_mine(self._policy, self._root, body.product, body.channel, "freshness document")
                self._freshness = (state.freshness, body)
            except ManifestError as error:
                problems.append(f"what was remembered as current no longer counts: {error.message}")
        self.problems = tuple(problems)


def _called(publisher: str) -> str:
    return f"manifest of publisher {publisher!r}" if publisher else "manifest"
