"""The two documents beside manifests: who is trusted (root), and what is current (freshness)."""

import hashlib
from dataclasses import dataclass
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, Field, model_validator

from oneiric.core.errors import DigestError, SchemaError, SignatureError
from oneiric.remote._manifest_body import Delegation, Digest, Name, Table, Version, checked
from oneiric.remote._strict_json import parse_json
from oneiric.remote._timestamps import Timestamp, parse_time
from oneiric.remote.envelope import ROOT_TYPE, Envelope
from oneiric.remote.keys import PublicKey

__all__ = [
    "MAX_DOCUMENT_BYTES",
    "FreshnessBody",
    "KeySet",
    "Pin",
    "Role",
    "RootBody",
    "TrustRoot",
    "parse_document",
]

#: A root with a thousand delegations is a few hundred kilobytes; a freshness document a few hundred bytes.
MAX_DOCUMENT_BYTES: Final = 4 * 1024 * 1024
_DAY: Final = 86_400.0
#: Longer than this no root is valid: keys that nobody looks at for a year are keys that nobody guards.
_ROOT_SECONDS: Final = 366 * _DAY
#: The longest time for which a stolen freshness key, or a mirror that stops, can hold clients back unseen.
_FRESHNESS_SECONDS: Final = _DAY

_Words = Annotated[tuple[Annotated[str, Field(strict=True, min_length=1, max_length=200)], ...], Field(max_length=100)]


class Role(Table):
    """The keys of a role, and how many of them must sign.

    Attributes:
        keys: Base64 of each.
        threshold: How many distinct keys must sign.
    """

    keys: Annotated[tuple[Annotated[str, Field(strict=True)], ...], Field(min_length=1, max_length=64)]
    threshold: Annotated[int, Field(strict=True, ge=1, le=64)]

    @model_validator(mode="after")
    def _keys_are_enough(self) -> Self:
        try:
            distinct = len({PublicKey.from_base64(key) for key in self.keys})
        except SignatureError as error:
            raise ValueError(error.message) from error
        if self.threshold > distinct:
            raise ValueError(f"asks for {self.threshold} signatures and lists {distinct} distinct keys")
        return self


class Roles(Table):
    """Who may sign what."""

    root: Role
    manifest: Role
    freshness: Role


class _Document(Table):
    """What both documents have."""

    product: Name
    version: Version
    issued: Timestamp
    expires: Timestamp
    crit: _Words = ()
    extensions: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if parse_time(self.expires) <= parse_time(self.issued):
            raise ValueError("expires before it is issued")
        if self.crit:
            raise ValueError(f"demands that {self.crit[0]!r} be understood, and this version does not")
        return self

    def _lasts_at_most(self, seconds: float) -> None:
        if parse_time(self.expires) - parse_time(self.issued) > seconds:
            raise ValueError(f"is valid for more than {seconds / _DAY:.0f} days")


class RootBody(_Document):
    """Who is trusted for a product: keys, thresholds and delegations."""

    roles: Roles
    delegations: Annotated[tuple[Delegation, ...], Field(max_length=1000)] = ()

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        self._lasts_at_most(_ROOT_SECONDS)
        publishers = [delegation.publisher for delegation in self.delegations]
        if len(publishers) != len(set(publishers)):
            raise ValueError("delegates to one publisher twice")
        return self


class Pin(Table):
    """Exactly one manifest: its version, and the digest and length of its envelope's bytes."""

    version: Version
    sha256: Digest
    length: Annotated[int, Field(strict=True, ge=1, le=2**53 - 1)]


class FreshnessBody(_Document):
    """What is current: one manifest, and one of each delegated publisher."""

    channel: Name = "stable"
    manifest: Pin
    publishers: dict[Name, Pin] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_short_lived(self) -> Self:
        self._lasts_at_most(_FRESHNESS_SECONDS)
        return self


