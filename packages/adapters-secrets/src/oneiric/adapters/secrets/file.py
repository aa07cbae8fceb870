"""Files as a source of secrets: one JSON or TOML document, or a directory with one file for each.

A directory is what Docker and Kubernetes mount: the id ``db/password`` is the file ``db/password`` below it, and its
content is the secret, less one trailing line end. Files are judged and read by one open descriptor
(`oneiric.adapters.secrets._opening`), in a thread: a mounted volume may hang.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from oneiric.adapters.secrets._documents import parse_document
from oneiric.adapters.secrets._ids import check_id, check_ids, closed, is_id
from oneiric.adapters.secrets._opening import Permissions, Signature, open_directory, open_file
from oneiric.core import Secret
from oneiric.core.errors import ConfigurationError, UnavailableError

__all__ = ["FileSecretAdapter", "FileSecretSettings"]

#: A file changed less than this ago may change again without its times telling: it is read anew at every access.
_SETTLED_NS: Final = 2_000_000_000
_MAX_DEPTH: Final = 16
_MAX_FILES: Final = 10_000


class FileSecretSettings(BaseModel):
    """Settings of files as a source of secrets.

    Attributes:
        path: A document, or a directory with one file for each secret.
        format: ``auto`` is ``directory`` for a directory, ``toml`` for a name that ends so, else ``json``.
        reload_on_access: Whether a document is read at every access; else, when its file has changed.
        permissions: What to do with a file that others than its owner may read, or that is neither this user's nor
            root's: ``refuse`` it, ``warn`` in the log, or ``allow``. One that anybody may write is always refused.
        max_bytes: The largest file that is read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    format: Literal["auto", "json", "toml", "directory"] = "auto"
    reload_on_access: bool = False
    permissions: Permissions = "refuse"
    max_bytes: int = Field(default=1024 * 1024, ge=1, le=64 * 1024 * 1024)


class FileSecretAdapter:
    """Give out what stands in files as secrets.

    Nothing is served from a file that is not fit to be read now: a document that turned malformed, or open to others,
    is an error until it is put right.

    Args:
        settings: Where the files are.
        wall_clock_ns: Nanoseconds since the epoch, as files are dated.
    """

    def __init__(self, settings: FileSecretSettings, *, wall_clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._settings = settings
        self._path = os.fspath(settings.path)
        self._now = wall_clock_ns
        self._document: tuple[Signature, dict[str, Secret]] | None = None
        self._is_open = self._was_open = False

    async def init(self) -> None:
        """Open it: a document is read, a directory looked into. A closed one stays closed.

        Raises:
            ConfigurationError: The file is refused or malformed.
            UnavailableError: It is missing or cannot be read.
        """
        self._is_open = not self._was_open or self._is_open
        self._was_open = True
        self._check_open()
        await asyncio.to_thread(self._names)

    async def health(self) -> bool:
        """Read again what can be read without knowing an id; raises what is wrong with it."""
        self._check_open()
        await asyncio.to_thread(self._names)
        return True

    async def cleanup(self) -> None:
        """Forget what was read; every later call raises `InactiveError`."""
        self._is_open = False
        self._document = None

    async def get_secret(self, secret_id: str) -> Secret | None:
        """Return the secret, or None when there is no such file or entry, or it is empty."""
        self._check_open()
        return await asyncio.to_thread(self._read, check_id(secret_id))

    async def list_secrets(self) -> tuple[str, ...]:
        """Return the ids there are, sorted. Files whose names are no ids are left out."""
        self._check_open()
        return await asyncio.to_thread(self._names)

    async def invalidate_cache(self, ids: Iterable[str] | None = None) -> None:
        """Forget the document, whichever *ids* are named; of a directory nothing is ever kept."""
        self._check_open()
        check_ids(ids)
        self._document = None

    def _kind(self) -> Literal["json", "toml", "directory"]:
        named = self._settings.format
        if named != "auto":
            return named
        if Path(self._path).is_dir():
            return "directory"
        return "toml" if self._path.endswith(".toml") else "json"

    def _read(self, secret_id: str) -> Secret | None:
        kind = self._kind()
        return self._member(secret_id) if kind == "directory" else self._entries(kind).get(secret_id)

    def _names(self) -> tuple[str, ...]:
        kind = self._kind()
        if kind != "directory":
            return tuple(sorted(self._entries(kind)))
        with open_directory(self._path):
            return tuple(sorted(_walk(self._path)))

    def _member(self, secret_id: str) -> Secret | None:
        shown = f"{self._path}/{secret_id}"
        with (
            open_directory(self._path) as directory,
            open_file(directory, secret_id, shown, self._settings.permissions) as file,
        ):
            if file is None:
                return None
            text = _text(file.read(self._settings.max_bytes))
        if text is None:
            raise ConfigurationError("is not UTF-8", "text, such as base64 of binary keys", shown)
        value = text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text
        return Secret(value) if value else None

    def _entries(self, kind: Literal["json", "toml"]) -> dict[str, Secret]:
        parent, name = os.path.split(self._path)
        with (
            open_directory(parent or ".") as directory,
            open_file(directory, name, self._path, self._settings.permissions) as file,
        ):
            if file is None:
                raise UnavailableError(f"there is no secrets file {self._path}", "create it, or set path")
            kept = self._document
            if kept is not None and kept[0] == file.signature and not self._settings.reload_on_access:
                return kept[1]
            data = file.read(self._settings.max_bytes)
            is_settled = abs(self._now() - file.modified_at) > _SETTLED_NS
            signature = file.signature
        entries = parse_document(data, kind, self._path)
        self._document = (signature, entries) if is_settled else None
        return entries

    def _check_open(self) -> None:
        if not self._is_open:
            raise closed("file", was_open=self._was_open)

    def __repr__(self) -> str:
        return f"<FileSecretAdapter {self._path}>"


def _text(data: bytes) -> str | None:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:  # it keeps the bytes it could not read: not to be passed on
        return None


def _walk(path: str) -> list[str]:
    """Return the names of the files below a directory that may be ids, as `get_secret` would find them."""
    found: list[str] = []
    waiting = [("", 0)]
    try:
        while waiting:
            prefix, depth = waiting.pop()
            with os.scandir(Path(path, prefix)) as entries:
                for entry in entries:
                    secret_id = f"{prefix}{entry.name}"
                    if not is_id(secret_id):
                        continue
                    # A link is looked through only at the top, where Kubernetes puts them.
                    if entry.is_dir(follow_symlinks=not prefix):
                        if depth < _MAX_DEPTH:
                            waiting.append((f"{secret_id}/", depth + 1))
                    elif entry.is_file(follow_symlinks=not prefix):
                        found.append(secret_id)
                    if len(found) > _MAX_FILES:
                        raise ConfigurationError(f"holds more than {_MAX_FILES} files", "a directory of its own", path)
    except OSError as error:
        raise UnavailableError(f"directory of secrets {path} cannot be listed: {error.strerror}") from error
    return found
