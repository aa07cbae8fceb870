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
from urllib.parse import urljoin, urlsplit

from oneiric.core.errors import FetchError, FetchRefusedError, FetchStatusError
from oneiric.remote._fetch_files import local_path
from oneiric.remote._fetch_values import Fetched, NotModified, Progress
from oneiric.remote._manifest_body import MAX_MANIFEST_BYTES

__all__ = ["Downloading", "Fetcher", "LocalPlace", "NetworkPlace", "Place", "is_network", "place_at"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_MOST_NAME: Final = 80
_MAX_DOCUMENT_BYTES: Final = 4 * 1024 * 1024
#: What servers answer where there is no such thing; some object stores say 403.
_ABSENT: Final = frozenset({403, 404, 410})

#: Told the name of what is downloaded, the bytes of it that have arrived, and how many were signed for.
type Downloading = Callable[[str, int, int], object]


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
        progress: Progress | None = None,
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

    async def manifest(self, max_bytes: int, *, digest: str | None = None, held: str | None = None) -> bytes | None:
        """Return the manifest; None when it is still the one that is held.

        Args:
            max_bytes: The most it may have; with a *digest*, what it must have.
            digest: Which one is asked for; by default whichever there is.
            held: Digest of the one that is held, None without one.

        Raises:
            DigestError: What came is not what was asked for.
        """

    async def document(self, name: str, max_bytes: int = _MAX_DOCUMENT_BYTES, *, digest: str | None = None) -> bytes:
        """Return a document beside the manifest."""

    async def next_root(self, version: int) -> bytes | None:
        """Return the root of this version; None when there is none."""

    async def artifact(self, uri: str, *, sha256: str, size: int) -> bytes:
        """Return an artifact; whoever asked verifies it."""


def is_network(url: str) -> bool:
    """Tell whether *url* names something that is not a local file."""
    return bool(_SCHEME.match(url)) and not url.lower().startswith("file://")


def place_at(url: str, fetcher: Fetcher | None, on_download: Downloading | None = None) -> "Place":
    """Return the place of a manifest.

    Args:
        url: Of the manifest, or its path.
        fetcher: Gets what is on the network; None reads local files only.
        on_download: Told how downloads go on whose length was signed for.

    Raises:
        FetchRefusedError: It is on the network, and there is no fetcher; or it is malformed.
    """
    if not is_network(url):
        return LocalPlace(url, fetcher, on_download)
    if fetcher is None:
        raise FetchRefusedError(f"{_shown(url)} is refused: only local files are read here", "a manifest in a file")
    return NetworkPlace(url, fetcher, on_download)


class NetworkPlace:
    """Documents on the network.

    Args:
        url: Of the manifest.
        fetcher: Gets them.
        on_download: Told how downloads go on whose length was signed for.
    """

    def __init__(self, url: str, fetcher: Fetcher, on_download: Downloading | None = None) -> None:
        self.source = _shown(url)
        self._url = url
        self._fetcher = fetcher
        self._on_download = on_download
        #: Of the manifest that was read last, and its digest: it need not be the one that came in force.
        self._etag: tuple[str | None, str] = (None, "")

    async def manifest(self, max_bytes: int, *, digest: str | None = None, held: str | None = None) -> bytes | None:
        """Return the manifest; None when the server says that it is the one that is held."""
        etag = self._etag[0] if held == self._etag[1] and digest is None else None
        if digest is None:
            answer = await self._fetcher.fetch(self._url, max_bytes=max_bytes, etag=etag)
        else:
            progress = _progress(self._on_download, self._url, max_bytes)
            answer = await self._fetcher.fetch(self._url, expected_bytes=max_bytes, sha256=digest, progress=progress)
        if isinstance(answer, NotModified):
            return None
        self._etag = (answer.etag, answer.sha256)
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
        try:
            url = urljoin(self._url, uri)
        except ValueError as error:
            raise FetchRefusedError(f"artifact {uri!r:.200} is refused: it is malformed: {error}") from error
        return await _artifact(self._fetcher, url, sha256, size, self._on_download)


class LocalPlace:
    """Documents in the directory of a manifest that an operator named.

    Args:
        url: The manifest's path, or its ``file://`` URL.
        fetcher: Gets the artifacts that lie elsewhere; without it they are looked for in ``sha256/`` by their digest.
        on_download: Told how their downloads go on.
    """

    def __init__(self, url: str, fetcher: Fetcher | None = None, on_download: Downloading | None = None) -> None:
        self._path = local_path(url) or Path(url)
        self.source = str(self._path)
        self._fetcher = fetcher
        self._on_download = on_download

    async def manifest(self, max_bytes: int, *, digest: str | None = None, held: str | None = None) -> bytes | None:  # noqa: ARG002 - the port
        """Return the manifest; one of another length than is current is read to be told from that by its digest."""
        return await _off_loop(lambda: _read(self._path, max_bytes if digest is None else MAX_MANIFEST_BYTES))

    async def document(self, name: str, max_bytes: int = _MAX_DOCUMENT_BYTES, *, digest: str | None = None) -> bytes:  # noqa: ARG002 - the port
        """Return a document beside the manifest."""
        return await _off_loop(lambda: _read(self._path.parent / name, max_bytes))

    def holds(self, name: str) -> bool:
        """Tell whether there is a document of that name beside the manifest."""
        return (self._path.parent / name).exists()

    async def next_root(self, version: int) -> bytes | None:
        """Return the root of this version; None when there is none."""
        name = f"root/{version}.json"
        return await self.document(name) if self.holds(name) else None

    async def artifact(self, uri: str, *, sha256: str, size: int) -> bytes:
        """Return an artifact: a relative path lies below the manifest's directory, anything else is fetched.

        Where nothing is fetched, it may lie below that directory under its digest: one signed manifest serves those who
        fetch its artifacts, and those who were shipped with them.
        """
        path = Path(uri)
        if not _SCHEME.match(uri) and not path.is_absolute():
            if ".." in path.parts:
                raise FetchRefusedError(f"artifact {uri!r:.200} is refused: it leaves the manifest's directory")
            return await _off_loop(lambda: _read(self._path.parent / path, size))
        if self._fetcher is None:
            by_digest = self._path.parent / "sha256" / sha256
            if not by_digest.exists():
                what = f"artifact {uri!r:.200} is refused: only files beside the manifest are read here"
                raise FetchRefusedError(what, f"the same file as {by_digest}")
            return await _off_loop(lambda: _read(by_digest, size))
        return await _artifact(self._fetcher, uri, sha256, size, self._on_download)


async def _artifact(fetcher: Fetcher, url: str, sha256: str, size: int, on_download: Downloading | None) -> bytes:
    progress = _progress(on_download, url, size)
    return _content(await fetcher.fetch(url, expected_bytes=size, sha256=sha256, progress=progress))


def _progress(on_download: Downloading | None, url: str, signed_bytes: int) -> Progress | None:
    """Return what tells *on_download* of one fetch, under the last part of its URL: queries may be secrets."""
    if on_download is None:
        return None
    name = re.split("[?#]", url, maxsplit=1)[0].rpartition("/")[2][:_MOST_NAME]
    return lambda received_bytes, _stated: on_download(name, received_bytes, signed_bytes)


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
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise FetchRefusedError(f"{str(path)!r} is refused: it is not a regular file")
            # A signed size may be any number: no more is made room for than there is.
            data = file.read(min(most_bytes, found.st_size) + 1)
    except OSError as error:
        raise FetchError(f"{str(path)!r} cannot be read: {error.strerror or error}", "the path") from error
    except ValueError as error:  # a NUL
        raise FetchRefusedError(f"{str(path)!r} is refused: it is no path: {error}") from error
    if len(data) > min(most_bytes, found.st_size):
        raise FetchRefusedError(f"{str(path)!r} is refused: it is longer than {most_bytes} bytes, or still grows")
    return data


def _shown(url: str) -> str:
    """Return a URL without user, password and query: those may be secrets.

    Raises:
        FetchRefusedError: It is malformed.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise FetchRefusedError(f"the manifest's URL is malformed: {error}", "remote.manifest_url") from error
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"[:300]
