"""What a failure of nats-py means in Oneiric's terms. Only classes and the server's error code are looked at."""

import ssl
from typing import Final

from nats import errors as vendor
from nats.js import errors as jetstream

from oneiric.core.errors import (
    AdapterError,
    AdapterTimeoutError,
    AuthenticationError,
    RejectedError,
    UnavailableError,
)

__all__ = ["FAILURES", "adapter_error"]

#: What an operation may raise: nats-py's own, and the system's while connecting (a TimeoutError is an OSError).
FAILURES = (vendor.Error, OSError)

_CREDENTIALS = (vendor.AuthorizationError, vendor.InvalidUserCredentialsError)
_TLS = (ssl.SSLError, vendor.SecureConnWantedError, vendor.SecureConnRequiredError, vendor.SecureConnFailedError)
_NO_JETSTREAM = (vendor.NoRespondersError, jetstream.NoStreamResponseError, jetstream.ServiceUnavailableError)
_UNREACHABLE = (
    vendor.NoServersError,
    vendor.ConnectionClosedError,
    vendor.ConnectionDrainingError,
    vendor.ConnectionReconnectingError,
    vendor.OutboundBufferLimitError,
    vendor.StaleConnectionError,
    OSError,
)
#: What was raised → what it is, what was found, what to try; the first that fits.
_MEANINGS: Final[tuple[tuple[tuple[type[BaseException], ...], type[AdapterError], str, str | None], ...]] = (
    (_TLS, UnavailableError, "does not agree with us on TLS", "tls and tls_ca_certs"),
    (_NO_JETSTREAM, UnavailableError, "does not answer for the stream", "JetStream on, and the stream there"),
    (_UNREACHABLE, UnavailableError, "cannot be reached", "servers and tls"),
    ((vendor.MaxPayloadError,), RejectedError, "takes no message of this size", "a smaller one"),
    ((jetstream.ServerError,), UnavailableError, "cannot take this now", None),
    ((jetstream.APIError,), RejectedError, "refused the request", None),
)


def adapter_error(error: BaseException, place: str, seconds: float) -> AdapterError:
    """Return what to raise for *error* of the servers at *place*; raise it from *error*.

    Args:
        error: One of `FAILURES`.
        place: Hosts and ports; never with credentials.
        seconds: The deadline in force.
    """
    where = f"nats at {place}"
    # Told by a text: the server's word for it has no class of its own.
    if isinstance(error, _CREDENTIALS) or "authorization violation" in str(error).lower():
        return AuthenticationError(f"{where} did not accept the credentials", "servers, username, password and token")
    if isinstance(error, vendor.TimeoutError | TimeoutError):
        return AdapterTimeoutError(f"{where} did not answer within {seconds:g} s", "a longer request_timeout")
    for classes, kind, found, hint in _MEANINGS:
        if isinstance(error, classes):
            return kind(f"{where} {found} ({_detail(error)})", hint)
    return AdapterError(f"{where} failed ({type(error).__name__})")


def _detail(error: BaseException) -> str:
    code = getattr(error, "err_code", None)
    return type(error).__name__ if code is None else f"error {code}"
