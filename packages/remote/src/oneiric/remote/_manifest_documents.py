"""Documents as people write them: JSON or YAML, and those that earlier versions published.

An earlier document has no product, no version and no closed schema: what it says beyond its fields is ignored, as it
was. Nothing here verifies anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, get_args

import rfc8785
from pydantic import BaseModel

from oneiric.core.errors import SchemaError
from oneiric.core.security import FactoryAllowList
from oneiric.remote._manifest_body import MAX_MANIFEST_BYTES, ManifestBody, checked, parse_manifest
from oneiric.remote._manifest_candidates import FactoryPolicy, candidates_of
from oneiric.remote._manifest_entry import ManifestEntry
from oneiric.remote._strict_json import check_plain, parse_json
from oneiric.remote._strict_yaml import parse_yaml

__all__ = ["EarlierManifest", "pack", "parse_earlier", "read_document"]

_SIGNATURE_FIELDS: Final = ("signature", "signature_algorithm", "signatures")
_EARLIER_FIELDS: Final = frozenset({"source", "entries", "signed_at", "expires_at", *_SIGNATURE_FIELDS})
#: A document that was signed in an earlier format has one of them.
_SIGNED: Final = frozenset({"signed_at", "expires_at", *_SIGNATURE_FIELDS})
_MOST_PROBLEMS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierManifest:
    """A document of the first or second format, read and not verified.

    Attributes:
        source: Its label.
        entries: Its rows, without what earlier versions ignored.
        ignored: What was ignored, as dotted names.
        signed_at: When it was signed, as stated; None when it does not say.
        expires_at: When it expires, as stated.
        signatures: Base64 of the signatures embedded in it, in order.
        document: All of it, as parsed.
    """

    source: str
    entries: tuple[dict[str, Any], ...]
    ignored: tuple[str, ...]
    signed_at: str | None
    expires_at: str | None
    signatures: tuple[str, ...]
    document: Mapping[str, Any]


def read_document(data: bytes, what: str = "manifest", *, max_bytes: int = MAX_MANIFEST_BYTES) -> dict[str, Any]:
    """Return a document written as JSON or YAML; what starts with a brace is JSON and nothing else.

    Args:
        data: The text, in UTF-8.
        what: What errors call it, such as its path.
        max_bytes: The longest one that is looked at.

    Raises:
        SchemaError: It is neither, or holds what strict JSON and hardened YAML refuse.
    """
    if data[:64].lstrip()[:1] in {b"{", b"["}:
        document = parse_json(data, what, max_bytes=max_bytes)
    else:
        document = parse_yaml(data, what, max_bytes=max_bytes)
        check_plain(document, what)
    if not isinstance(document, dict):
        raise SchemaError(f"{what} must be a mapping, not {type(document).__name__}")
    return document


def parse_earlier(document: Mapping[str, Any], what: str = "manifest") -> EarlierManifest:
    """Read a document of the first or second format.

    Raises:
        SchemaError: Its entries or its signatures are no lists, or a stated time is no text.
    """
    entries = [] if document.get("entries") is None else document["entries"]
    if not isinstance(entries, list):
        raise SchemaError(f"{what}: entries must be a list, not {type(entries).__name__}")
    ignored = {name for name in document if name not in _EARLIER_FIELDS}
    kept = tuple(_known(each, ManifestEntry, "entries", ignored) for each in entries)
    times = {name: document.get(name) for name in ("signed_at", "expires_at")}
    if wrong := [name for name, value in times.items() if not isinstance(value, str | None)]:
        raise SchemaError(f"{what}: {wrong[0]} must be text")
    return EarlierManifest(
        source=str(document.get("source") or "remote"),
        entries=kept,
        ignored=tuple(sorted(ignored)),
        **times,
        signatures=_signatures(document, what),
        document=document,
    )


def _signatures(document: Mapping[str, Any], what: str) -> tuple[str, ...]:
    listed = [] if document.get("signatures") is None else document["signatures"]
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise SchemaError(f"{what}: signatures must be a list of tables")
    single = {"signature": document.get("signature"), "algorithm": document.get("signature_algorithm", "ed25519")}
    found = []
    for each in [*([single] if single["signature"] is not None else []), *listed]:
        if each.get("algorithm", "ed25519") != "ed25519":
            raise SchemaError(f"{what} is signed with {each['algorithm']!r:.40}, and only ed25519 is known")
        if not isinstance(each.get("signature"), str):
            raise SchemaError(f"{what}: a signature must be base64 text")
        found.append(each["signature"])
    return tuple(found)


@cache
def _inner(model: type[BaseModel]) -> dict[str, type[BaseModel] | None]:
    """Return the fields of a model, and the model of those that hold tables."""
    return {name: _model_in(field.annotation) for name, field in model.model_fields.items()}


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _model_in(each)) is not None), None)


def _known(value: Any, model: type[BaseModel] | None, path: str, ignored: set[str]) -> Any:
    """Drop the fields that a model does not know, however deep, and note them."""
    if model is None:
        return value
    if isinstance(value, list):
        return [_known(each, model, path, ignored) for each in value]
    if not isinstance(value, dict):
        return value
    fields = _inner(model)
    ignored.update(f"{path}.{name}"[:200] for name in value if name not in fields)
    return {
        name: _known(each, fields[name], f"{path}.{name}", ignored) for name, each in value.items() if name in fields
    }


def pack(document: Mapping[str, Any], what: str = "manifest", **stated: Any) -> bytes:
    """Return the canonical bytes of a manifest, which are what is signed.

    A document of an earlier format is packed too: its signatures fall away, what earlier versions ignored is dropped,
    and *stated* says what it lacks (product, version, issued, expires).

    Args:
        document: What `read_document` returned.
        what: What errors call it.
        stated: Fields of the body that outrank the document's.

    Raises:
        SchemaError: The manifest breaks its schema; ``problems`` has a sentence for each entry at fault.

    Source: RFC 8785.
    """
    body = {**_without_signatures(document, what), **stated}
    body = {name: value for name, value in body.items() if value is not None}
    if isinstance(body.get("entries"), list):
        body["entries"] = [_stated(each) for each in body["entries"]]
    checked(ManifestBody, body, what)
    _check_rows(body["entries"], what)
    try:
        packed = rfc8785.dumps(body)
    except rfc8785.CanonicalizationError as error:
        raise SchemaError(f"{what} cannot be written as canonical JSON: {error}") from error
    parse_manifest(packed, what)
    return packed


def _without_signatures(document: Mapping[str, Any], what: str) -> dict[str, Any]:
    is_earlier = "product" not in document and not _SIGNED.isdisjoint(document)
    if not is_earlier:
        return dict(document)
    earlier = parse_earlier(document, what)
    return {"source": earlier.source, "entries": list(earlier.entries)}


def _stated(row: Any) -> Any:
    return {name: value for name, value in row.items() if value is not None} if isinstance(row, dict) else row


class _Anything(FactoryAllowList):
    """Permits every module: what a client allows is not the publisher's business."""

    def permits(self, text: str) -> bool:  # noqa: ARG002 - whatever it is
        return True


def _check_rows(rows: list[Any], what: str) -> None:
    refused = candidates_of(rows, origin="pack", policy=FactoryPolicy(general=_Anything())).refused
    if refused:
        problems = tuple(f"entry {each.number} ({each.name}): {each.reason}" for each in refused[:_MOST_PROBLEMS])
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise SchemaError(f"{what}: {problems[0]}{more}", None, problems)
