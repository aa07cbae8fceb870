"""The closed schema of a catalogue row: every field there is, its type, and where it goes.

Local catalogues and remote manifests share it. Fields of a `Candidate` go there; every other field of the
schema describes the candidate and goes to its metadata, under the name its domain reads.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from oneiric.core._key import Key
from oneiric.core._requirements import parse_requirement, parse_specifiers
from oneiric.core.errors import FactoryNotAllowedError, InvalidCandidateError
from oneiric.core.security import check_factory

__all__ = ["ALIASES", "CANDIDATE_FIELDS", "METADATA_FIELDS", "REQUIRED", "Check", "plain"]

#: Turns a raw value into the one that is kept, or raises a `WrongValueError`.
type Check = Callable[[object], Any]

MAX_TEXT_LENGTH: Final = 4000
MAX_ITEMS: Final = 1000
MAX_DEPTH: Final = 32


class WrongValueError(ValueError):
    """A value breaks its field's rule; the message is a clause that follows the field's name."""


def shown(value: object) -> str:
    """Render a value for a sentence, shortened."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def text(value: object) -> str:
    """Accept a string."""
    if not isinstance(value, str):
        raise WrongValueError(f"must be a string, not {shown(value)}")
    if len(value) > MAX_TEXT_LENGTH or "\x00" in value:
        raise WrongValueError(f"must be at most {MAX_TEXT_LENGTH} characters without NUL")
    return value


def flag(value: object) -> bool:
    """Accept true or false, and nothing that merely looks like it."""
    if not isinstance(value, bool):
        raise WrongValueError(f"must be true or false, not {shown(value)}")
    return value


def integer(low: int, high: int) -> Check:
    """Accept an integer of a range."""

    def check(value: object) -> int:
        if type(value) is not int or not low <= value <= high:
            raise WrongValueError(f"must be an integer from {low} to {high}, not {shown(value)}")
        return value

    return check


def number(value: object) -> float:
    """Accept a finite number that is not negative."""
    if type(value) not in {int, float} or not 0 <= value < float("inf"):  # type: ignore[operator]  # just checked
        raise WrongValueError(f"must be a number of at least 0, not {shown(value)}")
    return value  # type: ignore[return-value]  # just checked


def one_of(*allowed: str) -> Check:
    """Accept one of a few words."""

    def check(value: object) -> str:
        if value not in allowed:
            raise WrongValueError(f"must be one of {', '.join(allowed)}, not {shown(value)}")
        return str(value)

    return check


