"""Ed25519, strictly: one encoding of each key and signature, and no key that anybody can sign for.

Source: RFC 8032, section 5.1; Chalkias, Garillot, Nikolaenko: "Taming the many EdDSAs" (2020), whose strict profile
this is: canonical encodings of A and R, no point of small order, S below the group's order, no cofactor.
"""

from typing import Final

from nacl import bindings
from nacl.exceptions import BadSignatureError

__all__ = ["KEY_BYTES", "SIGNATURE_BYTES", "key_problem", "verifies"]

KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

#: The field's prime, and the order of the base point.
_P: Final = 2**255 - 19
_L: Final = 2**252 + 27742317777372353535851937790883648493
_SIGN: Final = 1 << 255

_ORDER_8_A: Final = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_ORDER_8_B: Final = _P - _ORDER_8_A
#: The y coordinates of the eight points of small order, also as they read when written without reduction.
_SMALL_ORDER: Final = frozenset({0, 1, _P - 1, _P, _P + 1, _ORDER_8_A, _ORDER_8_B})


def _point_problem(encoded: bytes) -> str | None:
    """Return what is wrong with a point's encoding, as far as its bytes alone say it."""
    y = int.from_bytes(encoded, "little") & ~_SIGN
    if y in _SMALL_ORDER:
        return "is a point of small order, which anybody can sign for"
    return "is not the one encoding of its point" if y >= _P else None


def key_problem(key: bytes) -> str | None:
    """Return why 32 bytes cannot be trusted as a public key, as a clause; None when they can."""
    if len(key) != KEY_BYTES:
        return f"is {len(key)} bytes long, and a key has {KEY_BYTES}"
    if problem := _point_problem(key):
        return problem
    if bindings.has_crypto_core_ed25519 and not bindings.crypto_core_ed25519_is_valid_point(key):
        return "is no point of the curve's main group"
    return None


def verifies(key: bytes, signature: bytes, *message: bytes) -> bool:
    """Tell whether *signature* is the key's signature of a message, stated in parts; a malformed one is not."""
    if len(signature) != SIGNATURE_BYTES or len(key) != KEY_BYTES:
        return False
    if int.from_bytes(signature[32:], "little") >= _L:
        return False
    if _point_problem(signature[:32]) or _point_problem(key):
        return False
    try:
        # The binding takes both in one piece: joined once, since a manifest is megabytes.
        bindings.crypto_sign_open(b"".join((signature, *message)), key)
    except (BadSignatureError, ValueError):
        return False
    return True
