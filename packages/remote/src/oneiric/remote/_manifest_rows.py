"""Entries of a manifest in canonical form, checked by compiled code while they are read.

Most entries state nothing but names, text, flags and bounded numbers. `Row` tells a decoder the rules that the row
schema (`oneiric.core.catalog.candidate_from_row`) has for those. It takes less than the row schema takes, and never
more or otherwise: an entry that it does not take is parsed and judged by itself. That the same bytes come out when what
was read is written again shows that no name was stated twice and nothing can be read in two ways (RFC 8785); a manifest
that is not in that form is read as any other document is.
"""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Raw, Struct
from pydantic_core import SchemaValidator, core_schema

from oneiric.remote._strict_json import MAX_INTEGER, MAX_NODES, check_plain, parse_json

__all__ = ["RESERVED", "Row", "Rows", "are_named_well", "read_canonical"]

_Text = Annotated[str, Meta(max_length=4000)]
_Name = Annotated[str, Meta(max_length=200)]
_Factory = Annotated[str, Meta(max_length=300)]
_Digest = Annotated[str, Meta(min_length=64, max_length=64)]
_Scalar = str | bool | Annotated[int, Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)] | None


class Row(Struct, gc=False, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An entry that states only these fields, each as the row schema has it; None was not stated.

    They stand in the order of canonical form. What a decoder does not check is left to `are_named_well`.
    """

    blocking: bool | None = None
    capabilities: Annotated[tuple[_Text, ...], Meta(max_length=1000)] | None = None
    description: _Text | None = None
    documentation_url: _Text | None = None
    domain: _Name
    exclusive: bool | None = None
    factory: _Factory
    key: _Name
    license: _Text | None = None
    metadata: dict[str, _Scalar] | None = None
    opt_in: bool | None = None
    owner: _Text | None = None
    priority: Annotated[int, Meta(ge=-1000, le=1000)] | None = None
    provider: _Name
    requires_secrets: bool | None = None
    settings_model: _Factory | None = None
    sha256: _Digest | None = None
    side_effect_free: bool | None = None
    size: Annotated[int, Meta(ge=1, le=MAX_INTEGER)] | None = None
    stack_level: Annotated[int, Meta(ge=-100, le=100)] | None = None
    uri: _Text | None = None
    version: _Text | None = None

    def described(self, shared: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a candidate that ranking does not ask for."""
        stated = {name: value for name in _AS_THEY_ARE if (value := getattr(self, name)) is not None}
        described = {name: value for name, value in (self.metadata or {}).items() if name not in RESERVED}
        for name, known_as in _DESCRIPTIONS.items():
            if (value := getattr(self, name)) is not None:
                described[known_as] = value
        return {**stated, "metadata": {**described, **shared}}

    def as_dict(self) -> dict[str, Any]:
        """Return the entry as it was stated."""
        stated = {name: value for name in _FIELDS if (value := getattr(self, name)) is not None}
        if self.capabilities is not None:
            stated["capabilities"] = list(self.capabilities)
        return stated


_FIELDS: Final = Row.__struct_fields__
#: Fields of a candidate that have the same name and value there, and are not asked for at once.
_AS_THEY_ARE: Final = ("blocking", "capabilities", "exclusive", "factory", "opt_in", "settings_model", "version")
#: Field → what it is called in the metadata.
_DESCRIPTIONS: Final = {
    "description": "description",
    "documentation_url": "documentation_url",
    "license": "license",
    "owner": "owner",
    "requires_secrets": "requires_secrets",
    "sha256": "sha256",
    "side_effect_free": "side_effect_free",
    "size": "size",
    "uri": "remote_uri",
}
#: What an entry's own metadata may not say, because it is said by fields that are checked, or by whoever verified them.
RESERVED: Final = frozenset({"artifact_path", "manifest", "remote_uri", "sha256", "size", "source"})


class Rows(Sequence[Any]):
    """The entries of a manifest, as plain data; *read* has those that were checked while they were read as `Row`.

    Args:
        read: A `Row`, or what was parsed of an entry that is none.
    """

    __slots__ = ("read",)

    def __init__(self, read: Sequence[Any]) -> None:
        self.read = read

    def __len__(self) -> int:
        return len(self.read)

    def __iter__(self) -> Iterator[Any]:
        return map(_plain, self.read)

    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return [_plain(each) for each in self.read[place]]
        return _plain(self.read[place])

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, list | tuple | Rows) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as of a list

    def __repr__(self) -> str:
        return f"<Rows of {len(self)} entries>"


