"""Reasons: the words in which an error of foreign code gets into statuses, events and errors of ours."""

import asyncio
from collections.abc import Callable

from oneiric.core.errors import OneiricError

__all__ = ["Reasons"]

_WITHHELD = "the error behind this is withheld: it shows a secret"


class Reasons:
    """Renders errors, less what a redactor takes out of them.

    Args:
        redact: Text → the same text with secrets masked; by default nothing is.
    """

    __slots__ = ("_redact",)

    def __init__(self, redact: Callable[[str], str] | None = None) -> None:
        self._redact = redact

    def of(self, error: BaseException) -> str:
        """Render an error as the clause that follows a colon."""
        if isinstance(error, asyncio.CancelledError):
            return "it was cancelled"
        # The hint of one of ours goes along beside the reason, not inside it.
        return self.masked(error.message if isinstance(error, OneiricError) else f"{type(error).__name__}: {error}")

    def masked(self, text: str) -> str:
        """Return *text* with secrets masked."""
        return text if self._redact is None else self._redact(text)

    def behind(self, said: BaseException, error: BaseException) -> BaseException | None:
        """Return the cause to chain to *said*: the error, or None where its traceback would show a secret."""
        if self._redact is None:
            return error
        import traceback  # noqa: PLC0415 - only a failure pays for it

        shown = "".join(traceback.format_exception(error)) + repr(error)
        if self._redact(shown) == shown:
            return error
        said.add_note(_WITHHELD)
        return None
