"""The model of a component's settings: from the artifact that was signed, or from an installed distribution."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from tests.remote.archives import packed
from tests.remote.delivering import URL, Client, Publisher

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "from pydantic import BaseModel\n\n\nclass Settings(BaseModel):\n    pass\n"


async def offered_with(publisher: Publisher, client: Client, model: str, more: dict[str, str]) -> tuple[bool, str]:
    """Return whether an entry with this model is taken, and why it is not."""
    files = {"acme/__init__.py": "", "acme/cache.py": f"class Part:\n    version = {publisher.token!r}\n", **more}
    stated = publisher.repository.add_artifact(packed(files))
    entry = {**publisher.entry("cache", "1.0"), **stated, "settings_model": model}
    publisher.repository.publish([entry])
    report = await client.loader.sync(URL)
    reasons = [each.reason or "" for each in report.plan.verdicts if each.outcome == "refused"]
    return client.offered("cache") is not None, "".join(reasons)


async def test_a_model_in_the_artifact_is_taken(publisher: Publisher, client: Client) -> None:
    taken, _ = await offered_with(publisher, client, "acme.settings:Settings", {"acme/settings.py": MODEL})

    assert taken


async def test_a_model_that_merely_lies_on_the_path_is_not(
    publisher: Publisher, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme/__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "acme/settings.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))

    taken, reason = await offered_with(publisher, client, "acme.settings:Settings", {})

    assert not taken
    assert "no installed distribution's record" in reason
    assert "acme" not in sys.modules


async def test_a_model_that_is_nowhere_is_not(publisher: Publisher, client: Client) -> None:
    taken, reason = await offered_with(publisher, client, "acme.nowhere:Settings", {})

    assert not taken
    assert "no installed module" in reason
