"""Key, and the grammar of names it holds to."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneiric.core import Key
from oneiric.core.errors import InvalidCandidateError


def test_a_key_is_a_value() -> None:
    first: Key[int] = Key("adapter", "cache")
    assert first == Key("adapter", "cache")
    assert first != Key("adapter", "queue")
    assert len({first, Key("adapter", "cache"), Key("service", "cache")}) == 2
    assert str(first) == "adapter:cache"
    assert copy.deepcopy(first) == pickle.loads(pickle.dumps(first)) == first  # noqa: S301 - our own bytes


def test_a_key_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Key("adapter", "cache").name = "queue"  # type: ignore[misc]  # the mistake under test


def test_a_key_may_state_what_serves_there() -> None:
    assert Key[str]("adapter", "cache") == Key("adapter", "cache")


@pytest.mark.parametrize("domain", ["adapter", "service", "my-domain", "my_domain2", "x"])
@pytest.mark.parametrize("name", ["cache", "payment-processor", "fastblocks.tasks.notify", "A", "0", "s3_v2"])
def test_names_that_people_use_are_taken(domain: str, name: str) -> None:
    assert str(Key(domain, name)) == f"{domain}:{name}"


@pytest.mark.parametrize("domain", ["", "Adapter", "1st", "-x", "a b", "a.b", "a/b", "a\n", "a\x00", "é", "x" * 10_000])
def test_a_wrong_domain_is_named_with_the_rule(domain: str) -> None:
    with pytest.raises(InvalidCandidateError, match="'domain' must be") as caught:
        Key(domain, "cache")
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a..b", "../x", ".x", "-x", "a/b", "a\\b", "a:b", "a b", "a\n", "a\x00", "é", "x" * 10_000]
)
def test_a_wrong_name_is_named_with_the_rule(name: str) -> None:
    with pytest.raises(InvalidCandidateError, match="'key' must be") as caught:
        Key("adapter", name)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("wrong", [None, 5, b"cache", ["cache"]])
def test_what_is_not_a_string_is_no_name(wrong: object) -> None:
    with pytest.raises(InvalidCandidateError, match="must be a string"):
        Key("adapter", wrong)  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(InvalidCandidateError, match="must be a string"):
        Key(wrong, "cache")  # type: ignore[arg-type]  # the mistake under test


@given(st.text())
def test_a_name_that_is_taken_holds_no_separator_of_a_path_a_url_or_a_line(text: str) -> None:
    try:
        Key("adapter", text)
    except InvalidCandidateError:
        return
    assert text.isascii()
    assert not set(text) & set("/\\:?#%&'\"<>|*\r\n\t \x00")
    assert ".." not in text
    assert text[0].isalnum()
