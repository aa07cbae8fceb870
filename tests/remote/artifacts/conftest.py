"""No test of artifacts sees what another one mounted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from oneiric.remote._artifact_import import unmount
from oneiric.remote.artifacts import mounted_artifacts


@pytest.fixture(autouse=True)
def nothing_stays_mounted() -> Iterator[None]:
    yield
    for each in mounted_artifacts():
        unmount(each)
