"""What is asked of a fetch, what it returns, and what its observer is told."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

__all__ = ["FetchFinished", "Fetched", "NotModified", "Progress", "Receiver", "Wanted"]

#: Told the bytes that have arrived, and how many there will be, or None where nobody said.
type Progress = Callable[[int, int | None], object]


class Receiver(Protocol):
    """Takes a body as it arrives, instead of memory."""

    def restart(self) -> object:
        """Forget what was written: a request starts, perhaps anew."""
        ...

    def write(self, data: bytes, /) -> object:
        """Take the next bytes; they are not verified before the fetch returns."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What one call of ``fetch`` asks for.

    Attributes:
        max_bytes: The most a body may have.
        expected_bytes: What it must have.
        sha256: Lower-case hexadecimal digest that it must have.
        etag: Of what the caller has already.
        progress: Told what has arrived.
        into: Takes the body.
    """

    max_bytes: int
    expected_bytes: int | None = None
    sha256: str | None = None
    etag: str | None = None
    progress: Progress | None = None
    into: Receiver | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """Something that was fetched.

    Attributes:
        url: Where it came from, without query.
        content: The bytes; empty when a receiver took them.
        length_bytes: How many there were.
        sha256: Their digest, lower-case hexadecimal.
        is_verified: True when the caller gave a digest, and this is it.
        etag: What to ask with next time; only a hint, never proof.
        source: Whether the first URL, a mirror or a local file gave it.
        attempts: Requests that were made for it, to all sources.
    """

    url: str
    content: bytes = field(repr=False)
    length_bytes: int
    sha256: str
    is_verified: bool = False
    etag: str | None = None
    source: Literal["origin", "mirror", "file"] = "origin"
    attempts: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NotModified:
    """A server says that what the caller has is still current. Only a hint: verify what you have.

    Attributes:
        url: Who says so, without query.
        etag: What was asked with.
        attempts: Requests that were made, to all sources.
    """

    url: str
    etag: str
    attempts: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchFinished:
    """One fetch ended, well or not.

    Attributes:
        url: What was asked for, without query.
        outcome: How it ended.
        source: Which of its sources gave it, None when none did.
        attempts: Requests that were made.
        length_bytes: Of the body that was returned.
        seconds: It took.
        error: The class of the error, such as ``"FetchTimeoutError"``.
        reason: Its sentence.
    """

    url: str
    outcome: Literal["fetched", "not_modified", "failed", "cancelled"]
    source: Literal["origin", "mirror", "file"] | None = None
    attempts: int = 0
    length_bytes: int = 0
    seconds: float = 0.0
    error: str | None = None
    reason: str | None = None
