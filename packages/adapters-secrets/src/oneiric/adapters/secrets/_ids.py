"""The one grammar of ids, so that swapping a provider for another cannot change which ids may be asked for."""

import re
from collections.abc import Iterable
from typing import Final

from oneiric.core.errors import InactiveError, RejectedError

__all__ = ["MAX_ID_CHARACTERS", "check_id", "check_ids", "closed", "is_id"]

MAX_ID_CHARACTERS: Final = 256
# ".dockerconfigjson" is a key that Kubernetes itself writes; "..data" is where it keeps its versions.
_SEGMENT: Final = r"(?!\.\.)(?!\.(?:/|\Z))[A-Za-z0-9_.:@+=-]+"
_ID: Final = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*\Z")


def is_id(text: object) -> bool:
    """Say whether *text* may be the id of a secret."""
    return isinstance(text, str) and len(text) <= MAX_ID_CHARACTERS and _ID.match(text) is not None


def check_id(secret_id: object) -> str:
    """Return the id.

    Raises:
        RejectedError: It is none.
    """
    if isinstance(secret_id, str) and is_id(secret_id):
        return secret_id
    # Whoever confuses an id with a value would otherwise read the value here.
    kind = f"of {len(secret_id)} characters" if isinstance(secret_id, str) else f"of type {type(secret_id).__name__}"
    raise RejectedError(
        f"the id of a secret {kind} is malformed",
        f"letters, digits and _ . : @ + = - in segments divided by /, at most {MAX_ID_CHARACTERS} characters",
    )


def check_ids(ids: Iterable[str] | None) -> frozenset[str] | None:
    """Return the ids as a set; None stands for all of them.

    Raises:
        RejectedError: One is malformed, or *ids* is a single string.
    """
    if isinstance(ids, str):
        raise RejectedError("ids of secrets are given as a list, not as one string", f"[{'id'!r}]")
    return None if ids is None else frozenset(check_id(one) for one in ids)


def closed(provider: str, *, was_open: bool) -> InactiveError:
    """Return the error of an instance that is not open."""
    found = "is closed" if was_open else "is not initialised"
    return InactiveError(f"secrets provider {provider!r} {found}", "lease it from the lifecycle, or await init()")