def parse_document[T: BaseModel](model: type[T], payload: bytes, what: str) -> T:
    """Parse bytes that were signed.

    Raises:
        SchemaError: They are no strict JSON, or break the model.
    """
    return checked(model, parse_json(payload, what, max_bytes=MAX_DOCUMENT_BYTES), what)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """Distinct keys, and how many of them must sign.

    Attributes:
        keys: Each once.
        threshold: At least 1.
    """

    keys: tuple[PublicKey, ...]
    threshold: int = 1

    @classmethod
    def of(cls, role: Role | Delegation) -> "KeySet":
        """Return the keys that a document states."""
        keys = {key: PublicKey.from_base64(key) for key in role.keys}
        return cls(keys=tuple(keys.values()), threshold=role.threshold)

    def still_trusts(self, signers: tuple[str, ...]) -> bool:
        """Tell whether enough of the keys with these ids are trusted now."""
        return len({key.key_id for key in self.keys} & set(signers)) >= self.threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustRoot:
    """Where trust starts: a root document handed over with the client, or a few keys.

    Attributes:
        manifest: Who signs manifests.
        root: Who signs the next root; None when there is none to come.
        freshness: Who signs what is current; None when nobody does, and a manifest's expiry is all there is.
        product: Whose it is; None takes any.
        version: Of the root document; 0 where there is none.
        issued: Seconds since the epoch.
        expires: Seconds since the epoch; None never.
        delegations: Who else may publish.
        sha256: Of the root document's envelope; empty where there is none.
    """

    manifest: KeySet
    root: KeySet | None = None
    freshness: KeySet | None = None
    product: str | None = None
    version: int = 0
    issued: float = 0.0
    expires: float | None = None
    delegations: tuple[Delegation, ...] = ()
    sha256: str = ""

    @classmethod
    def from_keys(cls, keys: tuple[PublicKey, ...], *, threshold: int = 1, product: str | None = None) -> "TrustRoot":
        """Make the least root there is of the keys in ``ONEIRIC_TRUSTED_PUBLIC_KEYS``: they sign manifests.

        Raises:
            SignatureError: There are fewer distinct keys than *threshold*, or none.
        """
        distinct = tuple({key.raw: key for key in keys}.values())
        if not distinct:
            raise SignatureError("no key is trusted for manifests", "ONEIRIC_TRUSTED_PUBLIC_KEYS=<base64>, or a root")
        if not 1 <= threshold <= len(distinct):
            raise SignatureError(f"{threshold} keys must sign, and {len(distinct)} are trusted")
        return cls(manifest=KeySet(keys=distinct, threshold=threshold), product=product)

    @classmethod
    def pinned(cls, data: bytes, *, sha256: str | None = None, what: str = "pinned root") -> "TrustRoot":
        """Read the root document that the client was handed over with.

        Args:
            data: Its envelope. It must be signed by its own keys: one that is not was damaged.
            sha256: What its digest must be, for a root that came another way.
            what: What errors call it.

        Raises:
            DigestError: It has another digest.
            SignatureError: Its own keys have not signed it.
            SchemaError: It is no root document.
        """
        digest = hashlib.sha256(data).hexdigest()
        if sha256 is not None and digest != sha256.lower():
            raise DigestError(f"{what} has the digest {digest}, and {sha256[:64]} was asked for")
        envelope = Envelope.parse(data, what=what, max_bytes=MAX_DOCUMENT_BYTES)
        return cls.signed_by_itself(envelope, digest, what)

    @classmethod
    def signed_by_itself(cls, envelope: Envelope, digest: str, what: str) -> "TrustRoot":
        """Read a root from its envelope, if its own keys have signed it; raises as `pinned` does."""
        if envelope.payload_type != ROOT_TYPE:
            raise SchemaError(f"{what} is of type {envelope.payload_type[:80]!r}, and {ROOT_TYPE!r} is needed")
        body = parse_document(RootBody, envelope.payload, what)
        root = KeySet.of(body.roles.root)
        envelope.require(root.keys, root.threshold, what)
        return cls(
            manifest=KeySet.of(body.roles.manifest),
            root=root,
            freshness=KeySet.of(body.roles.freshness),
            product=body.product,
            version=body.version,
            issued=parse_time(body.issued),
            expires=parse_time(body.expires),
            delegations=body.delegations,
            sha256=digest,
        )
