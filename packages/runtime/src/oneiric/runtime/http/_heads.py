"""Strict reading of what arrives: one way to frame a request, and bounds on all of it.

Two readers of one byte stream that disagree where a request ends are how requests are smuggled. h11 accepts what the
RFC lets a reader forgive (line ends without CR, folded lines, both framings at once); here that is refused.

Source: RFC 9112, sections 2.2 (line ends), 5.2 (folding), 6.1 and 6.3 (framing), 11.2 (smuggling).
"""

import re
from collections.abc import Callable
from typing import Any, Final

import h11

__all__ = ["StrictConnection"]

_BAD_LINE_END: Final = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|^\n")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_FIRST_LINE: Final = re.compile(rb"[A-Z]{1,20} /[\x21-\x7e]* HTTP/1\.[01]\Z")
_DIGITS: Final = re.compile(rb"[0-9]{1,18}\Z")
_FRAMING: Final = (b"content-length", b"transfer-encoding")


class StrictConnection(h11.Connection):
    """A server's side of an HTTP/1.1 connection.

    Args:
        max_header_bytes: The longest head of a request.
        max_headers: The most header lines.
        max_body_bytes: The longest body.
        on_complete: Called when a request has arrived to its end.

    Attributes:
        refusal: HTTP status and reason of what was refused, once something was.
    """

    def __init__(
        self, *, max_header_bytes: int, max_headers: int, max_body_bytes: int, on_complete: Callable[[], None]
    ) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=max_header_bytes)
        self._most_header_bytes, self._most_headers = max_header_bytes, max_headers
        self._most_body_bytes, self._on_complete = max_body_bytes, on_complete
        self._body_bytes = 0
        self.refusal: tuple[int, str] | None = None

    def next_event(self) -> Any:
        """Return the next event, or refuse.

        Raises:
            h11.RemoteProtocolError: What arrived is no request that is served; `refusal` says why.
        """
        try:
            if self.their_state is h11.IDLE:
                self._check_head(self.trailing_data[0])
            event = super().next_event()
            if isinstance(event, h11.Request):
                self._begin(event)
            elif isinstance(event, h11.Data):
                self._count(len(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self._on_complete()
        except h11.RemoteProtocolError as error:
            if self.refusal is None:
                # What h11 says may repeat what it read: that is not for the answer.
                status = 431 if error.error_status_hint == 431 else 400
                self.refusal = (status, "the head is too long" if status == 431 else "this is no valid HTTP request")
            raise
        return event

    def _refuse(self, status: int, reason: str) -> None:
        self.refusal = (status, reason)
        raise h11.RemoteProtocolError(reason, error_status_hint=status)

    def _check_head(self, data: bytes) -> None:
        """Look at the head as it stands so far; complete or not, it must not be wrong already."""
        if not data:
            return
        end = data.find(b"\r\n\r\n")
        head = data if end < 0 else data[: end + 2]
        if _BAD_LINE_END.search(head) or (end >= 0 and head.endswith(b"\r")):
            self._refuse(400, "a line of the head does not end in CR LF")
        if len(head) > self._most_header_bytes:
            self._refuse(431, f"the head is longer than {self._most_header_bytes} bytes")
        if head.count(b"\r\n") - 1 > self._most_headers:
            self._refuse(431, f"there are more than {self._most_headers} headers")
        if _CONTROL.search(head):
            self._refuse(400, "the head holds a control character")
        if end >= 0:
            self._check_lines(head[:-2].split(b"\r\n"))

    def _check_lines(self, lines: list[bytes]) -> None:
        if not _FIRST_LINE.match(lines[0]):
            self._refuse(400, "the first line is no request for a path in HTTP/1.1")
        if any(line[:1] in {b" ", b"\t"} for line in lines[1:]):
            self._refuse(400, "a header is folded over two lines")
        headers = [
            (name.strip().lower(), value.strip(b" \t")) for name, _, value in (x.partition(b":") for x in lines[1:])
        ]
        framing = [(name, value) for name, value in headers if name in _FRAMING]
        if len(framing) > 1:
            self._refuse(400, "the length of the body is stated twice")
        for name, value in framing:
            if name == b"content-length" and not _DIGITS.match(value):
                self._refuse(400, "the length of the body is no number")
            if name == b"transfer-encoding" and (value.lower() != b"chunked" or lines[0].endswith(b"1.0")):
                self._refuse(400, "the body comes in a form that is not known here")

    def _begin(self, request: h11.Request) -> None:
        self._body_bytes = 0
        for name, value in request.headers:
            if name == b"content-length" and int(value) > self._most_body_bytes:
                self._too_long()

    def _count(self, size: int) -> None:
        self._body_bytes += size
        if self._body_bytes > self._most_body_bytes:
            self._too_long()

    def _too_long(self) -> None:
        self._refuse(413, f"the body is longer than {self._most_body_bytes} bytes")
