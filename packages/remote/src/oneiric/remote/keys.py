"""Keys: what signs, what is trusted, and the files they are kept in.

A key is its 32 bytes: two keys are the same when these are, whatever anybody calls them. Its id is the SHA-256 of the
bytes, so that nobody chooses it.
"""

import base64
import binascii
import hashlib
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Never

from nacl import signing

from oneiric.core.errors import ConfigurationError, SignatureError
from oneiric.remote._ed25519 import KEY_BYTES, key_problem, verifies

__all__ = ["PublicKey", "SigningKey", "keygen", "trusted_keys"]

_HEADER: Final = b"oneiric-ed25519-private-key "
_MOST_BYTES: Final = 4096
_PEM: Final = (b"-----BEGIN PRIVATE KEY-----", b"-----END PRIVATE KEY-----")
#: What DER puts before the 32 bytes of an Ed25519 key (RFC 8410, section 7).
_DER: Final = bytes.fromhex("302e020100300506032b657004220420")


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 public key that may be trusted.

    Attributes:
        raw: Its 32 bytes.

    Raises:
        SignatureError: The bytes are no canonical encoding of a key, or a key of small order.
    """

    raw: bytes

    def __post_init__(self) -> None:
        if problem := key_problem(self.raw):
            raise SignatureError(f"public key {self.raw[:8].hex()}… {problem}", "a key that `manifest keygen` wrote")

    @classmethod
    def from_base64(cls, text: str) -> "PublicKey":
        """Read the base64 of 32 bytes.

        Raises:
            SignatureError: It is not canonical base64, or no key that may be trusted.
        """
        try:
            raw = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
        except (ValueError, UnicodeEncodeError):
            raw = b""
        if base64.b64encode(raw).decode() != text or not raw:
            raise SignatureError(f"public key {text[:60]!r} is not the base64 of 32 bytes")
        return cls(raw)

    @cached_property
    def key_id(self) -> str:
        """The SHA-256 of its bytes, in hexadecimal."""
        return hashlib.sha256(self.raw).hexdigest()

    @property
    def base64(self) -> str:
        """Its bytes in base64: how documents and settings state it."""
        return base64.b64encode(self.raw).decode()

    def verifies(self, signature: bytes, *message: bytes) -> bool:
        """Tell whether *signature* is this key's signature of a message, stated whole or in parts."""
        return verifies(self.raw, signature, *message)

    def __repr__(self) -> str:
        return f"PublicKey({self.base64!r})"


class SigningKey:
    """An Ed25519 private key. It never prints, pickles or copies its bytes."""

    __slots__ = ("_key", "public")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != KEY_BYTES:
            raise SignatureError(f"a private key has {KEY_BYTES} bytes, not {len(seed)}")
        self._key = signing.SigningKey(seed)
        self.public = PublicKey(bytes(self._key.verify_key))

    @classmethod
    def generate(cls) -> "SigningKey":
        """Make a new key from the system's randomness."""
        return cls(os.urandom(KEY_BYTES))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "SigningKey":
        """Read a key file: what `write` wrote, 32 raw bytes, their base64, or an unencrypted PEM.

        Raises:
            ConfigurationError: It cannot be read, is no regular file, others may read it, or it holds no key.
        """
        content = _private_bytes(Path(path))
        if len(content) == KEY_BYTES:
            return cls(content)
        text = content.removeprefix(_HEADER).strip()
        if text.startswith(_PEM[0]):
            text = b"".join(text.removeprefix(_PEM[0]).removesuffix(_PEM[1]).split())
        with suppress(ValueError):
            decoded = binascii.a2b_base64(text, strict_mode=True).removeprefix(_DER)
            if len(decoded) == KEY_BYTES:
                return cls(decoded)
        raise ConfigurationError(f"{path} holds no private key", "a file that `oneiric manifest keygen` wrote")

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the key to a new file of mode 0600, and its name to the disk.

        Raises:
            ConfigurationError: There is such a file; a key is never overwritten. Or it cannot be written.
        """
        target = Path(path)
        try:
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileExistsError as error:
            raise ConfigurationError(f"{target} exists, and a key is never overwritten", "another name") from error
        except OSError as error:
            raise ConfigurationError(f"{target} cannot be written: {error.strerror or error}") from error
        with os.fdopen(descriptor, "wb") as file:
            file.write(_HEADER + base64.b64encode(bytes(self._key)) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of the signature."""
        return self._key.sign(message).signature

    def __repr__(self) -> str:
        return f"<SigningKey of {self.public.base64}>"

    def __reduce__(self) -> Never:
        raise TypeError("a SigningKey does not pickle or copy: it would leave its file")


def keygen(path: str | os.PathLike[str]) -> PublicKey:
    """Make a key, write it to *path* (mode 0600, never overwriting) and its public half to ``path.pub``.

    Raises:
        ConfigurationError: One of the two exists, or cannot be written.
    """
    public_path = Path(f"{os.fspath(path)}.pub")
    if public_path.exists():
        raise ConfigurationError(f"{public_path} exists, and a key is never overwritten", "another name")
    key = SigningKey.generate()
    key.write(path)
    with public_path.open("x", encoding="ascii") as file:
        file.write(f"{key.public.base64}\n")
    return key.public


def trusted_keys(environ: Mapping[str, str]) -> tuple[PublicKey, ...]:
    """Read ``ONEIRIC_TRUSTED_PUBLIC_KEYS``: base64 keys, separated by commas; absent or empty is none.

    Raises:
        ConfigurationError: An entry is no key, or a key that must not be trusted.
    """
    found: dict[bytes, PublicKey] = {}
    for entry in environ.get("ONEIRIC_TRUSTED_PUBLIC_KEYS", "").split(","):
        if text := entry.strip():
            try:
                key = PublicKey.from_base64(text)
            except SignatureError as error:
                raise ConfigurationError(f"ONEIRIC_TRUSTED_PUBLIC_KEYS: {error.message}", error.hint) from error
            found[key.raw] = key
    return tuple(found.values())


def _private_bytes(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(f"key file {path} cannot be read: {error.strerror or error}") from error
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise ConfigurationError(f"key file {path} is not a regular file")
        if mode & 0o077:
            raise ConfigurationError(f"key file {path} may be read or written by others", f"chmod 600 {path}")
        return os.read(descriptor, _MOST_BYTES)
    finally:
        os.close(descriptor)
