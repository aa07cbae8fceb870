"""What a source of secrets is: the Protocol every provider satisfies, and the key under which one is found."""

from collections.abc import Iterable
from typing import Final, Protocol, runtime_checkable

from oneiric.core import Key, Secret

__all__ = ["SECRETS", "Secrets"]


@runtime_checkable
class Secrets(Protocol):
    """Give out secrets by their ids.

    **Ids** are up to 256 letters, digits and ``_ . : @ + = -``, in segments divided by ``/``; no segment is empty,
    ``.`` or begins with ``..``. Anything else is refused with `RejectedError`, whether it is there or not.

    **Values** are text, and come as `Secret`. An empty value is no secret: it counts as missing, so that nobody signs
    with an empty key.

    **A miss is not an error**: it is None. An error is raised, always one of Oneiric's and never with a value in it:
    `RejectedError` (the id is wrong), `ConfigurationError` (the source is refused or malformed), `UnavailableError`
    (it cannot be read), `AuthenticationError`, `AdapterTimeoutError`, `InactiveError` (the instance is not
    initialised, or is closed).
    """

    async def get_secret(self, secret_id: str) -> Secret | None:
        """Return the secret, or None when there is none of that id."""

    async def list_secrets(self) -> tuple[str, ...]:
        """Return the ids there are, sorted; each is one that `get_secret` takes. Never a value."""

    async def invalidate_cache(self, ids: Iterable[str] | None = None) -> None:
        """Forget what was read of *ids*, or of all: the next answer is read from the source."""


SECRETS: Final[Key[Secrets]] = Key("adapter", "secrets")
