"""A client of a publisher in memory: an attack is refused with the error it deserves and leaves state as it was.

After each one the honest update works.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.remote.conftest import NOW

from oneiric.core.errors import ManifestError
from oneiric.remote.envelope import Envelope, sign
from oneiric.remote.keys import SigningKey
from oneiric.remote.testing import RepositorySimulator
from oneiric.remote.trust import ClientPolicy, TrustedManifests, TrustedState, TrustRoot

DAY = 86_400.0
HIGHEST = 2**31 - 1


class Clock:
    """The wall clock of publisher and client alike, moved by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Client:
    """A client across restarts: what it pins, and what it remembers."""

    def __init__(self, repository: RepositorySimulator, clock: Clock, policy: ClientPolicy | None = None) -> None:
        self.repository, self.clock, self.policy = repository, clock, policy
        self.pinned = repository.roots[0]
        self.state = TrustedState()

    def start(self) -> TrustedManifests:
        return TrustedManifests(TrustRoot.pinned(self.pinned), self.policy, state=self.state, now=self.clock())

    def sync(self) -> TrustedManifests:
        """Do what an updater does: newer roots, what is current, the manifest; remember what was accepted."""
        trusted = self.start()
        try:
            for data in self.repository.roots[trusted.root.version :]:
                trusted.update_root(data)
            trusted.update_freshness(self.repository.freshness)
            trusted.update_manifest(self.repository.manifest)
            for publisher, data in self.repository.publishers.items():
                trusted.update_publisher(publisher, data)
        finally:
            self.state = trusted.state
        return trusted


@contextmanager
def refused(client: Client, error: type[ManifestError], match: str) -> Iterator[None]:
    """Expect an error, and that nothing of what is remembered changed."""
    before = client.state
    with pytest.raises(error, match=match) as caught:
        yield
    assert type(caught.value) is error
    assert client.state.as_dict() == before.as_dict()


def rewritten(data: bytes, kind: str, keys: list[SigningKey], **changes: Any) -> bytes:
    """Return a document with changes, signed by *keys*."""
    document = json.loads(Envelope.parse(data).payload)
    return sign(json.dumps({**document, **changes}).encode(), kind, keys).to_bytes()


@contextmanager
def refused_after_freshness(client: Client, error: type[ManifestError], match: str) -> Iterator[None]:
    """As `refused`, where what is current was taken and only the manifest (of the last publisher) was refused."""
    before = list(client.state.manifests.items())[-1]
    with pytest.raises(error, match=match) as caught:
        yield
    assert type(caught.value) is error
    assert list(client.state.manifests.items())[-1] == before
