"""Reading manifests: verified and parsed once, and only verified when the same bytes come again."""

import hashlib
from dataclasses import dataclass

from oneiric.remote._manifest_body import ManifestBody, parse_manifest
from oneiric.remote._trust_checks import opened
from oneiric.remote._trust_documents import KeySet
from oneiric.remote.envelope import MANIFEST_TYPE, Envelope
from oneiric.remote.keys import PublicKey

__all__ = ["ManifestReader", "Reading"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was read of a manifest's bytes.

    Attributes:
        data: The bytes.
        digest: Their SHA-256.
        envelope: What they are; whose signatures count is asked each time.
        body: What was signed.
    """

    data: bytes
    digest: str
    envelope: Envelope
    body: ManifestBody


class ManifestReader:
    """Reads manifests, and keeps the last of each publisher.

    What is kept is what the very same bytes said, never a verdict: signatures are checked each time, under the keys
    that count then.

    Args:
        max_bytes: The longest manifest.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._last: dict[str, Reading] = {}

    def digest(self, data: bytes, publisher: str) -> str:
        """Return the SHA-256 of the bytes."""
        last = self._last.get(publisher)
        return last.digest if last is not None and last.data == data else hashlib.sha256(data).hexdigest()

    def read(
        self, data: bytes, digest: str, publisher: str, keys: KeySet, what: str
    ) -> tuple[Reading, tuple[PublicKey, ...]]:
        """Return what the bytes of a digest say, and which of the keys signed it.

        Raises:
            SignatureError: Too few of the keys signed.
            SchemaError: It is no envelope, of another type, or no manifest.
        """
        last = self._last.get(publisher)
        if last is not None and last.data == data:
            return last, last.envelope.require(keys.keys, keys.threshold, what)
        envelope, signers = opened(data, MANIFEST_TYPE, keys, what, self._max_bytes)
        body = parse_manifest(envelope.payload, what)
        reading = Reading(data=data, digest=digest, envelope=envelope, body=body)
        self._last[publisher] = reading
        return reading, signers
