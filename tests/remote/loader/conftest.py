"""A publisher and a client of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.remote.delivering import Client, Clock, Publisher

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def publisher() -> Publisher:
    return Publisher(Clock())


@pytest.fixture
def client(publisher: Publisher, tmp_path: Path) -> Client:
    return Client(publisher, tmp_path / "cache")