def sequence(item: Check) -> Check:
    """Accept a list whose items all pass *item*."""

    def check(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise WrongValueError(f"must be a list, not {shown(value)}")
        if len(value) > MAX_ITEMS:
            raise WrongValueError(f"must hold at most {MAX_ITEMS} items, not {len(value)}")
        found = []
        for place, each in enumerate(value, 1):
            try:
                found.append(item(each))
            except ValueError as error:
                raise WrongValueError(f"item {place} {error}") from error
        return tuple(found)

    return check


def listing(item: Check) -> Check:
    """Accept a list as `sequence` does, and keep it a list: what metadata holds can be written as JSON."""
    check = sequence(item)
    return lambda value: list(check(value))


def table(fields: Mapping[str, Check], required: tuple[str, ...] = ()) -> Check:
    """Accept a table of these fields and no others."""

    def check(value: object) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise WrongValueError(f"must be a table, not {shown(value)}")
        for name in value:
            if name not in fields:
                raise WrongValueError(f"has an unknown field {shown(name)}{nearest(name, fields)}")
        for name in required:
            if name not in value:
                raise WrongValueError(f"lacks its field {name!r}")
        return {name: _inside(name, fields[name], each) for name, each in value.items() if each is not None}

    return check


def _inside(name: str, check: Check, value: object) -> Any:
    try:
        return check(value)
    except ValueError as error:
        raise WrongValueError(f"field {name!r} {error}") from error


def nearest(name: object, names: Mapping[str, object]) -> str:
    """Return a clause that names the nearest right name, or lists them all when none is near."""
    from difflib import get_close_matches  # noqa: PLC0415 - only a wrong name pays for it

    near = get_close_matches(name, names, n=1) if isinstance(name, str) else []
    return f": did you mean {near[0]!r}?" if near else f" (there are: {', '.join(sorted(names))})"


#: What is kept as it is; most of what a table holds.
_PLAIN: Final = frozenset({str, int, bool, type(None)})


def plain(value: object, depth: int = MAX_DEPTH) -> Any:
    """Accept what JSON can say, and copy it."""
    if type(value) in _PLAIN or isinstance(value, str | bool | int):
        return value
    if depth == 0:
        raise WrongValueError(f"must be nested at most {MAX_DEPTH} deep")
    if isinstance(value, float) and value == value and abs(value) != float("inf"):  # noqa: PLR0124 - not NaN
        return value
    if isinstance(value, list | tuple):
        return [plain(each, depth - 1) for each in value]
    if type(value) is dict or isinstance(value, Mapping):
        copied = {}
        for name, each in value.items():
            if not isinstance(name, str):
                raise WrongValueError("must have strings for names")
            copied[name] = each if type(each) in _PLAIN else plain(each, depth - 1)
        return copied
    raise WrongValueError(f"must hold strings, numbers, true, false, lists and tables, not {shown(value)}")


def plain_table(value: object) -> dict[str, Any]:
    """Accept a table of what JSON can say."""
    if type(value) is not dict and not isinstance(value, Mapping):
        raise WrongValueError(f"must be a table, not {shown(value)}")
    copied: dict[str, Any] = plain(value)
    return copied


def factory(value: object) -> str:
    """Accept a factory string that could be loaded; who may name which module is not decided here."""
    try:
        return check_factory(value)
    except FactoryNotAllowedError as error:
        raise WrongValueError(f"cannot be used: {error.message}") from error


def specifiers(value: object) -> str:
    """Accept a set of version specifiers."""
    stated = text(value)
    try:
        parse_specifiers(stated)
    except ValueError as error:
        raise WrongValueError(f"must be a version specifier such as '>=3.13': {error}") from error
    return stated


def earlier_python(value: object) -> str:
    """Accept what earlier manifests state: a specifier, or a bare version that is the least one."""
    stated = text(value).strip()
    return specifiers(f">={stated}" if stated[:1].isdigit() else stated)


def requirement(value: object) -> str:
    """Accept a requirement."""
    stated = text(value)
    try:
        parse_requirement(stated)
    except ValueError as error:
        raise WrongValueError(f"must be a requirement such as 'redis>=6': {error}") from error
    return stated


_OS_NAMES: Final = {"windows": "win32", "macos": "darwin", "macosx": "darwin", "osx": "darwin"}


def os_name(value: object) -> str:
    """Accept an operating system, by its ``sys.platform`` name or the one people use."""
    lowered = text(value).lower()
    return _OS_NAMES.get(lowered, lowered)


def needs(value: object) -> dict[str, Key[Any]]:
    """Accept ``{parameter = "domain:key"}``."""
    if not isinstance(value, Mapping):
        raise WrongValueError(f"must be a table, not {shown(value)}")
    found: dict[str, Key[Any]] = {}
    for parameter, stated in value.items():
        domain, colon, key = stated.partition(":") if isinstance(stated, str) else ("", "", "")
        if not colon:
            raise WrongValueError(f"maps parameter {shown(parameter)} to {shown(stated)}, which is not 'domain:key'")
        try:
            found[parameter] = Key(domain, key)
        except InvalidCandidateError as error:
            raise WrongValueError(f"maps parameter {shown(parameter)} to {shown(stated)}: {error.message}") from error
    return found


_DIGEST = re.compile(r"[0-9A-Fa-f]{64}\Z")


def digest(value: object) -> str:
    """Accept a SHA-256 digest in hexadecimal."""
    stated = text(value)
    if _DIGEST.match(stated) is None:
        raise WrongValueError(f"must be 64 hexadecimal digits, not {shown(value)}")
    return stated.lower()


_texts = sequence(text)

_DESCRIPTOR: Final = table(
    {
        "name": text,
        "description": text,
        "event_types": listing(text),
        "payload_schema": plain,
        "schema_format": text,
        "security": table(
            {
                "classification": text,
                "auth_required": flag,
                "scopes": listing(text),
                "encryption": text,
                "signature_required": flag,
                "audience": listing(text),
                "notes": text,
            }
        ),
        "metadata": plain_table,
    },
    required=("name",),
)


def _capability(value: object) -> str | dict[str, Any]:
    if isinstance(value, str):
        return text(value)
    described: dict[str, Any] | None = _DESCRIPTOR(value) if isinstance(value, Mapping) else None
    return text(value) if described is None else described


REQUIRED: Final = ("domain", "key", "provider", "factory")

#: Fields that become fields of the candidate.
CANDIDATE_FIELDS: Final[Mapping[str, Check]] = {
    "domain": text,
    "key": text,
    "provider": text,
    "factory": factory,
    "settings_model": factory,
    "priority": integer(-1000, 1000),
    "stack_level": integer(-100, 100),
    "version": text,
    "capabilities": sequence(_capability),
    "requires_extra": requirement,
    "opt_in": flag,
    "blocking": flag,
    "exclusive": flag,
    "requires_python": specifiers,
    "requires_os": sequence(os_name),
    "requires_packages": sequence(requirement),
    "conflicts_with": sequence(requirement),
    "needs": needs,
}

#: Names that earlier manifests use → the field, and how their values are read.
ALIASES: Final[Mapping[str, tuple[str, Check]]] = {
    "python_version": ("requires_python", earlier_python),
    "os_platform": ("requires_os", sequence(os_name)),
    "requires": ("requires_packages", sequence(requirement)),
}

#: Fields that describe the candidate → the name they have in its metadata.
METADATA_FIELDS: Final[Mapping[str, tuple[str, Check]]] = {
    "description": ("description", text),
    "owner": ("owner", text),
    "license": ("license", text),
    "documentation_url": ("documentation_url", text),
    "requires_secrets": ("requires_secrets", flag),
    "side_effect_free": ("side_effect_free", flag),
    "timeout_seconds": ("timeout_seconds", number),
    "retry_policy": (
        "retry_policy",
        table(
            {
                "attempts": integer(1, 1000),
                "base_delay": number,
                "max_delay": number,
                "jitter": number,
                "retriable_status_codes": listing(integer(100, 599)),
            }
        ),
    ),
    "uri": ("remote_uri", text),
    "sha256": ("sha256", digest),
    "size": ("size", integer(1, 2**53 - 1)),
    "event_topics": ("topics", listing(text)),
    "event_max_concurrency": ("max_concurrency", integer(1, 1_000_000)),
    "event_filters": (
        "filters",
        listing(table({"path": text, "equals": plain, "any_of": listing(plain), "exists": flag}, ("path",))),
    ),
    "event_priority": ("event_priority", integer(-1000, 1000)),
    "event_fanout_policy": ("fanout_policy", one_of("broadcast", "exclusive")),
    "dag": ("dag", plain_table),
}
