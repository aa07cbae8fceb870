"""One row of a catalogue or manifest → one candidate."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from oneiric.core._candidate import Candidate, CandidateSource
from oneiric.core.catalog._schema import (
    ALIASES,
    CANDIDATE_FIELDS,
    METADATA_FIELDS,
    REQUIRED,
    Check,
    WrongValueError,
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
    values, described = _checked(row, where)
    for name in REQUIRED:
        if name not in values:
            raise InvalidCandidateError(name, "is missing", where)
    if "capabilities" in values:
        _describe_capabilities(values, described)
    if metadata:
        described.update(metadata)
    try:
        return Candidate(**values, source=source, origin=origin, metadata=MappingProxyType(described))
    except InvalidCandidateError as error:
        raise InvalidCandidateError(error.field, error.problem, where or error.where) from error


def _checked(row: Mapping[str, object], where: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what goes to the candidate's fields, and what describes it."""
    shape = tuple(row)
    steps = _shapes.get(shape)
    if steps is None:
        steps = _new_shape(shape, where)
    values: dict[str, Any] = {}
    described: dict[str, Any] = {}
    name = ""
    try:
        for name, place, known_as, check in steps:
            value = row[name]
            if value is None:
                continue
            if place == _FIELD:
                values[known_as] = check(value)
            elif place == _DESCRIPTION:
                described[known_as] = check(value)
            elif place == _TABLE:
                described = check(value)
            elif known_as in values:
                raise WrongValueError(f"is stated twice: it is the earlier name of {known_as!r}")
            else:
                values[known_as] = check(value)
    except ValueError as error:
        raise InvalidCandidateError(name, str(error), where) from error
    return values, described


def _describe_capabilities(values: dict[str, Any], described: dict[str, Any]) -> None:
    """Keep the names among the candidate's fields, and what else is said of them in its metadata."""
    stated = values["capabilities"]
    if descriptors := [each for each in stated if not isinstance(each, str)]:
        described["capability_descriptors"] = descriptors
        values["capabilities"] = tuple(each if isinstance(each, str) else each["name"] for each in stated)


#: Where a value goes: the table of metadata first, so that the fields outrank it; earlier names last, so that it shows
#: when a field is stated under both.
_TABLE: Final = 0
_FIELD: Final = 1
_DESCRIPTION: Final = 2
_EARLIER: Final = 3

type _Step = tuple[str, int, str, Check]

#: Names of a row, in its order → what is done with each. Rows of one file mostly have the same few shapes.
_shapes: Final[dict[tuple[object, ...], tuple[_Step, ...]]] = {}
_MOST_SHAPES: Final = 512


def _new_shape(shape: tuple[Any, ...], where: str | None) -> tuple[_Step, ...]:
    """Return what is done with rows of these names; refuse a name that is unknown."""
    for name in shape:
        if name not in _FIELDS:
            field = str(name) if len(str(name)) <= 60 else shown(name)
            raise InvalidCandidateError(field, f"is unknown{nearest(name, dict.fromkeys(_FIELDS))}", where)
    steps = tuple(sorted(map(_step, shape), key=lambda step: step[1]))
    if len(_shapes) >= _MOST_SHAPES:
        _shapes.clear()
    _shapes[shape] = steps
    return steps


def _step(name: str) -> _Step:
    if name == "metadata":
        return name, _TABLE, name, plain_table
    if name in METADATA_FIELDS:
        return name, _DESCRIPTION, *METADATA_FIELDS[name]
    if name in ALIASES:
        return name, _EARLIER, *ALIASES[name]
    return name, _FIELD, name, CANDIDATE_FIELDS[name]
