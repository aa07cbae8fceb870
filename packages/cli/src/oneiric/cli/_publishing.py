"""What the commands of a publisher share: files, keys, times. `oneiric.remote` is loaded by them alone."""

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oneiric.core.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from oneiric.remote.keys import PublicKey, SigningKey

__all__ = [
    "lifetime_seconds",
    "needs_remote",
    "now",
    "private_keys",
    "public_keys",
    "read_file",
    "whole_number",
    "write_file",
    "written",
]

_MOST_BYTES: Final = 96 * 1024 * 1024
_UNITS: Final = {"m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}
_LIFETIME = re.compile(r"([1-9][0-9]{0,5})([mhdw])\Z")
#: Base64 of 32 bytes.
_KEY = re.compile(r"[A-Za-z0-9+/]{43}=\Z")


def needs_remote() -> None:
    """Refuse a command whose distribution is not installed.

    Raises:
        MissingExtraError: It is not; the hint says what to type.
    """
    if find_spec("oneiric.remote") is None:
        raise MissingExtraError("remote delivery", "oneiric-remote", "oneiric.remote")


def now() -> float:
    """Return the time that documents are issued at, in seconds since the epoch.

    ``SOURCE_DATE_EPOCH`` sets it, so that the same manifest can be packed twice.

    Raises:
        ConfigurationError: The variable is no number.
    """
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if not given:
        return time.time()
    if not given.isdecimal():
        raise ConfigurationError(f"SOURCE_DATE_EPOCH must be seconds since the epoch, not {given[:40]!r}")
    return float(given)


def lifetime_seconds(text: str, option: str = "--expires-in") -> float:
    """Return the seconds of ``30d``, ``12h``, ``45m`` or ``4w``.

    Raises:
        ConfigurationError: It is written otherwise.
    """
    found = _LIFETIME.match(text)
    if found is None:
        raise ConfigurationError(f"{option} must read like 30d, 12h or 4w, not {text[:40]!r}", f"{option} 30d")
    return int(found[1]) * _UNITS[found[2]]


def whole_number(text: str | None, option: str) -> int | None:
    """Return the number of an option, None where it was not given.

    Raises:
        ConfigurationError: It is no number from 1.
    """
    if text is None:
        return None
    if not text.isdecimal() or not int(text):
        raise ConfigurationError(f"{option} must be a number from 1, not {text[:40]!r}", f"{option} 1")
    return int(text)


def read_file(path: str, hint: str = "the path") -> bytes:
    """Return the content of a file that the operator named.

    Args:
        path: The file.
        hint: What to try where it cannot be read.

    Raises:
        ConfigurationError: It cannot be read, or is longer than any document.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}", hint) from error
    if len(data) > _MOST_BYTES:
        raise ConfigurationError(f"{path} is longer than {_MOST_BYTES} bytes")
    return data


def write_file(path: str, data: bytes) -> None:
    """Replace a file: whoever serves it gives out the old one or the new one, never half of either.

    Raises:
        ConfigurationError: It cannot be written; the old one stands.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), 0o644)  # published: a web server reads it
                os.fsync(file.fileno())
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror or error}") from error


def written(path: str, data: bytes) -> dict[str, Any]:
    """Return what is said of a file that was written."""
    return {"path": path, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def private_keys(paths: Iterable[str]) -> "tuple[SigningKey, ...]":
    """Read the keys to sign with.

    Raises:
        ConfigurationError: There is none, or one cannot be read or may be read by others.
    """
    from oneiric.remote.keys import SigningKey  # noqa: PLC0415 - a distribution of its own

    found = tuple(SigningKey.read(path) for path in paths)
    if not found:
        raise ConfigurationError("no key to sign with was named", "--key KEYFILE; oneiric manifest keygen makes one")
    return found


def public_keys(given: Iterable[str]) -> "tuple[PublicKey, ...]":
    """Return public keys, each given as its base64 or as the ``.pub`` file that ``keygen`` wrote.

    Raises:
        ConfigurationError: A file cannot be read.
        SignatureError: It holds no key that may be trusted.
    """
    from oneiric.remote.keys import PublicKey  # noqa: PLC0415 - a distribution of its own

    found: dict[bytes, PublicKey] = {}
    for each in given:
        text = each if _KEY.match(each) else read_file(each).decode("ascii", "replace").strip()
        key = PublicKey.from_base64(text)
        found[key.raw] = key
    return tuple(found.values())
