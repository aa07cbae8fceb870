"""Publishing: what an operator of a publisher writes and signs. The other side of `oneiric.remote.trust`.

Each function returns bytes for the caller to write: bodies in canonical form, or envelopes. None of them keeps a key,
and what they return has been parsed as a client would parse it.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import rfc8785

from oneiric.core.errors import SchemaError
from oneiric.remote._timestamps import format_time
from oneiric.remote._trust_documents import MAX_DOCUMENT_BYTES, FreshnessBody, RootBody, parse_document
from oneiric.remote.envelope import FRESHNESS_TYPE, MANIFEST_TYPE, ROOT_TYPE, Envelope, sign
from oneiric.remote.keys import PublicKey, SigningKey
from oneiric.remote.manifest import ManifestBody, pack, parse_manifest

__all__ = [
    "FreshnessBody",
    "RoleKeys",
    "RootBody",
    "countersigned",
    "described_artifacts",
    "freshness_after",
    "freshness_body",
    "manifest_body",
    "payload_of",
    "root_after",
    "root_body",
    "signed",
]

_DAY: Final = 86_400.0
_ROLES: Final = ("root", "manifest", "freshness")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleKeys:
    """The keys of a role.

    Attributes:
        keys: Each once.
        threshold: How many must sign.
    """

    keys: tuple[PublicKey, ...]
    threshold: int = 1

    def as_dict(self) -> dict[str, Any]:
        """Return what a root document states."""
        return {"keys": [key.base64 for key in self.keys], "threshold": self.threshold}


def payload_of(data: bytes, payload_type: str, what: str) -> bytes:
    """Return what an envelope holds, its signatures not checked: for its author, never for a client.

    Raises:
        SchemaError: It is no envelope, or of another type.
    """
    envelope = Envelope.parse(data, what=what)
    if envelope.payload_type != payload_type:
        raise SchemaError(f"{what} is of type {envelope.payload_type[:80]!r}, and {payload_type!r} is needed")
    return envelope.payload


def manifest_body(
    document: Mapping[str, Any],
    *,
    now: float,
    lifetime_seconds: float,
    after: ManifestBody | None = None,
    what: str = "manifest",
    **stated: Any,
) -> bytes:
    """Return the canonical body of a manifest that is issued now.

    Args:
        document: What `read_document` returned.
        now: Seconds since the epoch.
        lifetime_seconds: From when on it is refused, seen from now.
        after: The manifest it follows: product, channel and publisher are the same, and the version goes up by 1.
        what: What errors call it.
        stated: Fields that outrank the document's; None leaves the document's.

    Raises:
        SchemaError: It breaks the schema of manifests.
    """
    fields: dict[str, Any] = {"issued": format_time(now), "expires": format_time(now + lifetime_seconds)}
    if after is not None:
        fields |= {"product": after.product, "channel": after.channel, "version": after.version + 1}
        fields |= {"publisher": after.publisher}
    elif "version" not in document:
        fields["version"] = 1
    fields |= {name: value for name, value in stated.items() if value is not None}
    return pack(document, what, **fields)


def described_artifacts(document: Mapping[str, Any], directory: Path, *, base: str = "") -> dict[str, Any]:
    """Return the document with ``sha256`` and ``size`` of each artifact whose file lies in *directory*.

    Args:
        document: What `read_document` returned.
        directory: Where the files lie that entries name in ``uri``, by their path there.
        base: Put before each ``uri`` that names such a file, such as ``https://cdn.example.org/acme/``.

    Raises:
        SchemaError: A file is there and its entry states another digest.
    """
    entries = []
    for number, row in enumerate(document.get("entries") or (), 1):
        uri = row.get("uri") if isinstance(row, Mapping) else None
        path = directory / str(uri)
        if uri is None or ":" in str(uri) or ".." in path.parts or not path.is_file():
            entries.append(row)
            continue
        data = path.read_bytes()
        found = {"uri": f"{base}{uri}", "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        if row.get("sha256", found["sha256"]) != found["sha256"]:
            raise SchemaError(f"entry {number} states another sha256 than that of {str(path)!r}", "leave it out")
        entries.append({**row, **found})
    return {**document, "entries": entries}


def root_body(
    roles: Mapping[str, RoleKeys],
    *,
    now: float,
    lifetime_seconds: float = 365 * _DAY,
    product: str | None = None,
    after: RootBody | None = None,
    delegations: Iterable[Mapping[str, Any]] | None = None,
) -> bytes:
    """Return the canonical body of a root document.

    Args:
        roles: ``root``, ``manifest`` and ``freshness`` → keys; after another root those that change.
        now: Seconds since the epoch.
        lifetime_seconds: At most a year.
        product: Whose it is; after another root its product.
        after: The root it follows; the version goes up by 1.
        delegations: Who else may publish; by default those of the root before.

    Raises:
        SchemaError: A role has no keys, or fewer than its threshold, or the product is missing.
    """
    before = {} if after is None else after.model_dump(mode="json", exclude_none=True)
    listed = before.get("delegations", []) if delegations is None else [dict(each) for each in delegations]
    body = {
        "product": product or before.get("product"),
        "version": before.get("version", 0) + 1,
        "issued": format_time(now),
        "expires": format_time(now + lifetime_seconds),
        "roles": {**before.get("roles", {}), **{name: keys.as_dict() for name, keys in roles.items()}},
        "delegations": listed,
    }
    if missing := [name for name in _ROLES if name not in body["roles"]]:
        raise SchemaError(f"role {missing[0]!r} of the root has no keys", f"--{missing[0]}-key")
    packed = rfc8785.dumps({name: value for name, value in body.items() if value is not None})
    parse_document(RootBody, packed, "root")
    return packed


def freshness_body(
    manifest: bytes,
    *,
    now: float,
    lifetime_seconds: float = _DAY,
    publishers: Mapping[str, bytes] | None = None,
    after: FreshnessBody | None = None,
) -> bytes:
    """Return the canonical body of the document that says which manifests are current.

    Args:
        manifest: The envelope of the product's manifest.
        now: Seconds since the epoch.
        lifetime_seconds: At most a day.
        publishers: Delegated publisher → the envelope of its manifest.
        after: The document it follows; the version goes up by 1.

    Raises:
        SchemaError: An envelope holds no manifest, or one of a delegated publisher is of another.
    """
    own = parse_manifest(payload_of(manifest, MANIFEST_TYPE, "manifest"))
    pins = {}
    for name, data in (publishers or {}).items():
        body = parse_manifest(payload_of(data, MANIFEST_TYPE, f"manifest of {name!r}"))
        if body.publisher != name:
            raise SchemaError(f"the manifest given for publisher {name!r} says that it is {body.publisher!r}'s")
        pins[name] = _pin(body, data)
    packed = rfc8785.dumps(
        {
            "product": own.product,
            "channel": own.channel,
            "version": 1 if after is None else after.version + 1,
            "issued": format_time(now),
            "expires": format_time(now + lifetime_seconds),
            "manifest": _pin(own, manifest),
            "publishers": pins,
        }
    )
    parse_document(FreshnessBody, packed, "freshness document")
    return packed


def freshness_after(data: bytes, what: str) -> FreshnessBody:
    """Return the freshness document that another is to follow, from its envelope.

    Raises:
        SchemaError: It is none.
    """
    return parse_document(FreshnessBody, payload_of(data, FRESHNESS_TYPE, what), what)


def root_after(data: bytes, what: str) -> RootBody:
    """Return the root that another is to follow, from its envelope.

    Raises:
        SchemaError: It is none.
    """
    return parse_document(RootBody, payload_of(data, ROOT_TYPE, what), what)


def _pin(body: ManifestBody, data: bytes) -> dict[str, Any]:
    return {"version": body.version, "sha256": hashlib.sha256(data).hexdigest(), "length": len(data)}


def signed(payload: bytes, payload_type: str, keys: Iterable[SigningKey]) -> bytes:
    """Return an envelope of a body that a client would parse.

    Raises:
        SchemaError: It would not.
    """
    if payload_type == MANIFEST_TYPE:
        parse_manifest(payload)
    elif payload_type in {ROOT_TYPE, FRESHNESS_TYPE}:
        model: Any = RootBody if payload_type == ROOT_TYPE else FreshnessBody
        parse_document(model, payload, "document")
    return sign(payload, payload_type, keys).to_bytes()


def countersigned(data: bytes, keys: Iterable[SigningKey]) -> bytes:
    """Return an envelope with further signatures; a key that has signed it already signs it once.

    Raises:
        SchemaError: It is no envelope.
    """
    envelope = Envelope.parse(data, max_bytes=max(len(data), MAX_DOCUMENT_BYTES))
    listed = tuple(keys)
    known = {key.raw for key in envelope.signed_by([key.public for key in listed])}
    added = sign(envelope.payload, envelope.payload_type, [key for key in listed if key.public.raw not in known])
    signatures = (*envelope.signatures, *added.signatures)
    return Envelope(payload=envelope.payload, payload_type=envelope.payload_type, signatures=signatures).to_bytes()
