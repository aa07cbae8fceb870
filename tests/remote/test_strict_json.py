"""Strict JSON: one reading of any bytes, or none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneiric.core.errors import SchemaError
from oneiric.remote._strict_json import MAX_DEPTH, MAX_INTEGER, parse_json

TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


def parse(text: bytes) -> Any:
    return parse_json(text, "document", max_bytes=1 << 20)


@given(TREES, st.sampled_from([None, 1]), st.booleans())
def test_what_json_writes_is_read_back(tree: Any, indent: int | None, ascii_only: bool) -> None:
    assert parse(json.dumps(tree, indent=indent, ensure_ascii=ascii_only).encode()) == tree


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"{",
        b"{}x",
        b"{} {}",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"1e999",
        b"[1,]",
        b'{"a":1,}',
        b"{a:1}",
        b"'a'",
        b"01",
        b"+1",
        b".5",
        b"1.",
        b"0x10",
        b"// x\n1",
        b"\xef\xbb\xbf{}",
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\\ud800"',
        b'"\\ude00x"',
        b'"a\nb"',
        b'"\\x41"',
        b"9007199254740992",
        b"-9007199254740992",
        b"1" * 5000,
        b"[" * 40 + b"]" * 40,
        b"[" * 100_000,
        b'{"a":' * 50_000,
        "{}".encode("utf-16"),
        b"\x00",
        b'{"a":1}\x00',
    ],
    ids=lambda text: repr(text[:20]),
)
def test_what_two_readers_might_read_differently_is_refused(text: bytes) -> None:
    with pytest.raises(SchemaError, match="document"):
        parse(text)


def test_the_deepest_nesting_is_read_and_one_more_is_not() -> None:
    deepest = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH

    assert json.dumps(parse(deepest)).encode() == deepest
    with pytest.raises(SchemaError, match="nested more than 32 deep"):
        parse(b"[" + deepest + b"]")


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"a":2}',
        b'{"a":1,"a" :2}',
        b'{"a" :1,"a" :2}',
        b'{"a"\n:1,"a"\t:2}',
        b'{"a":1,"\\u0061":2}',
        b'{"x":[{"y":{"b":1,"b":2}}]}',
        b'{"a":1,"b":":","a" :2}',
        b'{"\\"":1,"\\"":2}',
        b'{"a\\\\":1,"a\\\\":2}',
        b'{"":1,"":2}',
    ],
)
def test_a_name_stated_twice_is_refused_however_it_is_written(text: bytes) -> None:
    with pytest.raises(SchemaError, match="twice"):
        parse(text)


@pytest.mark.parametrize(
    "text", [b'{"a":":x","b":"\\":"}', b'{"a" : " x"}', b'["\\":", ":"]', b'{"a":"\\\\":"b":1}'[:9] + b"}"]
)
def test_text_that_looks_like_a_name_is_no_duplicate(text: bytes) -> None:
    assert parse(text) == json.loads(text)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c", '"', "\\", ":", '":', " "]), st.sampled_from(["", ":", '"', '":', " x"])
        ),
        max_size=5,
    ),
    st.sampled_from(['":', '" :', '"\n:']),
)
def test_duplicates_are_found_exactly_when_there_are_some(pairs: list[tuple[str, str]], colon: str) -> None:
    text = "{" + ",".join(json.dumps(name)[:-1] + colon + json.dumps(value) for name, value in pairs) + "}"
    twice = len({name for name, _ in pairs}) != len(pairs)
    if twice:
        with pytest.raises(SchemaError, match="twice"):
            parse(text.encode())
    else:
        assert parse(text.encode()) == dict(pairs)


def test_32_levels_are_read_and_no_more() -> None:
    assert parse(b"[" * 32 + b"]" * 32)
    with pytest.raises(SchemaError, match="more than 32 deep"):
        parse(b"[" * 34 + b"]" * 34)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_value_or_a_schema_error(content: bytes) -> None:
    try:
        value = parse(content)
    except SchemaError:
        return
    assert value == json.loads(content)
