"""Steps of verification that need no memory: an envelope's keys and type, delegations, and what is remembered."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from oneiric.core.errors import ExpiredError, RollbackError, SchemaError
from oneiric.remote._manifest_body import MAX_MANIFEST_BYTES, Delegation
from oneiric.remote._timestamps import format_time, parse_time
from oneiric.remote._trust_documents import KeySet, TrustRoot
from oneiric.remote._trust_manifests import VerifiedManifest
from oneiric.remote._trust_state import Accepted
from oneiric.remote.envelope import Envelope
from oneiric.remote.keys import PublicKey

__all__ = [
    "ClientPolicy",
    "accepted",
    "opened",
    "refuse_double_delegation",
    "refuse_out_of_scope",
    "refuse_taken",
    "require_audience",
    "require_current",
    "require_mine",
    "require_newer",
    "require_time",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPolicy:
    """What a client is, and what it takes.

    Attributes:
        product: Whose manifests; None takes the root's product, and any where the root is only keys.
        channel: Which line of them.
        audience: Who it is; a manifest that names an audience must name it.
        skew_seconds: How far in the future a document may have been signed: clocks differ.
        max_bytes: The longest manifest.
        is_packed: Whether the manifest was shipped with the application, in an image for example. Then whoever ships
            that says which one is current: no freshness document is asked for, and nothing is remembered from one
            start to the next. All else is as ever.
    """

    product: str | None = None
    channel: str = "stable"
    audience: str | None = None
    skew_seconds: float = 300.0
    max_bytes: int = MAX_MANIFEST_BYTES
    is_packed: bool = False


def opened(
    data: bytes, payload_type: str, keys: KeySet, what: str, max_bytes: int
) -> tuple[Envelope, tuple[PublicKey, ...]]:
    """Return an envelope and who signed it, its payload not yet looked at.

    Raises:
        SchemaError: It is no envelope, or of another type.
        SignatureError: Too few of the keys signed.
    """
    envelope = Envelope.parse(data, what=what, max_bytes=max_bytes)
    signers = envelope.require(keys.keys, keys.threshold, what)
    if envelope.payload_type != payload_type:
        raise SchemaError(f"{what} is of type {envelope.payload_type[:80]!r}, and {payload_type!r} is needed")
    return envelope, signers


def accepted(manifest: VerifiedManifest) -> Accepted:
    """Return what is remembered of a manifest that came in an envelope."""
    body: Any = manifest.body
    return Accepted(
        product=body.product,
        channel=body.channel,
        version=body.version,
        sha256=manifest.digest,
        length=manifest.length,
        issued=parse_time(body.issued),
        signed_by=manifest.signed_by,
    )


def refuse_double_delegation(root: TrustRoot, manifest: VerifiedManifest) -> None:
    """Refuse a manifest that would give a publisher of the root other keys or scopes."""
    named = {each.publisher for each in root.delegations}
    again = [each.publisher for each in (manifest.body.delegations if manifest.body else ()) if each.publisher in named]
    if again:
        raise SchemaError(f"manifest delegates to publisher {again[0]!r}, which the root has delegated to")


def refuse_out_of_scope(manifest: VerifiedManifest, delegation: Delegation) -> None:
    """Refuse a delegated manifest that offers anything that was not delegated."""
    for number, row in enumerate(manifest.entries, 1):
        domain, key = (row.get("domain"), row.get("key")) if isinstance(row, dict) else (None, None)
        if not isinstance(domain, str) or not isinstance(key, str) or not delegation.covers(domain, key):
            shown = f"{domain!r:.80}:{key!r:.80}"
            raise SchemaError(
                f"publisher {delegation.publisher!r} may not offer {shown} (entry {number})",
                "a delegation whose scope covers it",
            )


def refuse_taken(manifest: VerifiedManifest, others: Mapping[str, VerifiedManifest]) -> None:
    """Refuse a delegated manifest that offers under a name that somebody else offers under."""
    taken = {_identity(row): publisher for publisher, each in others.items() for row in each.entries}
    for number, row in enumerate(manifest.entries, 1):
        holder = taken.get(_identity(row))
        if holder is not None:
            domain, key, provider = _identity(row)
            raise SchemaError(
                f"{domain}:{key}/{provider} (entry {number}) is offered by {holder or 'the product'} already",
                "another provider name",
            )


def _identity(row: Any) -> tuple[str, str, str]:
    if not isinstance(row, dict):
        return "", "", ""
    domain, key, provider = (str(row.get(name))[:200] for name in ("domain", "key", "provider"))
    return domain, key, provider


def require_mine(policy: ClientPolicy, root: TrustRoot, product: str, channel: str, what: str) -> None:
    """Refuse a document of another product or channel."""
    mine = root.product or policy.product
    if mine is not None and product != mine:
        raise SchemaError(f"{what} is of product {product!r}, and this client takes {mine!r}")
    if channel != policy.channel:
        raise SchemaError(f"{what} is of channel {channel!r}, and this client takes {policy.channel!r}")


def require_audience(policy: ClientPolicy, audience: tuple[str, ...], what: str) -> None:
    """Refuse a manifest that names who it is for, and not this client."""
    if audience and policy.audience not in audience:
        raise SchemaError(f"{what} is for {', '.join(audience)[:200]}, and this client is {policy.audience!r}")


def require_current(root: TrustRoot, now: float) -> None:
    """Refuse everything under a root that has expired."""
    if root.expires is not None and root.expires <= now:
        raise ExpiredError(
            f"root version {root.version} expired at {format_time(root.expires)}", "a newer root from its publisher"
        )


def require_time(issued: str, expires: str, *, now: float, skew_seconds: float, what: str) -> None:
    """Refuse a document that has expired, or was signed in the future."""
    if parse_time(expires) <= now:
        raise ExpiredError(f"{what} expired at {expires}", "the current one from its publisher, or another mirror")
    if parse_time(issued) > now + skew_seconds:
        raise ExpiredError(
            f"{what} was signed at {issued}, which is in the future (it is {format_time(now)} here)", "set the clock"
        )


def require_newer(before: Accepted | None, manifest: VerifiedManifest, keys: KeySet, what: str) -> None:
    """Refuse a manifest that is older than the one accepted before, while the keys of that one are still trusted."""
    body: Any = manifest.body
    if before is None or before.channel != body.channel or not keys.still_trusts(before.signed_by):
        return
    if before.product != body.product:
        raise SchemaError(f"{what} is of product {body.product!r}, and {before.product!r} was accepted before")
    if body.version < before.version:
        raise RollbackError(
            f"{what} has version {body.version}, and {before.version} was accepted before", "publish a greater version"
        )
    if body.version == before.version and manifest.digest != before.sha256:
        raise RollbackError(f"two manifests have version {body.version} and differ", "publish a greater version")