def _plain(entry: Any) -> Any:
    return entry.as_dict() if type(entry) is Row else entry


class _Document[Entry](Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A manifest's body whose entries alone are looked at, in the order of canonical form."""

    audience: Any = UNSET
    channel: Any = UNSET
    crit: Any = UNSET
    delegations: Any = UNSET
    entries: list[Entry]
    expires: Any = UNSET
    extensions: Any = UNSET
    issued: Any = UNSET
    product: Any = UNSET
    publisher: Any = UNSET
    revoked: Any = UNSET
    source: Any = UNSET
    version: Any = UNSET


_ALL: Final = msgspec.json.Decoder(_Document[Row])
_EACH: Final = msgspec.json.Decoder(_Document[Raw])
_ROW: Final = msgspec.json.Decoder(Row)
_CANONICAL: Final = msgspec.json.Encoder(order="deterministic")


def read_canonical(payload: bytes, what: str) -> dict[str, Any] | None:
    """Read a manifest's body whose bytes are in canonical form; its entries are `Rows`.

    Args:
        payload: Bytes that were signed.
        what: What errors call them.

    Returns:
        The body, of which nothing but the entries was checked; None when it is to be read as any document is.

    Raises:
        SchemaError: An entry is no strict JSON.
    """
    if not _is_plain_text(payload):
        return None
    try:
        document: _Document[Any] = _ALL.decode(payload)
    except msgspec.ValidationError:
        return _read_each(payload, what)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return _body(document, Rows(document.entries), what) if _CANONICAL.encode(document) == payload else None


def _read_each(payload: bytes, what: str) -> dict[str, Any] | None:
    """Read entries one by one, because not all of them are rows of the usual fields."""
    try:
        document: _Document[Raw] = _EACH.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if _CANONICAL.encode(document) != payload:
        return None
    return _body(document, Rows([_read_row(bytes(each), what) for each in document.entries]), what)


def _read_row(data: bytes, what: str) -> Any:
    try:
        row = _ROW.decode(data)
    except msgspec.ValidationError:
        return parse_json(data, what, max_bytes=len(data))
    return row if _CANONICAL.encode(row) == data else parse_json(data, what, max_bytes=len(data))


def _body(document: _Document[Any], entries: Rows, what: str) -> dict[str, Any]:
    named = ((name, getattr(document, name)) for name in _Document.__struct_fields__ if name != "entries")
    body = {name: value for name, value in named if value is not UNSET}
    check_plain(body, what)
    return {**body, "entries": entries}


def _is_plain_text(payload: bytes) -> bool:
    """Tell whether a text is in normal form NFC, spells no character by number and is not too much of everything."""
    if b"\\" in payload and b"\\u" in payload:
        return False
    # Each value follows a comma or opens what holds it.
    if len(payload) > MAX_NODES and payload.count(b",") + payload.count(b"{") + payload.count(b"[") > MAX_NODES:
        return False
    try:
        return payload.isascii() or unicodedata.is_normalized("NFC", payload.decode())
    except UnicodeDecodeError:
        return False


def _each(pattern: str) -> SchemaValidator:
    return SchemaValidator(core_schema.list_schema(core_schema.str_schema(pattern=pattern, strict=True)))


_IDENTIFIER: Final = "[A-Za-z_][A-Za-z0-9_]*"
# As `oneiric.core` has them; this engine's `$` is the end of the text and nothing before it.
_DOMAINS: Final = _each("^[a-z][a-z0-9_-]*$")
_NAMES: Final = _each(r"^[A-Za-z0-9](?:\.?[A-Za-z0-9_-])*\.?$")
_FACTORIES: Final = _each(rf"^{_IDENTIFIER}(?:\.{_IDENTIFIER})*:{_IDENTIFIER}$")


def are_named_well(rows: Sequence[Row]) -> bool:
    """Tell whether the domains, keys, providers, factories and digests of all rows follow their grammars."""
    factories = [row.factory for row in rows]
    models = {row.settings_model for row in rows if row.settings_model is not None}
    return (
        _DOMAINS.isinstance_python(list({row.domain for row in rows}))
        and _NAMES.isinstance_python([row.key for row in rows])
        and _NAMES.isinstance_python(list({row.provider for row in rows}))
        and _FACTORIES.isinstance_python([*factories, *models])
        and _is_hexadecimal("".join([row.sha256 for row in rows if row.sha256 is not None]))
    )


def _is_hexadecimal(digits: str) -> bool:
    try:
        return bytes.fromhex(digits).hex() == digits
    except ValueError:
        return False
