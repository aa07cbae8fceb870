"""Known secrets are masked in whatever form they travel, and nothing else is touched."""

import base64
import json
import re
from collections import UserDict
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from oneiric.core import Secret
from oneiric.runtime.secrets import Redactor

SECRETS = (
    "S3CR3T-4f7c/+ &é\"'\\",
    "plainplain",
    "per%cent~x",
    "<tag>&amp;",
    "line one is long enough\nline two is long enough",
)


def redactor(*values: str) -> Redactor:
    made = Redactor()
    made.add(*map(Secret, values))
    return made


def travelling(value: str) -> dict[str, str]:
    """A value as it appears in what programs write."""
    data = value.encode()
    return {
        "plain": f"password is {value}, sorry",
        "repr": repr({"password": value}),
        "bytes repr": repr(data),
        "json": json.dumps({"a": [value]}),
        "json utf-8": json.dumps({"a": [value]}, ensure_ascii=False),
        "json in json": json.dumps(json.dumps(value)),
        "url": f"https://h/?{urlencode({'token': value})}",
        "url path": f"https://h/{quote(value)}/x",
        "userinfo": f"redis://:{quote(value, safe='')}@h/0",
        "lower-case url": re.sub("%..", lambda found: found[0].lower(), quote_plus(value)),
        "hex": data.hex(),
        "HEX": data.hex().upper(),
        "base64": base64.b64encode(data).decode(),
        "base64url": base64.urlsafe_b64encode(data).decode().rstrip("="),
        **{
            f"within base64, {before} before": base64.b64encode(b"u" * before + data + b":tail").decode()
            for before in range(1, 7)
        },
    }


@pytest.mark.parametrize("value", SECRETS)
def test_every_form_in_which_a_secret_travels_is_masked(value: str) -> None:
    masks = redactor(value)

    for form, text in travelling(value).items():
        masked = masks.mask(text)
        assert "***" in masked, form
        assert not masks.finds(masked), form
        assert value not in masked, form


def test_a_line_of_a_longer_secret_is_masked() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nAQEFAASCBKcwggSjAgEAAoIB\n-----END KEY-----"

    assert redactor(key).mask("bad line 1: MIIEvQIBADANBgkqhkiG9w0B") == "bad line 1: ***"


def test_text_without_a_secret_is_the_same_object() -> None:
    text, deep = "nothing here", {"a": ["b", ("c",)]}
    masks = redactor("S3CR3T")

    assert masks.mask(text) is text
    assert masks.mask(deep) == deep
    assert Redactor().mask(deep) is deep


def test_containers_are_looked_through_and_the_rest_is_left_alone() -> None:
    value: Any = object()
    masks = redactor("S3CR3T")
    given_ = {"S3CR3T": [1, b"x S3CR3T", ("S3CR3T", {"a"}), value, None], "n": UserDict(a="S3CR3T!")}

    assert masks.mask(given_) == {"***": [1, b"x ***", ("***", {"a"}), value, None], "n": {"a": "***!"}}


def test_a_loop_ends() -> None:
    loop: list[Any] = ["S3CR3T"]
    loop.append(loop)

    assert "S3CR3T" not in str(redactor("S3CR3T").mask(loop))


def test_overlapping_secrets_leave_no_rest() -> None:
    assert redactor("abcdefgh", "efghijkl", "cdefgh").mask("-abcdefghijkl-") == "-***-"


def test_short_values_are_not_looked_for() -> None:
    assert redactor("short", "1").mask("a short 1") == "a short 1"


def test_the_one_added_longest_ago_goes_first() -> None:
    masks = Redactor(max_secrets=2)
    for value in ("first-one", "second-one", "first-one", "third-one"):
        masks.add(Secret(value))

    assert masks.mask("first-one second-one third-one") == "*** second-one ***"
    assert "first" not in repr(masks)
    masks.max_secrets = 0
    masks.add()
    assert masks.mask("first-one third-one") == "first-one third-one"


@given(
    st.lists(st.text("abcAB12-=", min_size=6, max_size=9), min_size=1, max_size=40),
    st.text("abcAB12-=", max_size=120),
)
def test_many_secrets_and_few_find_the_same(values: list[str], text: str) -> None:
    many, text = redactor(*values), text + values[0]
    one_by_one = [redactor(value) for value in values]

    masked = many.mask(text)
    assert not any(value in masked for value in values)
    assert many.finds(text)
    assert many.finds(text * 200) == any(one.finds(text * 200) for one in one_by_one)


class Inner(BaseModel):
    token: Secret
    other: SecretStr = SecretStr("of-pydantic")


@dataclass(slots=True)
class Plain:
    inner: list[Inner]
    by_name: dict[str, Secret]


def test_secrets_are_collected_wherever_they_lie() -> None:
    masks = Redactor()
    loop: list[Any] = []
    loop.append(loop)
    masks.collect(
        Plain([Inner(token=Secret("in-a-model"))], {"a": Secret("in-a-dict")}), (loop, {Secret("in-a-set")}), 5
    )

    assert masks.mask("in-a-model of-pydantic in-a-dict in-a-set") == "*** *** *** ***"
