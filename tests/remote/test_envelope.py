"""The envelope: exact bytes, strictly read, and signatures counted by the key that made them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneiric.core.errors import OneiricError, SchemaError, SignatureError
from oneiric.remote.envelope import (
    FRESHNESS_TYPE,
    MANIFEST_TYPE,
    Envelope,
    Signature,
    pae,
    sign,
)
from oneiric.remote.keys import PublicKey, SigningKey

ONE, TWO, THREE = (SigningKey(bytes([number]) * 32) for number in (1, 2, 3))
PAYLOAD = b'{"a":1}'


def document(**changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(sign(PAYLOAD, MANIFEST_TYPE, [ONE]).to_bytes())
    return {**made, **changes}


def parse(value: Any) -> Envelope:
    return Envelope.parse(json.dumps(value).encode())


def test_the_encoding_that_is_signed_is_that_of_the_specification() -> None:
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pae("é", b"") == b"DSSEv1 2 \xc3\xa9 0 "


@given(st.binary(max_size=300))
def test_an_envelope_comes_back_as_it_was(payload: bytes) -> None:
    envelope = sign(payload, MANIFEST_TYPE, [ONE, TWO])

    assert Envelope.parse(envelope.to_bytes()) == envelope
    assert envelope.require([ONE.public, TWO.public], 2, "manifest") == (ONE.public, TWO.public)


@given(st.binary(max_size=60), st.sampled_from(["-_", "+/"]))
def test_either_alphabet_of_base64_is_read(payload: bytes, alphabet: str) -> None:
    encode = base64.urlsafe_b64encode if alphabet == "-_" else base64.b64encode

    assert parse(document(payload=encode(payload).decode())).payload == payload


@pytest.mark.parametrize(
    "payload",
    [
        "YQ",
        "YQ=",
        "YR==",
        "YWJ=",
        "YQ==\n",
        " YQ==",
        "YQ==YQ==",
        "Y Q==",
        "+_==",
        "-/aa",
        "é===",
        "====",
        "=",
        7,
        None,
        [],
    ],
)
def test_base64_that_is_not_canonical_is_refused(payload: object) -> None:
    with pytest.raises(SchemaError, match=r"base64|alphabets"):
        parse(document(payload=payload))


@pytest.mark.parametrize(
    "changes",
    [
        {"signatures": None},
        {"signatures": {}},
        {"signatures": [1]},
        {"signatures": [{"sig": "YQ=="}]},
        {"signatures": [{"keyid": 1, "sig": "YQ=="}]},
        {"signatures": [{"keyid": "a"}]},
        {"payloadType": None},
        {"payloadType": "x" * 300},
        {"payload": None},
    ],
    ids=str,
)
def test_what_lacks_a_part_is_no_envelope(changes: dict[str, Any]) -> None:
    with pytest.raises(SchemaError):
        parse(document(**changes))


def test_more_signatures_than_anybody_needs_are_refused_unchecked() -> None:
    one = document()["signatures"][0]

    with pytest.raises(SchemaError, match="33 signatures"):
        parse(document(signatures=[one] * 33))


def test_an_envelope_beyond_its_cap_is_not_even_parsed() -> None:
    with pytest.raises(SchemaError, match="10 is the most"):
        Envelope.parse(b"x" * 11, max_bytes=10)


def test_fields_nobody_signed_are_ignored() -> None:
    assert parse(document(note="hello")).payload == PAYLOAD


def test_a_name_stated_twice_is_refused() -> None:
    text = sign(PAYLOAD, MANIFEST_TYPE, [ONE]).to_bytes().decode().rstrip("}\n")

    with pytest.raises(SchemaError, match="twice"):
        Envelope.parse(f'{text},"payload":"YQ=="}}'.encode())


def test_one_key_that_signs_twice_counts_once() -> None:
    envelope = sign(PAYLOAD, MANIFEST_TYPE, [ONE, ONE])
    renamed = [Signature(key_id=f"name {number}", value=ONE.sign(pae(MANIFEST_TYPE, PAYLOAD))) for number in range(5)]
    many = Envelope(payload=PAYLOAD, payload_type=MANIFEST_TYPE, signatures=tuple(renamed))

    for each in (envelope, many):
        with pytest.raises(SignatureError, match="signed by 1 of the 2 trusted keys, and 2 must sign"):
            each.require([ONE.public, TWO.public], 2, "manifest")


def test_one_key_that_is_trusted_twice_counts_once() -> None:
    envelope = sign(PAYLOAD, MANIFEST_TYPE, [ONE])

    with pytest.raises(SignatureError, match="1 of the 1"):
        envelope.require([ONE.public, SigningKey(bytes([1]) * 32).public], 2, "manifest")


def test_a_key_is_found_by_its_signature_and_not_by_what_it_is_called() -> None:
    value = ONE.sign(pae(MANIFEST_TYPE, PAYLOAD))
    misnamed = Envelope(
        payload=PAYLOAD,
        payload_type=MANIFEST_TYPE,
        signatures=(Signature(key_id=TWO.public.key_id, value=value), Signature(key_id="", value=value)),
    )

    assert misnamed.signed_by([TWO.public, ONE.public]) == (ONE.public,)


def test_a_key_is_found_also_where_no_signature_names_it() -> None:
    message = pae(MANIFEST_TYPE, PAYLOAD)
    unnamed = tuple(Signature(key_id="", value=key.sign(message)) for key in (THREE, TWO, ONE))
    envelope = Envelope(payload=PAYLOAD, payload_type=MANIFEST_TYPE, signatures=unnamed)

    assert set(envelope.signed_by([ONE.public, TWO.public])) == {ONE.public, TWO.public}


def test_junk_signatures_of_a_large_payload_cost_a_bounded_number_of_tries() -> None:
    """Thirty-two signatures and as many keys would hash it a thousand times."""
    payload = b"x" * 4_000_000
    keys = [SigningKey(bytes([number]) * 32) for number in range(10, 42)]
    junk = tuple(Signature(key_id="", value=ONE.sign(b"%d" % number)) for number in range(31))
    honest = Signature(key_id=keys[-1].public.key_id, value=keys[-1].sign(pae(MANIFEST_TYPE, payload)))
    envelope = Envelope(payload=payload, payload_type=MANIFEST_TYPE, signatures=(*junk, honest))
    tried = 0

    class Counting(PublicKey):
        def verifies(self, signature: bytes, *message: bytes) -> bool:
            nonlocal tried
            tried += 1
            return tried == 1 and super().verifies(signature, *message)

    assert len(envelope.signed_by([Counting(key.public.raw) for key in keys])) == 1
    assert tried <= 300


@pytest.mark.parametrize("threshold", [0, -1])
def test_a_threshold_of_nobody_is_never_met(threshold: int) -> None:
    with pytest.raises(SignatureError):
        sign(PAYLOAD, MANIFEST_TYPE, []).require([ONE.public], threshold, "manifest")


def test_without_a_trusted_key_nothing_verifies() -> None:
    with pytest.raises(SignatureError, match="no key is trusted"):
        sign(PAYLOAD, MANIFEST_TYPE, [ONE]).require([], 1, "manifest")


def test_a_signature_covers_the_type() -> None:
    signed = sign(PAYLOAD, MANIFEST_TYPE, [ONE])
    retyped = Envelope(payload=PAYLOAD, payload_type=FRESHNESS_TYPE, signatures=signed.signatures)

    assert signed.signed_by([ONE.public])
    assert not retyped.signed_by([ONE.public])


def test_others_may_sign_beside_those_who_are_trusted() -> None:
    envelope = sign(PAYLOAD, MANIFEST_TYPE, [THREE, TWO, ONE])

    assert envelope.require([ONE.public, TWO.public], 2, "manifest") == (TWO.public, ONE.public)


@given(st.data())
def test_whatever_is_changed_in_the_bytes_is_refused_or_changes_nothing_that_was_signed(data: st.DataObject) -> None:
    honest = sign(PAYLOAD, MANIFEST_TYPE, [ONE, TWO])
    content = bytearray(honest.to_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        envelope = Envelope.parse(bytes(content))
        envelope.require([ONE.public, TWO.public], 2, "manifest")
    except OneiricError:
        return
    assert (envelope.payload, envelope.payload_type) == (PAYLOAD, MANIFEST_TYPE)


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_an_envelope_or_a_schema_error(content: bytes) -> None:
    try:
        envelope = Envelope.parse(content)
    except SchemaError:
        return
    assert Envelope.parse(envelope.to_bytes()) == envelope
