"""PEP 508: requirements such as ``redis[hiredis]>=6; extra == 'redis'``, as far as extras need them.

Read here: name, extras, specifiers, a URL in their place, and markers. The standard library has no parser for
them, and core brings no distribution with it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

from oneiric.core._versions import Specifier, Version, parse_specifiers, satisfies
from oneiric.core.errors import InvalidCandidateError

__all__ = ["Requirement", "Specifier", "Version", "check_requirement", "check_specifiers", "normalized"]
__all__ += ["parse_requirement", "parse_specifiers", "satisfies"]

_MAX_LENGTH: Final = 1000
_MAX_DEPTH: Final = 20

#: What a marker may ask → looked up by name when it is evaluated.
type MarkerEnvironment = Callable[[str], str]
type Marker = Callable[[MarkerEnvironment], bool]

_MARKER_VARIABLES: Final = frozenset(
    {
        "extra",
        "implementation_name",
        "implementation_version",
        "os_name",
        "platform_machine",
        "platform_python_implementation",
        "platform_release",
        "platform_system",
        "platform_version",
        "python_full_version",
        "python_version",
        "sys_platform",
    }
)
_VERSIONED: Final = frozenset({"implementation_version", "platform_release", "python_full_version", "python_version"})


def normalized(name: str) -> str:
    """Return a distribution's or extra's name in its one spelling (PEP 503)."""
    lowered = name.lower().replace("_", "-").replace(".", "-")
    return lowered if "--" not in lowered else re.sub("-+", "-", lowered)


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """A parsed requirement.

    Attributes:
        name: Normalised.
        extras: Normalised, in the order stated.
        specifiers: All must hold; empty accepts any version.
        marker: Whether it applies, given an environment; None applies always.
        asks_extra: True when the marker mentions ``extra``.
    """

    name: str
    extras: tuple[str, ...] = ()
    specifiers: tuple[Specifier, ...] = ()
    marker: Marker | None = None
    asks_extra: bool = False

    def accepts(self, version: str) -> bool:
        """Say whether an installed *version* will do; one that is not PEP 440 will only where any does."""
        if not self.specifiers:
            return True
        try:
            parsed = Version(version)
        except ValueError:
            return False
        return all(clause.contains(parsed) for clause in self.specifiers)

    def applies(self, environment: MarkerEnvironment) -> bool:
        """Say whether the marker holds in *environment*."""
        return self.marker is None or self.marker(environment)


@cache
def _head_pattern() -> re.Pattern[str]:
    return re.compile(
        r"\s*(?P<name>[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?)\s*"
        r"(?:\[(?P<extras>[^\[\]]*)\])?\s*"
        r"(?:@\s*(?P<url>\S+)|\((?P<inside>[^()]*)\)|(?P<specifiers>[^;@()]*))\s*(?P<marker>;.*)?\Z",
        re.IGNORECASE | re.ASCII | re.DOTALL,
    )


@cache
def _extra_pattern() -> re.Pattern[str]:
    return re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?\Z", re.IGNORECASE | re.ASCII)


@cache
def parse_requirement(text: str) -> Requirement:
    """Parse a requirement.

    Raises:
        ValueError: It is malformed; the message names it.
    """
    match = _head_pattern().match(text) if len(text) <= _MAX_LENGTH else None
    if match is None:
        raise ValueError(f"{text[:80]!r} is not a requirement")
    extras = [extra.strip() for extra in (match["extras"] or "").split(",")] if (match["extras"] or "").strip() else []
    if not all(_extra_pattern().match(extra) for extra in extras):
        raise ValueError(f"{text[:80]!r} is not a requirement: its extras are malformed")
    try:
        specifiers = parse_specifiers(match["inside"] or match["specifiers"] or "")
        marker = _MarkerParser(match["marker"][1:]).parse() if match["marker"] else None
    except ValueError as error:
        raise ValueError(f"{text[:80]!r} is not a requirement: {error}") from error
    return Requirement(
        name=normalized(match["name"]),
        extras=tuple(normalized(extra) for extra in extras),
        specifiers=specifiers,
        marker=marker,
        asks_extra=bool(match["marker"]) and "extra" in match["marker"],
    )


def check_requirement(field: str, text: str, where: str | None = None) -> str:
    """Return *text* if it is a requirement.

    Raises:
        InvalidCandidateError: It is not; the error names *field* and *where*.
    """
    try:
        parse_requirement(text)
    except ValueError as error:
        raise InvalidCandidateError(field, f"must be a requirement: {error}", where) from error
    return text


def check_specifiers(field: str, text: str, where: str | None = None) -> str:
    """Return *text* if it is a set of version specifiers.

    Raises:
        InvalidCandidateError: It is not; the error names *field* and *where*.
    """
    try:
        parse_specifiers(text)
    except ValueError as error:
        raise InvalidCandidateError(field, f"must be a version specifier: {error}", where) from error
    return text


class _MarkerParser:
    """Recursive descent over ``or``, ``and``, parentheses and comparisons."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._place = 0
        self._depth = 0

    def parse(self) -> Marker:
        marker = self._disjunction()
        if self._place != len(self._tokens):
            raise self._malformed()
        return marker

    def _malformed(self) -> ValueError:
        return ValueError(f"its marker {self._text.strip()[:80]!r} is malformed")

    def _peek(self) -> str:
        return self._tokens[self._place] if self._place < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        self._place += 1
        return token

    def _disjunction(self) -> Marker:
        parts = [self._conjunction()]
        while self._peek() == "or":
            self._next()
            parts.append(self._conjunction())
        return parts[0] if len(parts) == 1 else lambda environment: any(part(environment) for part in parts)

    def _conjunction(self) -> Marker:
        parts = [self._term()]
        while self._peek() == "and":
            self._next()
            parts.append(self._term())
        return parts[0] if len(parts) == 1 else lambda environment: all(part(environment) for part in parts)

    def _term(self) -> Marker:
        if self._peek() != "(":
            return self._comparison()
        self._next()
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._malformed()
        inner = self._disjunction()
        if self._next() != ")":
            raise self._malformed()
        self._depth -= 1
        return inner

    def _comparison(self) -> Marker:
        left, operator, right = self._next(), self._next(), self._next()
        if operator == "not" and right == "in":
            operator, right = "not in", self._next()
        sides = (left in _MARKER_VARIABLES, right in _MARKER_VARIABLES)
        quoted = (left[:1] in {"'", '"'}, right[:1] in {"'", '"'})
        if operator not in _OPERATORS or not any(sides) or not all(map(any, zip(sides, quoted, strict=True))):
            raise self._malformed()
        variable = left if sides[0] else right

        def compare(environment: MarkerEnvironment) -> bool:
            values = [
                environment(side) if known else side[1:-1] for side, known in zip((left, right), sides, strict=True)
            ]
            return _holds(variable, values[0], operator, values[1])

        return compare


