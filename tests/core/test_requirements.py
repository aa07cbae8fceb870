"""Versions, specifiers and requirements: the answers of `packaging`, and sentences for what is malformed."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from packaging.requirements import InvalidRequirement
from packaging.requirements import Requirement as Reference
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion
from packaging.version import Version as ReferenceVersion

from oneiric.core._requirements import (
    Version,
    check_requirement,
    check_specifiers,
    normalized,
    parse_requirement,
    parse_specifiers,
    satisfies,
)
from oneiric.core.errors import InvalidCandidateError

_numbers = st.integers(0, 3)
_separators = st.sampled_from(["", ".", "-", "_"])


@st.composite
def versions(draw: st.DrawFn) -> str:
    """Versions in every spelling, few enough numbers that they meet one another."""
    text = draw(st.sampled_from(["", "", "", "1!"]))
    text += ".".join(map(str, draw(st.lists(_numbers, min_size=1, max_size=4))))
    if draw(st.booleans()):
        name = draw(st.sampled_from(["a", "b", "rc", "alpha", "beta", "c", "pre", "preview", "RC"]))
        text += draw(_separators) + name + draw(_separators) + str(draw(_numbers))
    if draw(st.booleans()):
        text += (
            draw(_separators) + draw(st.sampled_from(["post", "rev", "r"])) + draw(_separators) + str(draw(_numbers))
        )
    if draw(st.booleans()):
        text += draw(_separators) + "dev" + str(draw(_numbers))
    if draw(st.booleans()):
        text += "+" + draw(st.sampled_from(["a", "1", "a.1", "1.2", "ubuntu-1", "A_b"]))
    return text


@st.composite
def clauses(draw: st.DrawFn) -> str:
    operator = draw(st.sampled_from(["==", "!=", "<=", ">=", "<", ">", "~=", "==="]))
    version = draw(versions())
    if operator in {"==", "!="} and draw(st.booleans()):
        version = ".".join(map(str, draw(st.lists(_numbers, min_size=1, max_size=3)))) + ".*"
    return operator + draw(st.sampled_from(["", " "])) + version


def reference_version(text: str) -> ReferenceVersion | None:
    try:
        return ReferenceVersion(text)
    except InvalidVersion:
        return None


def own_version(text: str) -> Version | None:
    try:
        return Version(text)
    except ValueError as error:
        assert repr(text) in str(error)  # noqa: PT017 - what is returned decides the test
        return None


@given(versions(), versions())
def test_versions_compare_as_packaging_compares_them(left: str, right: str) -> None:
    ours, theirs = (Version(left), Version(right)), (ReferenceVersion(left), ReferenceVersion(right))
    assert (ours[0] < ours[1], ours[0] == ours[1]) == (theirs[0] < theirs[1], theirs[0] == theirs[1])
    assert str(ours[0]) == str(theirs[0])
    assert (ours[0] != ours[1]) or hash(ours[0]) == hash(ours[1])


@given(st.one_of(st.text("0123456789.!+-_abcdevprostv ", max_size=12), st.text(max_size=5)))
def test_what_is_a_version_is_what_packaging_takes_for_one(text: str) -> None:
    ours, theirs = own_version(text), reference_version(text)
    assert (ours is None) == (theirs is None)


@given(versions(), st.lists(clauses(), max_size=3))
def test_specifiers_pick_what_packaging_picks(version: str, stated: list[str]) -> None:
    text = ",".join(stated)
    try:
        reference = SpecifierSet(text)
    except InvalidSpecifier:
        with pytest.raises(ValueError, match="is not"):
            parse_specifiers(text)
        return
    assert satisfies(version, text) == reference.contains(version, prereleases=True)


@pytest.mark.parametrize(
    ("version", "specifiers", "expected"),
    [
        ("3.13.0", ">=3.13", True),
        ("3.13.0", ">=3.13,<3.14", True),
        ("3.12.9", ">=3.13", False),
        ("3.13.5", "==3.13.*", True),
        ("3.13.5", "!=3.13.*", False),
        ("2.2.post3", "~=2.2", True),
        ("3.0", "~=2.2", False),
        ("1.4.9", "~=1.4.5", True),
        ("1.5", "~=1.4.5", False),
        ("1.0", "===1.0", True),
        ("1.0.0", "===1.0", False),
        ("2.0rc1", "<2.0", False),
        ("1.0+local", "==1.0", True),
        ("1.0", "", True),
        ("1.post1", ">1", False),
        ("1.post1", ">1.dev1", True),
        ("1.post1", ">1a1", True),
        ("1+local", ">1", False),
        ("1b1", "<1.post1", True),
        ("1.post1.dev0", "<1.post1", False),
        ("1.0A1", "===1.0a1", True),
        ("1post0", "===1.post0", False),
    ],
)
def test_a_specifier_means_what_the_standard_says(version: str, specifiers: str, expected: bool) -> None:
    assert satisfies(version, specifiers) is expected


@pytest.mark.parametrize("text", [">=", "3.13", "=>3", ">=3,", ",", "~=3", ">=1+local", "==1.*.1", ">1.*", "==1a1.*"])
def test_a_malformed_specifier_is_named_with_its_field_and_place(text: str) -> None:
    with pytest.raises(InvalidCandidateError, match=r"'requires_python' of row 3 must be a version specifier"):
        check_specifiers("requires_python", text, "row 3")


REQUIREMENTS = [
    "redis",
    "redis>=6",
    "redis >= 6, < 9",
    "redis (>=6)",
    "Redis_Py.X[hiredis, OCSP]>=6",
    "redis[]",
    "redis @ https://example.org/redis.whl",
    "redis>=8; extra == 'redis'",
    'redis>=8; python_version < "4" and extra == "redis"',
    "redis; (sys_platform == 'linux' or sys_platform == 'darwin') and extra == 'a'",
    "redis; 'linux' in sys_platform",
    "redis; sys_platform not in 'win32 cygwin'",
    "redis; python_version >= '3.0' or extra == 'x'",
    "redis; python_full_version ~= '3.0'",
    "redis; os_name == 'nt'",
    "redis; extra != 'a'",
    "redis; '3.9' < python_version",
    "redis; platform_python_implementation == 'CPython'",
]
MALFORMED = [
    "",
    " ",
    "-redis",
    "redis-",
    "redis>",
    "redis>=6 <9",
    "redis 6",
    "redis[a",
    "redis[a b]",
    "redis[-a]",
    "redis;",
    "redis; extra",
    "redis; extra ==",
    "redis; extra = 'a'",
    "redis; extra == 'a' and",
    "redis; (extra == 'a'",
    "redis; extra == 'a')",
    "redis; colour == 'red'",
    "redis; extra == 'a' extra == 'b'",
    "redis\x00",
    "rédis",
]

_ENVIRONMENT = {
    "implementation_name": "cpython",
    "implementation_version": "3.13.0",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_release": "6.1.0-13-amd64",
    "platform_system": "Linux",
    "platform_version": "#1",
    "python_full_version": "3.13.0",
    "python_version": "3.13",
    "sys_platform": "linux",
}


@pytest.mark.parametrize("text", REQUIREMENTS)
@pytest.mark.parametrize("extra", ["", "a", "redis", "x"])
def test_a_requirement_reads_as_packaging_reads_it(text: str, extra: str) -> None:
    ours, theirs = parse_requirement(text), Reference(text)
    environment = {**_ENVIRONMENT, "extra": extra}
    assert ours.name == canonicalize_name(theirs.name)
    assert set(ours.extras) == {canonicalize_name(name) for name in theirs.extras}
    assert ours.applies(environment.__getitem__) == (theirs.marker is None or theirs.marker.evaluate(environment))
    for version in ("5.0", "6.0", "8.1", "9.0"):
        assert ours.accepts(version) == theirs.specifier.contains(version, prereleases=True)


@pytest.mark.parametrize("text", MALFORMED)
def test_a_malformed_requirement_is_named_with_its_field(text: str) -> None:
    with pytest.raises(InvalidRequirement):
        Reference(text)
    with pytest.raises(InvalidCandidateError, match="'requires_extra' must be a requirement") as caught:
        check_requirement("requires_extra", text)
    assert repr(text[:80]) in str(caught.value)


_values = st.sampled_from(["'a'", "'redis'", "'3.13'", "'3.9'", "'linux'", "'x y'"])
_variables = st.sampled_from(["extra", "python_version", "sys_platform", "os_name"])
_comparisons = st.builds(
    lambda sides, operator: f"{sides[0]} {operator} {sides[1]}",
    st.one_of(st.tuples(_variables, _values), st.tuples(_values, _variables)),
    st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in", "not in", "not  in"]),
)
_markers = st.recursive(
    _comparisons,
    lambda inner: st.one_of(
        st.builds("({})".format, inner),
        st.builds("{} and {}".format, inner, inner),
        st.builds("{} or {}".format, inner, inner),
    ),
    max_leaves=6,
)


@given(_markers, st.sampled_from(["", "a", "redis"]))
def test_markers_hold_where_packaging_says_so(marker: str, extra: str) -> None:
    environment = {**_ENVIRONMENT, "extra": extra}
    try:
        expected = Reference(f"x; {marker}").marker
        assert expected is not None
        truth = expected.evaluate(environment)
    except Exception:  # noqa: BLE001 - packaging refuses some orderings of strings; where it does we compare nothing
        assume(False)
        return
    # An ordering of plain strings is undefined by the standard: both libraries may say what they like.
    assume(
        not any(f"{variable} {order}" in marker for variable in ("extra", "sys_platform", "os_name") for order in "<>")
    )
    assume(
        not any(
            f"{order} {variable}" in marker
            for variable in ("extra", "sys_platform", "os_name")
            for order in ("<", "<=", ">", ">=")
        )
    )
    assume("python_version" not in marker or all(word not in marker for word in ("'a'", "'redis'", "'linux'", "'x y'")))
    assert parse_requirement(f"x; {marker}").applies(environment.__getitem__) == truth


@given(st.from_regex(r"\A[A-Za-z0-9]([A-Za-z0-9._-]{0,10}[A-Za-z0-9])?\Z"))
def test_names_are_normalised_as_packaging_does(name: str) -> None:
    assert normalized(name) == canonicalize_name(name)


@pytest.mark.parametrize(
    "text", ["(" * 5000, "x; " + "(" * 400 + "extra == 'a'" + ")" * 400, "x" * 100_000, "1" * 100_000]
)
def test_a_hostile_requirement_is_refused_at_once(text: str) -> None:
    with pytest.raises(ValueError, match="is not a requirement") as caught:
        parse_requirement(text)
    assert len(str(caught.value)) < 400
