"""What the tests of every package share; it imports nothing of Oneiric, so each package's tests run alone.

A test that needs a real service asks for its fixture. Where the service is missing the test is skipped, with the
reason; where ``CI=true`` it fails, because there ``scripts/services`` has run.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, NoReturn

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Callable

IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}

# Deadlines would be timing thresholds. In CI the same examples are drawn every time; elsewhere new ones are looked for.
settings.register_profile("oneiric", deadline=None, derandomize=IN_CI, print_blob=True)
settings.load_profile("oneiric")


@pytest.fixture(scope="session")
def service_missing() -> Callable[[str], NoReturn]:
    """Return what a fixture calls when its service is not there: it skips with the reason, and fails in CI."""

    def missing(reason: str) -> NoReturn:
        if IN_CI:
            pytest.fail(f"{reason} (in CI a missing service is a failure)", pytrace=False)
        pytest.skip(f"{reason}; scripts/services starts it")

    return missing


@pytest.fixture(scope="session")
def redis_url(service_missing: Callable[[str], NoReturn]) -> str:
    """Return the address of a real Redis; ``ONEIRIC_TEST_REDIS_URL`` names another than the local one."""
    given = os.environ.get("ONEIRIC_TEST_REDIS_URL")
    if given:
        return given
    if not _redis_answers("127.0.0.1", 6379):
        service_missing("no Redis answers on 127.0.0.1:6379")
    return "redis://127.0.0.1:6379/0"


@pytest.fixture(scope="session")
def nats_url(service_missing: Callable[[str], NoReturn]) -> str:
    """Return the address of a real NATS server with JetStream; ``ONEIRIC_TEST_NATS_URL`` names another."""
    given = os.environ.get("ONEIRIC_TEST_NATS_URL")
    if given:
        return given
    try:
        with socket.create_connection(("127.0.0.1", 4222), timeout=2) as connection:
            answers = b'"jetstream":true' in connection.recv(4096)
    except OSError:
        answers = False
    if not answers:
        service_missing("no NATS with JetStream answers on 127.0.0.1:4222")
    return "nats://127.0.0.1:4222"


def _redis_answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=2) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