_OPERATORS: Final = frozenset({"===", "==", "!=", "<=", ">=", "<", ">", "~=", "in", "not in"})


@cache
def _token_pattern() -> re.Pattern[str]:
    return re.compile(r"\s*('[^']*'|\"[^\"]*\"|===|~=|==|!=|<=|>=|<|>|\(|\)|[a-z_.]+)", re.ASCII)


def _tokens(text: str) -> list[str]:
    found: list[str] = []
    place, text = 0, text.rstrip()
    while place < len(text):
        match = _token_pattern().match(text, place)
        if match is None:
            raise ValueError(f"its marker {text.strip()[:80]!r} is malformed")
        found.append(match.group(1))
        place = match.end()
    return found


def _holds(variable: str, left: str, operator: str, right: str) -> bool:
    """Compare two values as PEP 508 does: as versions where both can be, else as strings."""
    if variable == "extra":
        left, right = normalized(left), normalized(right)
    if operator in {"in", "not in"}:
        return (left in right) == (operator == "in")
    if variable in _VERSIONED:
        try:
            return satisfies(left, f"{operator}{right}")
        except ValueError:
            pass  # a release such as "6.1.0-13-amd64" compares as a string
    outcomes = {"==": left == right, "!=": left != right, "<": left < right, ">": left > right}
    outcomes |= {"<=": left <= right, ">=": left >= right, "===": left == right}
    return outcomes.get(operator, False)
