"""What a publisher signs: a manifest's body, parsed strictly from the very bytes that were signed."""

import unicodedata
from collections.abc import Sequence
from typing import Annotated, Any, Final, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from oneiric.core.errors import SchemaError, SignatureError
from oneiric.remote._manifest_entry import ManifestEntry
from oneiric.remote._manifest_rows import Rows, read_canonical
from oneiric.remote._strict_json import parse_json
from oneiric.remote._timestamps import Timestamp, parse_time
from oneiric.remote.keys import PublicKey

__all__ = [
    "MAX_MANIFEST_BYTES",
    "MAX_VERSION",
    "Delegation",
    "Digest",
    "ManifestBody",
    "Name",
    "Scope",
    "Table",
    "Version",
    "checked",
    "manifest_schema",
    "parse_manifest",
]

#: Versions only go up: an attacker who could set a greater one would block every later update for good.
MAX_VERSION: Final = 2**31 - 1
MAX_MANIFEST_BYTES: Final = 64 * 1024 * 1024
_MOST_ENTRIES: Final = 100_000
_MOST_PROBLEMS: Final = 20

Name = Annotated[str, Field(strict=True, pattern=r"^[a-z0-9][a-z0-9._-]{0,199}$")]
Version = Annotated[int, Field(strict=True, ge=1, le=MAX_VERSION)]
Digest = Annotated[str, Field(strict=True, pattern=r"^[0-9a-f]{64}$")]
_Words = Annotated[tuple[Annotated[str, Field(strict=True, min_length=1, max_length=200)], ...], Field(max_length=1000)]


def _rows(value: object) -> Sequence[Any]:
    if not isinstance(value, list | Rows):
        raise ValueError("Input should be a valid list")  # noqa: TRY004 - pydantic takes a ValueError for a problem
    if len(value) > _MOST_ENTRIES:
        raise ValueError(f"List should have at most {_MOST_ENTRIES} items, not {len(value)}")
    return value


#: What the entries are is decided by the row schema, once, when they become candidates.
_Rows = Annotated[
    Sequence[Any],
    PlainValidator(_rows),
    WithJsonSchema({"type": "array", "items": {}, "maxItems": _MOST_ENTRIES, "title": "Entries"}),
]


class Table(BaseModel):
    """A closed, frozen table of a signed document."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Scope(Table):
    """Keys of a domain: one key and all below it.

    Attributes:
        domain: Which domain.
        key_prefix: ``"acme"`` covers ``acme`` and ``acme.cache``, and not ``acmex``; empty covers every key.
    """

    domain: Annotated[str, Field(strict=True, pattern=r"^[a-z][a-z0-9_-]{0,199}$")]
    key_prefix: Annotated[str, Field(strict=True, pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]{0,199})?$")] = ""

    def covers(self, domain: str, key: str) -> bool:
        """Tell whether a key of a domain lies in the scope."""
        prefix = self.key_prefix
        return domain == self.domain and (not prefix or key == prefix or key.startswith(f"{prefix.rstrip('.')}."))


class Delegation(Table):
    """Who else may publish, what, and with which keys.

    Attributes:
        publisher: The name that the delegated manifest must carry.
        keys: Base64 of the publisher's keys.
        threshold: How many of them must sign.
        scopes: What the publisher may offer.
    """

    publisher: Name
    keys: Annotated[tuple[Annotated[str, Field(strict=True)], ...], Field(min_length=1, max_length=64)]
    threshold: Annotated[int, Field(strict=True, ge=1, le=64)] = 1
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1, max_length=1000)]

    @property
    def public_keys(self) -> tuple[PublicKey, ...]:
        """The publisher's keys, each once."""
        return tuple({key: PublicKey.from_base64(key) for key in self.keys}.values())

    @model_validator(mode="after")
    def _keys_are_enough(self) -> Self:
        try:
            distinct = len(self.public_keys)
        except SignatureError as error:
            raise ValueError(error.message) from error
        if self.threshold > distinct:
            raise ValueError(f"asks for {self.threshold} signatures and lists {distinct} distinct keys")
        return self

    def covers(self, domain: str, key: str) -> bool:
        """Tell whether the publisher may offer a key of a domain."""
        return any(scope.covers(domain, key) for scope in self.scopes)


