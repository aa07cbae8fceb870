"""Secret: no ordinary way of writing a value down writes this one."""

import copy
import json
import logging
import pickle
import pprint
import traceback
from dataclasses import asdict, dataclass

import pytest

from oneiric.core import Secret

CANARY = "S3CR3T-3f1c9a52"


@dataclass
class Holder:
    password: Secret
    user: str = "me"


def test_only_reveal_gives_the_value_out() -> None:
    assert Secret(CANARY).reveal() == CANARY


def test_no_way_of_printing_shows_the_value() -> None:
    secret = Secret(CANARY)
    holder = Holder(secret)
    shown = [
        str(secret),
        repr(secret),
        f"{secret} {secret!r} {secret!s} {secret:>10}",
        "%s %r" % (secret, secret),  # noqa: UP031 - the old way of formatting is one of the ways
        "{}".format(secret),  # noqa: UP032 - so is this one
        repr(holder),
        repr(asdict(holder)),
        pprint.pformat({"password": secret, "all": [secret]}),
        repr([secret, {secret: secret}]),
        logging.LogRecord("x", 20, "f", 1, "%s %r", (secret, secret), None).getMessage(),
        json.dumps({"password": secret}, default=str),
        ascii(secret),
        str(dir(secret)),
    ]
    assert [text for text in shown if CANARY in text] == []
    assert "***" in shown[0]


def test_a_traceback_with_its_locals_does_not_show_the_value() -> None:
    secret = Secret(CANARY)
    try:
        raise RuntimeError(secret)
    except RuntimeError as error:
        captured = traceback.TracebackException.from_exception(error, capture_locals=True)
    text = "".join(captured.format())
    assert "secret = Secret(" in text
    assert CANARY not in text


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_refuses_to_be_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps({"password": Secret(CANARY)}, protocol)


def test_json_refuses_a_secret() -> None:
    with pytest.raises(TypeError) as caught:
        json.dumps({"password": Secret(CANARY)})
    assert CANARY not in str(caught.value)


def test_a_copy_is_the_secret_itself() -> None:
    secret = Secret(CANARY)
    assert copy.copy(secret) is secret
    assert copy.deepcopy(Holder(secret)).password is secret


def test_secrets_compare_by_value_and_hash_alike() -> None:
    assert Secret(CANARY) == Secret(CANARY)
    assert Secret(CANARY) != Secret("other")
    assert (Secret(CANARY) == CANARY) is False
    assert hash(Secret(CANARY)) == hash(Secret("other"))
    assert Secret("é") == Secret("é")


def test_a_secret_is_true_even_when_it_is_empty() -> None:
    assert bool(Secret(""))


@pytest.mark.parametrize("value", [None, 5, b"bytes", ["list"]])
def test_only_a_string_can_be_a_secret(value: object) -> None:
    with pytest.raises(TypeError, match="holds a str"):
        Secret(value)  # type: ignore[arg-type]  # the mistake under test


def test_a_secret_has_no_dictionary_to_look_into() -> None:
    secret = Secret(CANARY)
    with pytest.raises(TypeError, match="__dict__"):
        vars(secret)
    with pytest.raises(AttributeError):
        secret.note = "x"  # type: ignore[attr-defined]  # the mistake under test


def test_a_pydantic_model_takes_strings_and_never_dumps_the_value() -> None:
    pydantic = pytest.importorskip("pydantic", reason="pydantic is not installed, and core does not need it")

    class Settings(pydantic.BaseModel):  # type: ignore[misc, name-defined]  # imported only where it is installed
        password: Secret

    for given in (CANARY, Secret(CANARY)):
        settings = Settings(password=given)
        assert settings.password.reveal() == CANARY
        shown = [repr(settings), str(settings), repr(settings.model_dump()), settings.model_dump_json()]
        shown += [repr(settings.model_dump(mode="json")), json.dumps(Settings.model_json_schema())]
        assert [text for text in shown if CANARY in text] == []
        assert settings.model_dump(mode="json") == {"password": "***"}
    with pytest.raises(pydantic.ValidationError) as caught:
        Settings(password=5)
    assert "must be a string" in str(caught.value)
