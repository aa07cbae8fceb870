"""Envelopes: exact bytes, what they are, and who signed both.

A signature covers the payload's bytes and its type, never a re-serialisation. Nothing of a payload is parsed before
enough keys have signed it.

Source: DSSE v1.0.2 (secure-systems-lab/dsse: protocol.md, envelope.md).
"""

import base64
import binascii
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from oneiric.core.errors import SchemaError, SignatureError
from oneiric.remote._ed25519 import SIGNATURE_BYTES
from oneiric.remote._strict_json import parse_json
from oneiric.remote.keys import PublicKey, SigningKey

__all__ = [
    "FRESHNESS_TYPE",
    "MANIFEST_TYPE",
    "ROOT_TYPE",
    "Envelope",
    "Signature",
    "pae",
    "sign",
]

MANIFEST_TYPE: Final = "application/vnd.oneiric.manifest.v1+json"
ROOT_TYPE: Final = "application/vnd.oneiric.root.v1+json"
FRESHNESS_TYPE: Final = "application/vnd.oneiric.freshness.v1+json"

#: More than any honest threshold; each costs the verifier a signature check for each trusted key.
_MOST_SIGNATURES: Final = 32
_MOST_TEXT: Final = 255
#: What all tries of one envelope may hash together: a junk signature must cost its sender more than its reader.
_MOST_HASHED_BYTES: Final = 1024 * 1024 * 1024
_LEAST_TRIES: Final = 16
_DEFAULT_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signature of an envelope.

    Attributes:
        key_id: What the signer calls the key: a hint that nothing rests on.
        value: The 64 bytes.
    """

    key_id: str
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A payload, its type, and signatures of both.

    Attributes:
        payload: The bytes that were signed.
        payload_type: What they are.
        signatures: Whose signatures came with them, in the order stated; none of them is checked yet.
    """

    payload: bytes
    payload_type: str
    signatures: tuple[Signature, ...] = ()

    @classmethod
    def parse(cls, data: bytes, *, what: str = "envelope", max_bytes: int = _DEFAULT_BYTES) -> "Envelope":
        """Read the JSON form; of the payload nothing but its base64 is looked at.

        Fields the specification does not name are ignored, as it asks: nobody has signed them.

        Args:
            data: The envelope.
            what: What errors call it.
            max_bytes: The longest one that is looked at.

        Raises:
            SchemaError: It is too long, is no strict JSON, lacks a field, or its base64 is not canonical.
        """
        document = parse_json(data, what, max_bytes=max_bytes)
        if not isinstance(document, dict):
            raise SchemaError(f"{what} is no envelope: it must be a JSON object", "oneiric manifest sign")
        payload_type = _text(document, "payloadType", what)
        signatures = document.get("signatures")
        if not isinstance(signatures, list):
            raise SchemaError(f"{what} is no envelope: it must hold a list of signatures", "oneiric manifest sign")
        if len(signatures) > _MOST_SIGNATURES:
            raise SchemaError(f"{what} has {len(signatures)} signatures, and {_MOST_SIGNATURES} is the most")
        return cls(
            payload=_decoded(document.get("payload"), f"payload of the {what}"),
            payload_type=payload_type,
            signatures=tuple(_signature(each, what) for each in signatures),
        )

    def to_bytes(self) -> bytes:
        """Return the JSON form, one line."""
        document = {
            "payload": base64.b64encode(self.payload).decode(),
            "payloadType": self.payload_type,
            "signatures": [
                {"keyid": each.key_id, "sig": base64.b64encode(each.value).decode()} for each in self.signatures
            ],
        }
        return json.dumps(document, separators=(",", ":")).encode()

    def signed_by(self, keys: Iterable[PublicKey]) -> tuple[PublicKey, ...]:
        """Return those of *keys* that signed, each once however often it comes.

        What a signature calls its key only decides what is tried first. Each try hashes the payload: of a large one
        only so many are made, and an envelope that needs more counts as not signed.
        """
        remaining = {key.raw: key for key in keys}
        message = (_pae_start(self.payload_type, len(self.payload)), self.payload)
        tries = max(_LEAST_TRIES, _MOST_HASHED_BYTES // sum(map(len, message)))
        unmatched = list(self.signatures)
        found: list[PublicKey] = []
        for is_named in (True, False):
            for signature in tuple(unmatched):
                for key in tuple(remaining.values()):
                    if (key.key_id == signature.key_id) is not is_named:
                        continue
                    tries -= 1
                    if tries < 0:
                        return tuple(found)
                    if key.verifies(signature.value, *message):
                        found.append(remaining.pop(key.raw))
                        unmatched.remove(signature)
                        break
        return tuple(found)

    def require(self, keys: Sequence[PublicKey], threshold: int, what: str) -> tuple[PublicKey, ...]:
        """Return the keys that signed, if there are at least *threshold* of them.

        Raises:
            SignatureError: There are fewer; the message says how many and of which keys.
        """
        distinct = {key.raw for key in keys}
        if not distinct:
            raise SignatureError(f"{what} cannot be verified: no key is trusted for it", "ONEIRIC_TRUSTED_PUBLIC_KEYS")
        signers = self.signed_by(keys)
        if threshold < 1 or len(signers) < threshold:
            raise SignatureError(
                f"{what} is signed by {len(signers)} of the {len(distinct)} trusted keys, and {threshold} must sign",
                "get it from its publisher again; if that helps nothing, ask which keys sign it now",
            )
        return signers


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that a signature covers: the pre-authentication encoding of type and payload."""
    return _pae_start(payload_type, len(payload)) + payload


def _pae_start(payload_type: str, length: int) -> bytes:
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d " % (len(kind), kind, length)


def sign(payload: bytes, payload_type: str, keys: Iterable[SigningKey]) -> Envelope:
    """Return an envelope of *payload* signed by each of *keys*."""
    message = pae(payload_type, payload)
    signatures = tuple(Signature(key_id=key.public.key_id, value=key.sign(message)) for key in keys)
    return Envelope(payload=payload, payload_type=payload_type, signatures=signatures)


def _signature(value: Any, what: str) -> Signature:
    if not isinstance(value, dict):
        raise SchemaError(f"{what} has a signature that is no JSON object")
    # A key id may be absent (envelope.md): it is a hint.
    key_id = _text(value, "keyid", what) if "keyid" in value else ""
    decoded = _decoded(value.get("sig"), f"signature of the {what}")
    if len(decoded) != SIGNATURE_BYTES:
        raise SchemaError(f"{what} has a signature of {len(decoded)} bytes, and Ed25519 has {SIGNATURE_BYTES}")
    return Signature(key_id=key_id, value=decoded)


def _text(document: dict[str, Any], name: str, what: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or len(value) > _MOST_TEXT:
        raise SchemaError(f"{what} is no envelope: {name} must be a string of at most {_MOST_TEXT} characters")
    return value


def _decoded(value: object, what: str) -> bytes:
    """Decode base64 of either alphabet that has one spelling only: padded, no spaces, no stray bits at its end."""
    if not isinstance(value, str):
        raise SchemaError(f"{what} must be base64 text")
    text = value
    if "-" in text or "_" in text:
        if "+" in text or "/" in text:
            raise SchemaError(f"{what} mixes the two alphabets of base64")
        text = text.replace("-", "+").replace("_", "/")
    try:
        decoded = msgspec.convert(text, bytes)
    except msgspec.ValidationError as error:
        raise SchemaError(f"{what} is not canonical base64") from error
    # Only the last group can have bits to spare.
    tail = (len(decoded) - 1) % 3 + 1 if decoded else 0
    if binascii.b2a_base64(decoded[len(decoded) - tail :], newline=False).decode() != text[len(text) - 4 :]:
        raise SchemaError(f"{what} is not canonical base64: it has bits to spare")
    return decoded
