"""The judgement on a status line and headers: is this the answer that was asked for?"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

from oneiric.core.errors import DigestError, FetchRefusedError, FetchStatusError
from oneiric.remote._fetch_body import check_length
from oneiric.remote._fetch_policy import FetchLimits
from oneiric.remote._fetch_values import Wanted

__all__ = ["Answer", "is_etag", "judge", "retry_after"]

_ETAG = re.compile(r'(?:W/)?"[!#-~]{0,256}"\Z')
_DIGITS = re.compile(r"[0-9]{1,20}\Z")
_HINTS: Final = {
    401: "a credential for this origin, or a fresh one",
    403: "a credential for this origin, or a fresh one",
    404: "the URL; or publish it first",
    407: "a proxy that lets this host in",
    429: "again later",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the headers of a good answer say.

    Attributes:
        is_modified: False when the server says that the caller has it already.
        length_bytes: Of the body, or None where the headers do not say.
        etag: What to ask with next time.
    """

    is_modified: bool = True
    length_bytes: int | None = None
    etag: str | None = None


def is_etag(text: str) -> bool:
    """Say whether *text* has the form of an entity tag, and so may be sent and kept."""
    return bool(_ETAG.match(text))


def judge(
    status: int, raw: Sequence[tuple[bytes, bytes]], *, wanted: Wanted, limits: FetchLimits, shown: str, now: float
) -> Answer:
    """Return what the headers say, if this is an answer to use.

    Args:
        status: The HTTP status.
        raw: The header lines.
        wanted: What was asked for.
        limits: Of the header section.
        shown: Where the answer comes from, for sentences.
        now: Seconds since the epoch, for a ``Retry-After`` that is a date.

    Raises:
        FetchStatusError: The status is not 200, nor 304 to a question with an entity tag.
        FetchRefusedError: The header section is too large, the body is encoded or a web page, or its framing is
            ambiguous, or it is larger than the limit.
        DigestError: It says that it has another length than expected.
    """
    size = sum(len(name) + len(value) + 4 for name, value in raw)
    if len(raw) > limits.max_headers or size > limits.max_header_bytes:
        raise FetchRefusedError(
            f"{shown} answered with {len(raw)} headers of {size} bytes: at most {limits.max_headers} of "
            f"{limits.max_header_bytes} bytes are read"
        )
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip()
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    if status == 304 and wanted.etag is not None:
        return Answer(is_modified=False)
    if status != 200:
        raise _not_what_was_asked(status, headers, shown, now)
    _check_form(headers, shown)
    length = headers.get("content-length", "")
    length_bytes = int(length) if _DIGITS.match(length) else None
    if length_bytes is not None:
        check_length(wanted, shown, length_bytes)
        if wanted.expected_bytes is not None and length_bytes < wanted.expected_bytes:
            raise DigestError(f"{shown} has {length_bytes} bytes: {wanted.expected_bytes} were expected")
    etag = headers.get("etag", "")
    return Answer(length_bytes=length_bytes, etag=etag if is_etag(etag) else None)


def _check_form(headers: dict[str, str], shown: str) -> None:
    encoding = headers.get("content-encoding", "identity").lower()
    if encoding not in {"", "identity"}:
        raise FetchRefusedError(f"{shown} answered with content encoding {encoding!r:.40}: only identity was asked for")
    if "transfer-encoding" in headers and "content-length" in headers:
        raise FetchRefusedError(f"{shown} answered with both a length and a transfer encoding: they can disagree")
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media in {"text/html", "application/xhtml+xml"}:
        raise FetchRefusedError(
            f"{shown} answered with a web page ({media})", "a browser: a network may ask you to log in first"
        )


def _not_what_was_asked(status: int, headers: dict[str, str], shown: str, now: float) -> FetchStatusError:
    if status in {301, 302, 303, 307, 308}:
        target = headers.get("location", "").partition("?")[0]
        return FetchStatusError(
            f"{shown} answered {status} to {target!r:.120}: redirects are not followed",
            "that URL, if it is right",
            status,
        )
    if status == 304:
        return FetchStatusError(f"{shown} answered 304 (not modified) although nobody asked", None, status)
    seconds = retry_after(headers.get("retry-after"), now)
    wait = "" if seconds is None else f" and asks for {seconds:g} s of peace"
    return FetchStatusError(f"{shown} answered {status}{wait}", _HINTS.get(status), status, seconds)


def retry_after(text: str | None, now: float) -> float | None:
    """Return the seconds that a ``Retry-After`` asks for, given as such or as a date; None where it makes no sense.

    Source: RFC 9110, section 10.2.3.
    """
    if text is None:
        return None
    if _DIGITS.match(text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError, OSError):
        return None
