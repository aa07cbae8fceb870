"""Values as they may be shown: plain JSON, and nothing in it that is a secret or may be one.

What a field of the settings holds is known by its type. What a provider is configured with is known where
its model is; a text of a provider whose model is not known may be anything, and is not shown.
"""

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Final

from pydantic import BaseModel, SecretBytes, SecretStr

from oneiric.core import Secret
from oneiric.runtime.settings._schema import annotation_at, members
from oneiric.runtime.settings._template import SecretTemplate

__all__ = ["MASK", "masked"]

MASK: Final = "***"

_SECRET_TYPES: Final = frozenset({Secret, SecretStr, SecretBytes})
# A word of a name that says the value is secret, unless a later one says that it only tells about the secret.
_SECRET_WORD = re.compile(
    r"apikey|auth|authorization|cookie|credentials?|dsn|keys?|pass|passphrase|passwd|passwords?|pem|private|pwd"
    r"|salt|sas|secrets?|signature|tokens?|webhook"
)
_TELLING_WORD = re.compile(r"bytes|count|field|file|header|id|kind|length|name|path|prefix|seconds|size|ttl|type")
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z0-9]+")
_USER_INFO = re.compile(r"(?<=://)[^/?#\s]*@")
_PARAMETER = re.compile(r"([?&;\s]|\A)([A-Za-z0-9_.-]+)=([^&;#\s]+)")


def masked(value: Any, name: str = "", annotation: Any = Any, *, is_providers: bool = False) -> Any:
    """Return a value as plain JSON, with ``***`` for what must not be seen.

    Args:
        value: A value of the settings.
        name: Its own name, without what stands above it.
        annotation: Its type; ``Any`` where nobody knows it.
        is_providers: Whether it is what a provider is configured with.
    """
    if isinstance(value, BaseModel):
        return {
            inner: masked(getattr(value, inner), inner, field.annotation, is_providers=inner == "provider_settings")
            for inner, field in type(value).model_fields.items()
        }
    if isinstance(value, Mapping):
        return {
            str(inner): masked(below, str(inner), _below(annotation, inner), is_providers=is_providers)
            for inner, below in value.items()
        }
    if isinstance(value, list | tuple):
        return [masked(below, name, _below(annotation, 0), is_providers=is_providers) for below in value]
    return _scalar(value, name, members(annotation), is_providers=is_providers)


def _scalar(value: Any, name: str, kinds: tuple[Any, ...], *, is_providers: bool) -> Any:
    if isinstance(value, SecretTemplate):
        return value.masked
    if value is None or (isinstance(value, bool) and _SECRET_TYPES.isdisjoint(kinds)):
        return value
    is_typed = Any not in kinds
    # The names of our own fields, and of keys and providers in tables of text, are no hint.
    is_hinted = (is_providers or not is_typed) and _is_secret_name(name)
    if isinstance(value, Secret) or not _SECRET_TYPES.isdisjoint(kinds):
        return MASK
    if isinstance(value, int | float):
        return value if is_typed or not is_hinted else MASK
    if is_hinted or (is_providers and not is_typed) or not isinstance(value, str | PurePath):
        return MASK
    return _without_credentials(str(value))


def _below(annotation: Any, name: str | int) -> Any:
    found = annotation_at(annotation, (name,))
    return Any if found is None else found


def _is_secret_name(name: str) -> bool:
    words = [word.lower() for word in _WORD.findall(name)]
    is_secret = any(_SECRET_WORD.fullmatch(word) for word in words)
    return is_secret and not _TELLING_WORD.fullmatch(words[-1])


def _without_credentials(text: str) -> str:
    """Mask user and password of URLs, and parameters whose name says that they are secret."""
    text = _USER_INFO.sub(f"{MASK}@", text)
    return _PARAMETER.sub(lambda found: f"{found[1]}{found[2]}={MASK}" if _is_secret_name(found[2]) else found[0], text)
