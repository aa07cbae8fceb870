"""What a failure of redis-py means in Oneiric's terms.

Only classes and a server's error word are looked at: the text of a reply can repeat the command, and so what
was stored.
"""

from redis import exceptions as vendor

from oneiric.core.errors import (
    AdapterError,
    AdapterTimeoutError,
    AuthenticationError,
    RejectedError,
    UnavailableError,
)

__all__ = ["FAILURES", "adapter_error", "has_no_group", "is_dropped"]

#: What an operation may raise: redis-py's own, and the system's while connecting (a TimeoutError is an
#: OSError).
FAILURES = (vendor.RedisError, OSError)

_CREDENTIALS = (vendor.AuthenticationError, vendor.AuthenticationWrongNumberOfArgsError)
_TIMEOUT = (vendor.TimeoutError, TimeoutError)
_UNREACHABLE = (vendor.ConnectionError, OSError)
#: Reachable, and yet of no use: still loading, full, a replica.
_UNABLE = (vendor.BusyLoadingError, vendor.OutOfMemoryError, vendor.ReadOnlyError, vendor.ClusterDownError)


def adapter_error(error: Exception, place: str, socket_timeout: float) -> AdapterError:
    """Return what to raise for *error* of the server at *place*; raise it from *error*.

    Args:
        error: One of `FAILURES`.
        place: Host and port or socket; never with credentials.
        socket_timeout: The deadline in force, in seconds.
    """
    where = f"redis at {place}"
    word = _error_word(error)
    if isinstance(error, _CREDENTIALS) or word in {"NOAUTH", "WRONGPASS"}:
        return AuthenticationError(f"{where} did not accept the credentials", "url, username and password")
    if isinstance(error, _TIMEOUT):
        return AdapterTimeoutError(f"{where} did not answer within {socket_timeout:g} s", "a longer socket_timeout")
    if isinstance(error, _UNABLE) or word in {"OOM", "READONLY", "MISCONF", "MASTERDOWN", "NOREPLICAS"}:
        return UnavailableError(f"{where} cannot take this now ({word or type(error).__name__})")
    if isinstance(error, _UNREACHABLE):
        return UnavailableError(f"{where} cannot be reached ({_reason(error)})", "the url of the settings")
    if isinstance(error, vendor.ResponseError | vendor.DataError):
        return RejectedError(f"{where} refused the command ({word or type(error).__name__})")
    return AdapterError(f"{where} failed ({type(error).__name__})")


def is_dropped(error: Exception) -> bool:
    """Say whether *error* is a connection that broke; not a timeout, and not a server that refuses us."""
    return type(error) is vendor.ConnectionError or isinstance(error, ConnectionResetError | BrokenPipeError)


def has_no_group(error: Exception) -> bool:
    """Say whether the stream, or its consumer group, is not there (any more)."""
    return _error_word(error) == "NOGROUP"


def _error_word(error: Exception) -> str:
    """Return the word a server's error reply begins with, such as ``WRONGTYPE``; empty when it has none."""
    first = str(error).partition(" ")[0]
    return first if isinstance(error, vendor.ResponseError) and first.isalpha() and first.isupper() else ""


def _reason(error: Exception) -> str:
    """Name the system's failure below redis-py's, such as ``ConnectionRefusedError``."""
    below = error.__cause__ or error.__context__
    return type(below if isinstance(below, OSError) else error).__name__
