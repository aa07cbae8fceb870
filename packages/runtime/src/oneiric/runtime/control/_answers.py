"""Answers of refusal, turned back into errors."""

from typing import Any, Final

from oneiric.core import errors
from oneiric.core.errors import OneiricError

__all__ = ["error_from_answer"]

#: Types of refusal that are the server's own, and no class of `oneiric.core.errors` → what a caller branches on.
_OF_SERVER: Final = {
    "InvalidRequest": errors.ConfigurationError,
    "Unauthorized": errors.AuthenticationError,
    "Forbidden": errors.AuthenticationError,
    "NotFound": errors.ResolutionError,
}


def error_from_answer(status: int, document: object) -> OneiricError:
    """Return the error an answer of HTTP status *status* stands for, with its message and hint.

    It is an instance of the class the answer names, as far as that exists here, and survives pickling; the fields
    of such a class beside ``message`` and ``hint`` stay with the process that raised it.
    """
    error = document.get("error") if isinstance(document, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return errors.UnavailableError(f"the control API answered {status} without a word")
    kind, hint = error.get("type"), error.get("hint")
    return _rebuilt(str(kind), status, error["message"], hint if isinstance(hint, str) else None)


def _rebuilt(kind: str, status: int, message: str, hint: str | None) -> OneiricError:
    base: Any = getattr(errors, kind, None) if kind in errors.__all__ else None
    base = base or _OF_SERVER.get(kind) or (errors.RejectedError if status < 500 else errors.UnavailableError)
    told = type(base.__name__, (_ToldError, base), {"__module__": base.__module__, "__doc__": base.__doc__})
    rebuilt: OneiricError = told(kind, status, message, hint)
    return rebuilt


class _ToldError(OneiricError):
    """An error as it was told: the message and hint are those of the answer, whatever its class makes of its own."""

    def __init__(self, kind: str, status: int, message: str, hint: str | None) -> None:
        Exception.__init__(self, kind, status, message, hint)

    @property
    def message(self) -> str:
        """What the answer says."""
        return str(self.args[2])

    @property
    def hint(self) -> str | None:
        """What the answer says to try."""
        return None if self.args[3] is None else str(self.args[3])

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, self.args
