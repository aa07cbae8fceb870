"""The curve of Ed25519 in plain arithmetic: what makes vectors that no honest library would.

Written from RFC 8032, section 5.1, and nothing of ours, so that it can judge ours.
"""

from __future__ import annotations

import hashlib

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)

type Point = tuple[int, int]

IDENTITY: Point = (0, 1)


def add(one: Point, other: Point) -> Point:
    (x1, y1), (x2, y2) = one, other
    product = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P
    return x, y


def times(scalar: int, point: Point) -> Point:
    result = IDENTITY
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point = add(point, point)
        scalar >>= 1
    return result


def x_of(y: int) -> int | None:
    """Return the even x of a point, or None when there is none with this y."""
    squared = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(squared, (P + 3) // 8, P)
    if x * x % P != squared:
        x = x * ROOT_OF_MINUS_ONE % P
    if x * x % P != squared:
        return None
    return P - x if x & 1 else x


def encoded(point: Point) -> bytes:
    x, y = point
    return (y | (x & 1) << 255).to_bytes(32, "little")


BASE: Point = (x_of(4 * pow(5, -1, P) % P) or 0, 4 * pow(5, -1, P) % P)


def small_order_points() -> list[Point]:
    """Return the eight points whose eightfold is the identity, found by multiplying others by the group's order."""
    found: set[Point] = set()
    y = 2
    while len(found) < 8:
        x = x_of(y)
        if x is not None:
            found.add(times(L, (x, y)))
        y += 1
    return sorted(found)


def small_order_encodings() -> set[bytes]:
    """Return every 32 bytes that decode, strictly or not, to a point of small order."""
    found = set()
    for x, y in small_order_points():
        for written in (y, y + P):
            if written < 2**255:
                for sign in (0, 1) if x == 0 else (x & 1,):
                    found.add((written | sign << 255).to_bytes(32, "little"))
    return found


def secret_scalar(seed: bytes) -> tuple[int, bytes]:
    digest = hashlib.sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little") & ((1 << 254) - 8) | 1 << 254
    return scalar, digest[32:]


def challenge(nonce_point: bytes, key: bytes, message: bytes) -> int:
    return int.from_bytes(hashlib.sha512(nonce_point + key + message).digest(), "little") % L
