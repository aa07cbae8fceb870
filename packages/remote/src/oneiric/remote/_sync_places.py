"""Where a publisher's documents lie: on the network, or in a local directory that an operator named.

Beside ``manifest.json`` lie ``freshness.json``, ``root/2.json``, ``root/3.json``… and ``publisher/NAME.json``.
"""

import asyncio
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote, urljoin, urlsplit

from oneiric.core.errors import FetchError, FetchRefusedError, FetchStatusError
from oneiric.remote._fetch_values import Fetched, NotModified

__all__ = ["Fetcher", "LocalPlace", "NetworkPlace", "Place", "is_network", "place_at"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_MAX_DOCUMENT_BYTES: Final = 4 * 1024 * 1024
#: What servers answer where there is no such thing; some object stores say 403.
_ABSENT: Final = frozenset({403, 404, 410})


class Fetcher(Protocol):
    """Gets bytes from elsewhere, within a policy; such as `oneiric.remote.fetch.SafeFetcher`."""

    async def fetch(
        self,
        url: str,
        *,
        expected_bytes: int | None = None,
        max_bytes: int | None = None,
        sha256: str | None = None,
        etag: str | None = None,
    ) -> Fetched | NotModified:
        """Return what was fetched, or that it did not change.

        Raises:
            FetchError: It could not be had.
            DigestError: It is not what was expected.
        """


class Place(Protocol):
    """Where the documents of one manifest are read from."""

    @property
    def source(self) -> str:
        """What reports call it."""

    async def manifest(self, max_bytes: int, *, digest: str | None = None, known: bool = False) -> bytes | None:
        """Return the manifest; None when it is still the one that was read last, and *known* says that it is held."""

    async def document(self, name: str, max_bytes: int = _MAX_DOCUMENT_BYTES, *, digest: str | None = None) -> bytes:
        """Return a document beside the manifest."""

    async def next_root(self, version: int) -> bytes | None:
        """Return the root of this version; None when there is none."""

    async def artifact(self, uri: str, *, sha256: str, size: int) -> bytes:
        """Return an artifact; whoever asked verifies it."""


def is_network(url: str) -> bool:
    """Tell whether *url* names something that is not a local file."""
    return bool(_SCHEME.match(url)) and not url.lower().startswith("file://")


def place_at(url: str, fetcher: Fetcher | None) -> "Place":
    """Return the place of a manifest.

    Raises:
        FetchRefusedError: It is on the network, and there is no fetcher.
    """
    if not is_network(url):
        return LocalPlace(url, fetcher)
    if fetcher is None:
        raise FetchRefusedError(f"{_shown(url)} is refused: only local files are read here", "a manifest in a file")
    return NetworkPlace(url, fetcher)


class NetworkPlace:
    """Documents on the network.

    Args:
        url: Of the manifest.
        fetcher: Gets them.
    """

    def __init__(self, url: str, fetcher: Fetcher) -> None:
        self.source = _shown(url)
        self._url = url
        self._fetcher = fetcher
        self._etag: str | None = None

    async def manifest(self, max_bytes: int, *, digest: str | None = None, known: bool = False) -> bytes | None:
        """Return the manifest; None when the server says that it is the one that was read last."""
        etag = self._etag if known and digest is None else None
        answer = await self._fetcher.fetch(self._url, max_bytes=max_bytes, sha256=digest, etag=etag)
        if isinstance(answer, NotModified):
            return None
        self._etag = answer.etag
        return answer.content

    async def document(self, name: str, max_bytes: int = _MAX_DOCUMENT_BYTES, *, digest: str | None = None) -> bytes:
        """Return a document beside the manifest."""
        return _content(await self._fetcher.fetch(urljoin(self._url, name), max_bytes=max_bytes, sha256=digest))

    async def next_root(self, version: int) -> bytes | None:
        """Return the root of this version; None when there is none."""
        try:
            return await self.document(f"root/{version}.json")
        except FetchStatusError as error:
            if error.status in _ABSENT:
                return None
            raise

    async def artifact(self, uri: str, *, sha256: str, size: int) -> bytes:
        """Return an artifact; a relative URI lies beside the manifest."""
        return _content(await self._fetcher.fetch(urljoin(self._url, uri), expected_bytes=size, sha256=sha256))


class LocalPlace:
    """Documents in the directory of a manifest that an operator named.

    Args:
        url: The manifest's path, or its ``file://`` URL.
        fetcher: Gets the artifacts that lie elsewhere; None refuses them.
    """

    def __init__(self, url: str, fetcher: Fetcher | None = None) -> None:
        self._path = Path(unquote(urlsplit(url).path) if url.lower().startswith("file://") else url)
        self.source = str(self._path)
        self._fetcher = fetcher

    async def manifest(self, max_bytes: int, *, digest: str | None = None, known: bool = False) -> bytes | None:  # noqa: ARG002 - the port
        """Return the manifest."""
        return await _off_loop(lambda: _read(self._path, max_bytes))

    async def document(self, name: str, max_bytes: int = _MAX_DOCUMENT_BYTES, *, digest: str | None = None) -> bytes:  # noqa: ARG002 - the port
        """Return a document beside the manifest."""
        return await _off_loop(lambda: _read(self._path.parent / name, max_bytes))

    async def next_root(self, version: int) -> bytes | None:
        """Return the root of this version; None when there is none."""
        path = self._path.parent / f"root/{version}.json"
        return await self.document(f"root/{version}.json") if path.exists() else None

    async def artifact(self, uri: str, *, sha256: str, size: int) -> bytes:
        """Return an artifact: a relative path lies below the manifest's directory, anything else is fetched."""
        path = Path(uri)
        if not _SCHEME.match(uri) and not path.is_absolute():
            if ".." in path.parts:
                raise FetchRefusedError(f"artifact {uri!r:.200} is refused: it leaves the manifest's directory")
            return await _off_loop(lambda: _read(self._path.parent / path, size))
        if self._fetcher is None:
            raise FetchRefusedError(f"artifact {uri!r:.200} is refused: only files beside the manifest are read here")
        return _content(await self._fetcher.fetch(uri, expected_bytes=size, sha256=sha256))


def _content(answer: Fetched | NotModified) -> bytes:
    if isinstance(answer, NotModified):
        raise FetchError(f"{answer.url} was not asked whether it changed, and says that it did not", "another mirror")
    return answer.content


async def _off_loop(read: Callable[[], bytes]) -> bytes:
    return await asyncio.to_thread(read)


def _read(path: Path, most_bytes: int) -> bytes:
    """Return a regular file's content."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise FetchRefusedError(f"{str(path)!r} is refused: it is not a regular file")
            data = file.read(most_bytes + 1)
    except OSError as error:
        raise FetchError(f"{str(path)!r} cannot be read: {error.strerror or error}", "the path") from error
    if len(data) > most_bytes:
        raise FetchRefusedError(f"{str(path)!r} is refused: it is longer than {most_bytes} bytes")
    return data


def _shown(url: str) -> str:
    """Return a URL without user, password and query: those may be secrets."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"[:300]
