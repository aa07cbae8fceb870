"""Looking at manifests as their author does: what a file says, what changed, what is registered here.

Nothing here verifies anything, and nothing that runs may use it: a client goes through `oneiric.remote.trust`.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from oneiric.core.errors import SchemaError
from oneiric.core.resolution import Candidate
from oneiric.remote._strict_json import parse_json
from oneiric.remote.envelope import MANIFEST_TYPE, Envelope
from oneiric.remote.manifest import MAX_MANIFEST_BYTES, ManifestEntry, read_document

__all__ = ["compared", "exported", "inspected"]

_AUTHORED: Final = "a manifest that is not signed"
_FIELDS: Final = frozenset(ManifestEntry.model_fields)
#: What an entry calls something otherwise than a candidate or its metadata does.
_NAMES: Final[Mapping[str, str]] = {
    "remote_uri": "uri",
    "topics": "event_topics",
    "max_concurrency": "event_max_concurrency",
    "filters": "event_filters",
    "fanout_policy": "event_fanout_policy",
}
_STATED: Final = (
    "priority",
    "stack_level",
    "version",
    "settings_model",
    "requires_extra",
    "opt_in",
    "requires_python",
    "requires_os",
    "requires_packages",
    "conflicts_with",
    "blocking",
    "exclusive",
    "capabilities",
)


def inspected(data: bytes, what: str) -> dict[str, Any]:
    """Return what a document says of itself: ``type``, ``stated``, ``signatures`` (ids of keys) and ``entries``.

    Raises:
        SchemaError: It is neither an envelope nor a manifest.
    """
    document, payload_type, signatures = _opened(data, what)
    rows = document.get("entries")
    entries = [each for each in rows if isinstance(each, dict)] if isinstance(rows, list) else []
    plain = {name: value for name, value in document.items() if isinstance(value, str | int)}
    return {
        "type": payload_type,
        "stated": plain,
        "signatures": signatures,
        "entries": [
            {"name": _name(each), **{field: each.get(field) for field in ("version", "factory", "uri", "sha256")}}
            for each in entries
        ],
    }


def _opened(data: bytes, what: str) -> tuple[dict[str, Any], str, list[str]]:
    document = read_document(data, what)
    if "payloadType" not in document:
        return document, _AUTHORED, []
    envelope = Envelope.parse(data, what=what)
    payload = parse_json(envelope.payload, what, max_bytes=MAX_MANIFEST_BYTES)
    if not isinstance(payload, dict):
        raise SchemaError(f"{what} holds no document")
    return payload, envelope.payload_type, [each.key_id for each in envelope.signatures]


def compared(before: bytes, after: bytes, before_name: str, after_name: str) -> list[dict[str, Any]]:
    """Return what changed: ``change`` (added, removed, changed), ``name``, and ``fields`` → (before, after).

    Raises:
        SchemaError: One of them is no manifest.
    """
    old, new = _rows(before, before_name), _rows(after, after_name)
    changes: list[dict[str, Any]] = []
    for name in dict.fromkeys((*old, *new)):
        was, now = old.get(name), new.get(name)
        if was is None or now is None:
            changes.append({"change": "added" if was is None else "removed", "name": name, "fields": {}})
            continue
        fields = sorted(was.keys() | now.keys())
        differing = {each: (was.get(each), now.get(each)) for each in fields if was.get(each) != now.get(each)}
        if differing:
            changes.append({"change": "changed", "name": name, "fields": differing})
    return changes


def _rows(data: bytes, what: str) -> dict[str, dict[str, Any]]:
    document, payload_type, _ = _opened(data, what)
    rows = document.get("entries")
    if payload_type not in {_AUTHORED, MANIFEST_TYPE} or not isinstance(rows, list):
        raise SchemaError(f"{what} is no manifest: it has no list of entries")
    return {_name(row): row for row in rows if isinstance(row, dict)}


def _name(row: Mapping[str, Any]) -> str:
    return f"{row.get('domain')}:{row.get('key')}/{row.get('provider')}"


def exported(candidates: Iterable[Candidate]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the entries of candidates, and the names of those that no manifest can state."""
    entries: dict[str, dict[str, Any]] = {}
    left_out = []
    for each in candidates:
        if str(each) in entries or not isinstance(each.factory, str):
            left_out.append(str(each))
            continue
        entries[str(each)] = _entry(each)
    return list(entries.values()), left_out


def _entry(candidate: Candidate) -> dict[str, Any]:
    entry: dict[str, Any] = {name: getattr(candidate, name) for name in ("domain", "key", "provider", "factory")}
    for name in _STATED:
        value = getattr(candidate, name)
        if value not in (None, (), False):
            entry[name] = list(value) if isinstance(value, tuple) else value
    if candidate.needs:
        entry["needs"] = {name: f"{key.domain}:{key.name}" for name, key in candidate.needs.items()}
    for name, value in candidate.metadata.items():
        field = _NAMES.get(name, name)
        if field in _FIELDS and field not in entry and value not in (None, [], {}):
            entry[field] = value
    return entry
