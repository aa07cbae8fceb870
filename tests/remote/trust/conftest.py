"""A publisher and a client that has synced once, for the tests of trust."""

from __future__ import annotations

import pytest
from tests.remote.conftest import entry
from tests.remote.trust.clients import Client, Clock

from oneiric.remote.testing import RepositorySimulator


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def repository(clock: Clock) -> RepositorySimulator:
    made = RepositorySimulator(now=clock, thresholds={"manifest": 2})
    made.publish([entry()])
    return made


@pytest.fixture
def client(repository: RepositorySimulator, clock: Clock) -> Client:
    made = Client(repository, clock)
    made.sync()
    return made


@pytest.fixture
def delegated(repository: RepositorySimulator, clock: Clock) -> Client:
    repository.delegate("partner", ("adapter", "partner"))
    repository.delegate("rival", ("adapter", "rival"), ("task", ""))
    client = Client(repository, clock)
    repository.rotate()
    repository.publish([entry()])
    repository.publish_for("partner", [entry(key="partner.cache", factory="partner.cache:Cache")])
    client.sync()
    return client
