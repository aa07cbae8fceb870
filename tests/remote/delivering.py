"""A publisher, a client and components in artifacts, for tests of what is applied."""

from __future__ import annotations

import hashlib
import posixpath
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.remote.archives import packed

from oneiric.core.errors import DigestError, FetchStatusError
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Resolver
from oneiric.core.security import FactoryAllowList
from oneiric.remote.apply import Probation
from oneiric.remote.fetch import Fetched, NotModified, Progress
from oneiric.remote.loader import LoaderOptions, RemoteLoader
from oneiric.remote.manifest import FactoryPolicy
from oneiric.remote.testing import RepositorySimulator
from oneiric.remote.trust import TrustRoot

URL = "https://updates.example/acme/manifest.json"
NOW = 1_795_000_000.0
ALLOWED = FactoryPolicy(general=FactoryAllowList(("acme",)))
AT_ONCE = Probation(seconds=0)

COMPONENT = """
# {token}
class Part:
    version = {version!r}
    async def init(self):
        {init}
    async def health(self):
        return {health}
"""


async def nothing(_seconds: float) -> None:
    """Wait for no time at all."""


@dataclass
class Clock:
    """Time that stands still until it is moved."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


class SimulatedFetcher:
    """Answers from a simulated repository, as a server with the published layout would."""

    def __init__(self, repository: RepositorySimulator) -> None:
        self.repository = repository
        self.asked: list[str] = []
        self.broken: dict[str, Exception] = {}

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
        path = urlsplit(url).path
        name = path.removeprefix("/acme/").removesuffix(".json")
        self.asked.append(name)
        for part, error in self.broken.items():
            if part in path:
                raise error
        if (digest := posixpath.basename(posixpath.dirname(path))) in self.repository.artifacts:
            name = f"sha256/{digest}"
        try:
            content = self.repository.fetch(name)
        except KeyError as error:
            raise FetchStatusError(f"{url} answered 404", None, 404) from error
        digest = hashlib.sha256(content).hexdigest()
        if etag == f'"{digest}"':
            return NotModified(url=url, etag=etag)
        if sha256 is not None and digest != sha256:
            raise DigestError(f"{url} has another digest")
        if expected_bytes is not None and len(content) != expected_bytes:
            raise DigestError(f"{url} has another length")
        assert max_bytes is None or len(content) <= max_bytes
        if progress is not None:
            progress(len(content), len(content))
        return Fetched(url=url, content=content, length_bytes=len(content), sha256=digest, etag=f'"{digest}"')


@dataclass
class Publisher:
    """Publishes components in artifacts."""

    clock: Clock = field(default_factory=Clock)
    keys: tuple[str, ...] = ("cache", "queue")

    def __post_init__(self) -> None:
        self.repository = RepositorySimulator(product="acme", now=self.clock)
        self.token = secrets.token_hex()  # no artifact of one test is that of another
        self.fetcher = SimulatedFetcher(self.repository)

    def entry(
        self, key: str, version: str, *, health: str = "True", init: str = "pass", **changes: Any
    ) -> dict[str, Any]:
        code = COMPONENT.format(token=self.token, version=version, health=health, init=init)
        archive = packed({"acme/__init__.py": "", f"acme/{key}.py": code})
        stated = self.repository.add_artifact(archive, f"acme-{key}.zip")
        return {
            "domain": "adapter",
            "key": key,
            "provider": "acme",
            "factory": f"acme.{key}:Part",
            "version": version,
            **stated,
            **changes,
        }

    def publish(self, version: str, **changes: Any) -> bytes:
        return self.repository.publish([self.entry(key, version, **changes) for key in self.keys])


class Client:
    """One process of a consumer."""

    def __init__(self, publisher: Publisher, directory: Path, **options: Any) -> None:
        self._publisher, self.directory = publisher, directory
        self._others: list[Client] = []
        self.resolver = Resolver()
        self.lifecycle = LifecycleManager(self.resolver)
        self.steps: list[str] = []
        options = {"factories": ALLOWED, "probation": AT_ONCE, **options}
        self.loader = RemoteLoader(
            self.resolver,
            self.lifecycle,
            root=TrustRoot.pinned(publisher.repository.roots[0]),
            fetcher=publisher.fetcher,
            cache_dir=directory,
            options=LoaderOptions(**options),
            clock=publisher.clock,
            on_step=self._tell,
        )
        self.on_step: Callable[[str], object] = self.steps.append

    def _tell(self, step: str) -> None:
        self.on_step(step)

    async def version(self, key: str) -> str:
        part = await self.lifecycle.activate("adapter", key)
        version: str = part.version
        return version

    def offered(self, key: str) -> str | None:
        found = self.resolver.get("adapter", key)
        return None if found is None else found.version

    def again(self, **options: Any) -> Client:
        """Return the process that follows this one: it finds on the disk what this one left there."""
        self._others.append(Client(self._publisher, self.directory, **options))
        return self._others[-1]

    async def aclose(self) -> None:
        for each in (self, *self._others):
            await each.lifecycle.aclose()
