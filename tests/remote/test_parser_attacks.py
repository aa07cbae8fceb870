"""Texts that two parsers would read in two ways, as envelope and as what was signed: refused, whoever signed them."""

from __future__ import annotations

import base64
import json

import pytest

from oneiric.core.errors import SchemaError
from oneiric.remote.envelope import Envelope
from oneiric.remote.manifest import parse_manifest

BODY = {
    "product": "acme",
    "channel": "stable",
    "version": 1,
    "issued": "2026-11-21T00:00:00Z",
    "expires": "2026-12-21T00:00:00Z",
    "entries": [],
}
PLAIN = json.dumps(BODY).encode()
COMPACT = json.dumps(BODY, separators=(",", ":")).encode()


def adding(text: str, data: bytes = COMPACT) -> bytes:
    """Return the body with more behind its first brace."""
    return b"{" + text.encode("utf-8", "surrogatepass") + b"," + data[1:]


ATTACKS: dict[str, bytes] = {
    "a byte order mark": b"\xef\xbb\xbf" + COMPACT,
    "UTF-16": COMPACT.decode().encode("utf-16"),
    "UTF-16 without a mark": COMPACT.decode().encode("utf-16-le"),
    "UTF-32": COMPACT.decode().encode("utf-32"),
    "something behind it": COMPACT + b" x",
    "a NUL behind it": COMPACT + b"\x00",
    "a second document": COMPACT + COMPACT,
    "a vertical tab before it": b"\x0b" + COMPACT,
    "a space of another script before it": "\u00a0".encode() + COMPACT,
    "a comment": b"/* */" + COMPACT,
    "a name twice": adding('"version":2'),
    "a name twice, once escaped": adding('"\\u0076ersion":2'),
    "a name twice, escaped in capitals": adding('"\\u0076ERSION":2,"vERSION":3'),
    "a name twice, spaced": adding('"version" :2'),
    "a name twice in plain spacing": adding('"version": 2', PLAIN),
    "a name twice as a pair of escapes": adding('"\\ud83d\\ude00":1,"\U0001f600":2'),
    "a name twice by a needless escape": adding('"a/b":1,"a\\/b":2'),
    "a name with half a pair": adding('"\\ud800":1'),
    "a name with the halves swapped": adding('"\\udc00\\ud800":1'),
    "half a pair in the bytes": adding('"\ud800":1'),
    "a letter in too many bytes": COMPACT.replace(b"acme", b"\xc1\xa1cme"),
    "a byte that is no text": COMPACT.replace(b"acme", b"ac\xffme"),
    "a control character": COMPACT.replace(b"acme", b"ac\x01me"),
    "a line break in a text": COMPACT.replace(b"acme", b"ac\nme"),
    "a version with a point": COMPACT.replace(b":1,", b":1.0,", 1),
    "a version with an exponent": COMPACT.replace(b":1,", b":1e0,", 1),
    "a version with a leading zero": COMPACT.replace(b":1,", b":01,", 1),
    "a version with a sign": COMPACT.replace(b":1,", b":+1,", 1),
    "a version of nothing": COMPACT.replace(b":1,", b":-0,", 1),
    "a version as text": COMPACT.replace(b":1,", b':"1",', 1),
    "a version as truth": COMPACT.replace(b":1,", b":true,", 1),
    "a version of a hundred thousand digits": COMPACT.replace(b":1,", b":" + b"9" * 100_000 + b",", 1),
    "a version beyond a double": COMPACT.replace(b":1,", b":9007199254740993,", 1),
    "no number": COMPACT.replace(b":1,", b":NaN,", 1),
    "an infinity": COMPACT.replace(b":1,", b":-Infinity,", 1),
    "an infinity by its exponent": COMPACT.replace(b":1,", b":1e400,", 1),
    "lists without end": COMPACT.replace(b"[]", b"[" * 100_000 + b"]" * 100_000),
    "objects without end": COMPACT.replace(b"[]", b'[{"a":' * 20_000 + b"1" + b"}]" * 20_000),
    "a comma too many": COMPACT.replace(b"[]", b"[,]"),
    "names in single quotes": COMPACT.replace(b'"', b"'"),
    "a text": b'"' + base64.b64encode(COMPACT) + b'"',
    "nothing": b"",
    "only space": b" \n\t ",
}


def test_the_honest_texts_are_read() -> None:
    assert parse_manifest(PLAIN).version == parse_manifest(COMPACT).version == 1


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_body_has_two_readings(attack: str) -> None:
    with pytest.raises(SchemaError):
        parse_manifest(ATTACKS[attack])


PAYLOAD = base64.b64encode(COMPACT)
SEALED = b'{"payload":"' + PAYLOAD + b'","payloadType":"t","signatures":[]}'
ENVELOPES: dict[str, bytes] = {
    "a byte order mark": b"\xef\xbb\xbf" + SEALED,
    "UTF-16": SEALED.decode().encode("utf-16"),
    "something behind it": SEALED + b"{}",
    "a payload twice": adding('"payload":"e30="', SEALED),
    "a payload twice, once escaped": adding('"\\u0070ayload":"e30="', SEALED),
    "a type twice, once escaped": adding('"payload\\u0054ype":"other"', SEALED),
    "signatures twice": adding('"signatures":[]', SEALED),
    "a payload with a line break": SEALED.replace(b'"payload":"', b'"payload":"\\n'),
    "a payload with spaces": SEALED.replace(b'"payload":"', b'"payload":" '),
    "a payload with bits to spare": SEALED.replace(PAYLOAD, b"e31="),
    "a payload without its padding": SEALED.replace(PAYLOAD, b"e30"),
    "a payload with more padding": SEALED.replace(PAYLOAD, b"e30=="),
    "a payload in two alphabets": SEALED.replace(PAYLOAD, b"+_8="),
    "a payload of other letters": SEALED.replace(PAYLOAD, "\uff45\uff13\uff10\uff1d".encode()),
    "a payload that is none": SEALED.replace(b'"payload":"' + PAYLOAD + b'"', b'"payload":null'),
}


@pytest.mark.parametrize("attack", ENVELOPES)
def test_no_envelope_has_two_readings(attack: str) -> None:
    with pytest.raises(SchemaError):
        Envelope.parse(ENVELOPES[attack])
