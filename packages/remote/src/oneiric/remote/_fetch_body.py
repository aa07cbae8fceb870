"""A body as it arrives: counted, hashed and bounded."""

import hashlib
import io

from oneiric.core.errors import DigestError, FetchRefusedError
from oneiric.remote._fetch_values import Wanted

__all__ = ["Body"]


class Body:
    """Take the bytes of one answer, and stop at the first that is too many.

    Args:
        wanted: The bounds, the digest, and who is told.
        shown: Where the bytes come from, for sentences.
        total_bytes: How many there will be, as far as the sender says.
    """

    def __init__(self, wanted: Wanted, shown: str, total_bytes: int | None = None) -> None:
        self._wanted = wanted
        self._shown = shown
        self._total = total_bytes if wanted.expected_bytes is None else wanted.expected_bytes
        self._digest = hashlib.sha256()
        self._kept = io.BytesIO()
        self.length_bytes = 0
        if wanted.into is not None:
            wanted.into.restart()

    def add(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            DigestError: There are more than were expected.
            FetchRefusedError: There are more than the limit.
        """
        self.length_bytes += len(data)
        check_length(self._wanted, self._shown, self.length_bytes)
        self._digest.update(data)
        if self._wanted.into is None:
            self._kept.write(data)
        else:
            self._wanted.into.write(data)
        if self._wanted.progress is not None:
            self._wanted.progress(self.length_bytes, self._total)

    def finish(self) -> tuple[bytes, str]:
        """Return the bytes that were kept, and the digest of all.

        Raises:
            DigestError: They are too few, or not those that were expected.
        """
        expected, found = self._wanted.expected_bytes, self._digest.hexdigest()
        if expected is not None and self.length_bytes != expected:
            raise DigestError(f"{self._shown} has {self.length_bytes} bytes: {expected} were expected")
        if self._wanted.sha256 is not None and found != self._wanted.sha256:
            raise DigestError(f"{self._shown} has sha256 {found}: {self._wanted.sha256} was expected")
        return self._kept.getvalue(), found


def check_length(wanted: Wanted, shown: str, length_bytes: int) -> None:
    """Refuse a body that has, or says it has, more than it may."""
    if wanted.expected_bytes is not None and length_bytes > wanted.expected_bytes:
        raise DigestError(f"{shown} has more than the {wanted.expected_bytes} bytes that were expected")
    if length_bytes > wanted.max_bytes:
        raise FetchRefusedError(f"{shown} is larger than the limit of {wanted.max_bytes} bytes")
