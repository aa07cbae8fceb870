"""Strict Ed25519, held against vectors that plain arithmetic makes: what a lenient verifier accepts is refused."""

from __future__ import annotations

import hashlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.remote import curve

from oneiric.core.errors import SignatureError
from oneiric.remote.keys import PublicKey, SigningKey

SEED = bytes(range(32))
MESSAGE = b"an honest update is boring"
KEY = SigningKey(SEED)
SMALL = sorted(curve.small_order_encodings())


def test_the_arithmetic_signs_as_the_library_does() -> None:
    scalar, prefix = curve.secret_scalar(SEED)
    public = curve.encoded(curve.times(scalar, curve.BASE))
    assert public == KEY.public.raw

    nonce = int.from_bytes(hashlib.sha512(prefix + MESSAGE).digest(), "little") % curve.L
    nonce_point = curve.encoded(curve.times(nonce, curve.BASE))
    s = (nonce + curve.challenge(nonce_point, public, MESSAGE) * scalar) % curve.L
    assert nonce_point + s.to_bytes(32, "little") == KEY.sign(MESSAGE)


def test_there_are_fourteen_encodings_of_small_order() -> None:
    assert len(SMALL) == 14


@pytest.mark.parametrize("encoding", SMALL, ids=lambda each: each.hex()[:16])
def test_a_key_of_small_order_is_refused_before_it_is_trusted(encoding: bytes) -> None:
    with pytest.raises(SignatureError, match="small order"):
        PublicKey(encoding)


@pytest.mark.parametrize("encoding", SMALL, ids=lambda each: each.hex()[:16])
def test_a_signature_whose_nonce_is_of_small_order_is_refused(encoding: bytes) -> None:
    """With a nonce of small order S = k·a satisfies the equation up to the cofactor."""
    scalar, _ = curve.secret_scalar(SEED)
    s = curve.challenge(encoding, KEY.public.raw, MESSAGE) * scalar % curve.L

    assert not KEY.public.verifies(encoding + s.to_bytes(32, "little"), MESSAGE)


@pytest.mark.parametrize("multiple", range(1, 9))
def test_a_signature_with_s_not_below_the_order_is_refused(multiple: int) -> None:
    signature = KEY.sign(MESSAGE)
    s = int.from_bytes(signature[32:], "little") + multiple * curve.L
    malleable = signature[:32] + s.to_bytes(32, "little")

    assert KEY.public.verifies(signature, MESSAGE)
    assert not KEY.public.verifies(malleable, MESSAGE)


@pytest.mark.parametrize("y", [*range(2, 19)], ids=str)
def test_a_key_that_is_not_written_reduced_is_refused(y: int) -> None:
    for sign in (0, 1):
        unreduced = (y + curve.P | sign << 255).to_bytes(32, "little")
        with pytest.raises(SignatureError, match="encoding"):
            PublicKey(unreduced)


def test_a_key_that_is_no_point_is_refused() -> None:
    off_curve = next(y for y in range(2, 100) if curve.x_of(y) is None)

    with pytest.raises(SignatureError, match="no point"):
        PublicKey(off_curve.to_bytes(32, "little"))


def test_a_key_with_a_component_of_small_order_is_refused() -> None:
    honest = curve.times(curve.secret_scalar(SEED)[0], curve.BASE)
    for torsion in curve.small_order_points():
        if torsion == curve.IDENTITY:
            continue
        mixed = curve.encoded(curve.add(honest, torsion))
        with pytest.raises(SignatureError, match="main group"):
            PublicKey(mixed)


def test_a_signature_that_only_a_cofactored_verifier_accepts_is_refused() -> None:
    scalar, prefix = curve.secret_scalar(SEED)
    nonce = int.from_bytes(prefix, "little") % curve.L
    points = curve.small_order_points()
    assert len(points) == 8
    for torsion in points:
        if torsion == curve.IDENTITY:
            continue
        nonce_point = curve.encoded(curve.add(curve.times(nonce, curve.BASE), torsion))
        s = (nonce + curve.challenge(nonce_point, KEY.public.raw, MESSAGE) * scalar) % curve.L
        assert not KEY.public.verifies(nonce_point + s.to_bytes(32, "little"), MESSAGE)


@pytest.mark.parametrize("length", [0, 1, 31, 33, 64])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(SignatureError, match=f"{length} bytes"):
        PublicKey(bytes(length))


@pytest.mark.parametrize("length", [0, 1, 32, 63, 65, 128])
def test_a_signature_of_another_length_is_refused(length: int) -> None:
    assert not KEY.public.verifies((KEY.sign(MESSAGE) * 2)[:length], MESSAGE)


@pytest.mark.parametrize("bit", range(0, 512, 7))
def test_a_signature_with_one_bit_changed_is_refused(bit: int) -> None:
    signature = bytearray(KEY.sign(MESSAGE))
    signature[bit // 8] ^= 1 << bit % 8

    assert not KEY.public.verifies(bytes(signature), MESSAGE)


@given(st.binary(max_size=200), st.binary(min_size=64, max_size=64))
def test_random_signatures_are_refused_and_never_raise(message: bytes, signature: bytes) -> None:
    assert not KEY.public.verifies(signature, message)


@given(st.binary(min_size=32, max_size=32))
def test_any_32_bytes_are_a_key_or_a_signature_error(raw: bytes) -> None:
    try:
        key = PublicKey(raw)
    except SignatureError:
        return
    assert not key.verifies(bytes(64), b"")


@given(st.binary(max_size=500))
def test_what_was_signed_verifies_and_nothing_else_does(message: bytes) -> None:
    key = SigningKey(os.urandom(32))
    signature = key.sign(message)

    assert key.public.verifies(signature, message)
    assert not key.public.verifies(signature, message + b"x")
    assert not KEY.public.verifies(signature, message)