class ManifestBody(Table):
    """A manifest.

    Attributes:
        product: Whose it is; a client takes manifests of its own product only.
        channel: Which line of it, such as ``stable``.
        publisher: The delegated publisher; None is the product itself.
        version: Goes up by at least 1 with every manifest that is published.
        issued: When it was signed.
        expires: From when on it is refused.
        audience: Who it is for; empty is everybody.
        entries: Rows of the schema that catalogues share.
        revoked: SHA-256 of artifacts and manifests that must not be used any more.
        delegations: Who else may publish, and what.
        crit: Names in *extensions* that a client must understand or refuse the manifest.
        extensions: What this version knows nothing of.
        source: A label for people.
    """

    product: Name
    channel: Name = "stable"
    publisher: Name | None = None
    version: Version
    issued: Timestamp
    expires: Timestamp
    audience: _Words = ()
    entries: _Rows
    revoked: Annotated[tuple[Digest, ...], Field(max_length=100_000)] = ()
    delegations: Annotated[tuple[Delegation, ...], Field(max_length=1000)] = ()
    crit: _Words = ()
    extensions: dict[str, Any] = {}
    source: Annotated[str, Field(strict=True, max_length=4000)] | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if parse_time(self.expires) <= parse_time(self.issued):
            raise ValueError("expires before it is issued")
        publishers = [delegation.publisher for delegation in self.delegations]
        if len(publishers) != len(set(publishers)):
            raise ValueError("delegates to one publisher twice")
        if self.publisher is not None and self.delegations:
            raise ValueError("is a delegated publisher's and delegates further, which nobody may")
        if self.crit:
            raise ValueError(f"demands that {self.crit[0]!r} be understood, and this version does not")
        return self


def parse_manifest(payload: bytes, what: str = "manifest") -> ManifestBody:
    """Parse the bytes that were signed.

    Args:
        payload: The payload of an envelope whose signatures were checked.
        what: What errors call it.

    Raises:
        SchemaError: It is no strict JSON, breaks the closed schema, or must be understood and is not.
    """
    document = read_canonical(payload, what) if len(payload) <= MAX_MANIFEST_BYTES else None
    if document is None:
        document = parse_json(payload, what, max_bytes=MAX_MANIFEST_BYTES)
        if not payload.isascii() or b"\\u" in payload:
            _refuse_denormal(document, what)
    return checked(ManifestBody, document, what)


def checked[T: BaseModel](model: type[T], document: object, what: str) -> T:
    """Validate a parsed document, with one sentence for each problem.

    Raises:
        SchemaError: It breaks the model.
    """
    if not isinstance(document, dict):
        raise SchemaError(f"{what} must be a JSON object, not {type(document).__name__}")
    try:
        return model.model_validate(document)
    except ValidationError as error:
        problems = tuple(
            f"{'.'.join(map(str, each['loc'])) or what}: {each['msg'].removeprefix('Value error, ')}"
            for each in error.errors(include_url=False, include_context=False, include_input=False)[:_MOST_PROBLEMS]
        )
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise SchemaError(f"{what} breaks its schema: {problems[0][:300]}{more}", None, problems) from error


def _refuse_denormal(value: Any, what: str) -> None:
    """Refuse text that is not in NFC: two texts that look alike must be alike."""
    pending = [value]
    while pending:
        each = pending.pop()
        if isinstance(each, str):
            if not unicodedata.is_normalized("NFC", each):
                raise SchemaError(f"{what} holds text that is not in Unicode's normal form NFC: {each[:40]!r}")
        elif isinstance(each, dict):
            pending.extend(each)
            pending.extend(each.values())
        elif isinstance(each, list):
            pending.extend(each)


def manifest_schema() -> dict[str, Any]:
    """Return the JSON Schema of a manifest's body, generated from the models."""
    schema = ManifestBody.model_json_schema()
    entry = ManifestEntry.model_json_schema(ref_template="#/$defs/{model}")
    schema["$defs"] |= entry.pop("$defs") | {"ManifestEntry": entry}
    schema["properties"]["entries"]["items"] = {"$ref": "#/$defs/ManifestEntry"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
