"""Manifests that may be used, and why: signed in an envelope, signed inside, or named by hand and not verified."""

import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from oneiric.core.errors import ExpiredError, SchemaError, SignatureError
from oneiric.remote._manifest_body import ManifestBody, checked
from oneiric.remote._manifest_candidates import Entries, FactoryPolicy, candidates_of
from oneiric.remote._manifest_documents import EarlierManifest, parse_earlier, read_document
from oneiric.remote._timestamps import format_time
from oneiric.remote.keys import PublicKey

__all__ = ["EmbeddedPolicy", "VerifiedManifest", "read_embedded", "read_unsigned"]

_SIGNATURE_FIELDS: Final = frozenset({"signature", "signature_algorithm", "signatures"})
_SKEW_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedManifest:
    """A manifest that may be used.

    Attributes:
        digest: SHA-256 of the bytes it came in.
        length: Their number.
        signature: How it was verified: in an ``envelope``, ``embedded`` in the document as earlier versions did, or
            ``unsigned``: not at all, because an operator named the local file.
        signed_by: Ids of the keys that signed it.
        entries: Its rows.
        body: What was signed; None for a document of an earlier format.
        ignored: Fields of an earlier document that nobody reads.
        revoked: SHA-256 of what must not be used any more.
    """

    digest: str
    length: int
    signature: Literal["envelope", "embedded", "unsigned"]
    signed_by: tuple[str, ...] = ()
    entries: Sequence[Any] = ()
    body: ManifestBody | None = None
    ignored: tuple[str, ...] = ()
    revoked: frozenset[str] = field(default=frozenset())

    @property
    def origin(self) -> str:
        """What its candidates come from: ``sha256:`` and the digest."""
        return f"sha256:{self.digest}"

    def about(self) -> dict[str, Any]:
        """Return what each of its candidates says of it: product, channel, version, digest, signature, signers."""
        body = self.body
        stated = {} if body is None else {"product": body.product, "channel": body.channel, "version": body.version}
        if body is not None and body.publisher is not None:
            stated["publisher"] = body.publisher
        return {**stated, "digest": self.digest, "signature": self.signature, "signed_by": list(self.signed_by)}

    def candidates(self, policy: FactoryPolicy) -> Entries:
        """Make candidates of the entries, with a verdict for each that is not taken."""
        return candidates_of(
            self.entries,
            origin=self.origin,
            policy=policy,
            about=self.about(),
            revoked=self.revoked,
            digest_required=self.body is not None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedPolicy:
    """What is asked of signatures inside a document of an earlier format.

    Attributes:
        accept: Nothing is accepted unless this is set.
        threshold: How many distinct keys must have signed.
        max_age_seconds: The longest time since ``signed_at``; None takes any.
        require_expiry: Refuse a document that does not say when it expires.
    """

    accept: bool = False
    threshold: int = 1
    max_age_seconds: float | None = None
    require_expiry: bool = False


def read_embedded(
    data: bytes, keys: Sequence[PublicKey], policy: EmbeddedPolicy, *, now: float, what: str = "manifest"
) -> VerifiedManifest:
    """Verify a document of an earlier format by the signatures inside it.

    Such a document has no version: an older one that has not expired passes for new. That is why it takes a flag.

    Args:
        data: The document, JSON or YAML.
        keys: Who is trusted.
        policy: What is asked of it.
        now: Seconds since the epoch.
        what: What errors call it.

    Raises:
        SignatureError: The policy accepts none, or too few of the keys signed.
        ExpiredError: It has expired, is too old, or does not say what it must.
        SchemaError: It is no such document.
    """
    if not policy.accept:
        raise SignatureError(
            f"{what} is no signed envelope, and signatures inside a document are not accepted",
            "oneiric manifest sign; or remote.accept_embedded_signatures = true",
        )
    manifest = parse_earlier(read_document(data, what), what)
    signers = _signers(manifest, keys, what)
    distinct = len({key.raw for key in keys})
    if policy.threshold < 1 or len(signers) < policy.threshold:
        raise SignatureError(
            f"Signature threshold not met: {what} is signed by {len(signers)} of the {distinct} trusted keys, "
            f"and {policy.threshold} must sign"
        )
    _check_times(manifest, policy, now, what)
    return _earlier(manifest, data, "embedded", tuple(key.key_id for key in signers))


def read_unsigned(data: bytes, *, what: str = "manifest") -> VerifiedManifest:
    """Read a manifest that nobody verified: only ever a local file that an operator named.

    Args:
        data: An authored manifest, or a document of an earlier format; JSON or YAML.
        what: What errors call it, such as its path.

    Raises:
        SchemaError: It is neither, or it is an envelope: that is verified, and not read without.
    """
    document = read_document(data, what)
    if "payloadType" in document:
        raise SchemaError(f"{what} is a signed envelope, which is not read unsigned", "a trusted root or key for it")
    if "product" not in document:
        return _earlier(parse_earlier(document, what), data, "unsigned", ())
    body = checked(ManifestBody, document, what)
    return VerifiedManifest(
        digest=hashlib.sha256(data).hexdigest(),
        length=len(data),
        signature="unsigned",
        entries=body.entries,
        body=body,
        revoked=frozenset(body.revoked),
    )


def _earlier(
    manifest: EarlierManifest, data: bytes, signature: Literal["embedded", "unsigned"], signers: tuple[str, ...]
) -> VerifiedManifest:
    return VerifiedManifest(
        digest=hashlib.sha256(data).hexdigest(),
        length=len(data),
        signature=signature,
        signed_by=signers,
        entries=manifest.entries,
        ignored=manifest.ignored,
    )


def _signers(manifest: EarlierManifest, keys: Sequence[PublicKey], what: str) -> tuple[PublicKey, ...]:
    """Return the distinct keys that signed the earlier canonical form."""
    if not keys:
        raise SignatureError(f"No trusted public keys configured for {what}", "ONEIRIC_TRUSTED_PUBLIC_KEYS=<base64>")
    message = _earlier_form(manifest.document, what)
    remaining = {key.raw: key for key in keys}
    found = []
    for text in manifest.signatures[:32]:
        try:
            value = binascii.a2b_base64(text.encode(), strict_mode=True)
        except ValueError:
            continue
        signed = [key for key in remaining.values() if key.verifies(value, message)]
        found += [remaining.pop(key.raw) for key in signed]
    return tuple(found)


def _earlier_form(document: Mapping[str, Any], what: str) -> bytes:
    """Return the bytes that earlier versions signed: sorted JSON of everything but the signatures."""
    signed = {name: value for name, value in document.items() if name not in _SIGNATURE_FIELDS}
    try:
        return json.dumps(signed, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise SchemaError(f"{what} holds what was never signed: {error}") from error


def _check_times(manifest: EarlierManifest, policy: EmbeddedPolicy, now: float, what: str) -> None:
    expires, signed = _seconds(manifest.expires_at, what), _seconds(manifest.signed_at, what)
    if expires is None and policy.require_expiry:
        raise ExpiredError(f"{what} does not say when it expires", "oneiric manifest sign --expires-in")
    if expires is not None and expires <= now:
        raise ExpiredError(f"{what} expired at {format_time(expires)}", "get the current one from its publisher")
    if signed is not None and signed > now + _SKEW_SECONDS:
        raise ExpiredError(f"{what} was signed at {format_time(signed)}, which is in the future", "set the clock")
    if policy.max_age_seconds is not None:
        if signed is None:
            raise ExpiredError(f"{what} does not say when it was signed", "oneiric manifest sign")
        if now - signed > policy.max_age_seconds:
            raise ExpiredError(f"{what} was signed more than {policy.max_age_seconds:g} s ago")


def _seconds(text: str | None, what: str) -> float | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise SchemaError(f"{what}: {text[:40]!r} is no time") from error
    if moment.tzinfo is None:
        raise SchemaError(f"{what}: time {text[:40]!r} lacks its zone")
    return moment.timestamp()
