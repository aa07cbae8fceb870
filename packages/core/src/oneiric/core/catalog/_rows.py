"""One row of a catalogue or manifest → one candidate."""

from collections.abc import Mapping
from typing import Any, Final

from oneiric.core._candidate import Candidate, CandidateSource
from oneiric.core.catalog._schema import (
    ALIASES,
    CANDIDATE_FIELDS,
    METADATA_FIELDS,
    REQUIRED,
    Check,
    nearest,
    plain_table,
    shown,
)
from oneiric.core.errors import InvalidCandidateError

__all__ = ["candidate_from_row"]

_FIELDS: Final = {*CANDIDATE_FIELDS, *ALIASES, *METADATA_FIELDS, "metadata"}


def candidate_from_row(
    row: Mapping[str, object],
    *,
    source: CandidateSource,
    origin: str,
    where: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Candidate:
    """Make a candidate of a row of the closed schema.

    A field that is None (a manifest's ``null``) counts as not stated. Names of earlier manifests are
    understood: ``python_version``, ``os_platform`` and ``requires`` stand for ``requires_python``,
    ``requires_os`` and ``requires_packages``.

    Args:
        row: A table of a catalogue, or an entry of a manifest.
        source: How it came in.
        origin: What it came from; withdrawal goes by it.
        where: Where the row stands, for errors, such as ``"catalog.toml entry 3"``.
        metadata: What whoever reads the row knows about it: goes to the candidate's metadata, above the row's own.

    Raises:
        InvalidCandidateError: A field is unknown, missing, stated twice or breaks its rule; the message
            names the field, *where*, and the nearest right name.
    """
    if not isinstance(row, Mapping):
        raise InvalidCandidateError("entry", f"must be a table, not {shown(row)}", where)
    stated = _stated(row, where)
    values: dict[str, Any] = {}
    described: dict[str, Any] = {}
    for name, value in stated.items():
        if name == "metadata":
            described = {**_checked(name, plain_table, value, where), **described}
        elif name in METADATA_FIELDS:
            known_as, check = METADATA_FIELDS[name]
            described[known_as] = _checked(name, check, value, where)
        else:
            field, check = ALIASES.get(name) or (name, CANDIDATE_FIELDS[name])
            values[field] = _checked(name, check, value, where)
    if descriptors := [each for each in values.get("capabilities", ()) if not isinstance(each, str)]:
        described["capability_descriptors"] = descriptors
        names = (each if isinstance(each, str) else each["name"] for each in values["capabilities"])
        values["capabilities"] = tuple(names)
    try:
        return Candidate(**values, source=source, origin=origin, metadata={**described, **(metadata or {})})
    except InvalidCandidateError as error:
        raise InvalidCandidateError(error.field, error.problem, where or error.where) from error


def _stated(row: Mapping[str, object], where: str | None) -> dict[str, object]:
    """Return the fields that have a value; refuse one that is unknown, missing, or stated under two names."""
    stated = {name: value for name, value in row.items() if value is not None}
    for name in row:
        if name not in _FIELDS:
            field = str(name) if len(str(name)) <= 60 else shown(name)
            raise InvalidCandidateError(field, f"is unknown{nearest(name, dict.fromkeys(_FIELDS))}", where)
    for name in REQUIRED:
        if name not in stated:
            raise InvalidCandidateError(name, "is missing", where)
    for name, (field, _) in ALIASES.items():
        if name in stated and field in stated:
            raise InvalidCandidateError(name, f"is stated twice: it is the earlier name of {field!r}", where)
    return stated


def _checked(name: str, check: Check, value: object, where: str | None) -> Any:
    try:
        return check(value)
    except ValueError as error:
        raise InvalidCandidateError(name, str(error), where) from error
