"""An artifact that is revoked while it serves and nothing can replace it: it serves on, and everything says so."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.documents import check
from tests.cli.publishing import WebPublisher, web_publisher
from tests.cli.systems import system

type Run = Callable[..., Any]

#: One key that nobody else offers, and one that the settings give to nobody else.
SLOTS = ["adapter:vault", "adapter:cache"]


@pytest.fixture
def revoked(oneiric: Run) -> Iterator[WebPublisher]:
    """Give a publisher who revoked what a running system serves."""
    with web_publisher(Path.cwd()) as publisher:
        settings = Path("settings.yml").read_text() + "adapters: {selections: {cache: acme}}\n"
        entries = [publisher.entry("1.0", key=key) for key in ("vault", "cache")]
        publisher.publish(*entries)
        with system(publisher.home, settings):
            for slot in SLOTS:
                assert oneiric("--config", "settings.yml", "swap", slot).code == 0
            publisher.repository.revoked.update(entry["sha256"] for entry in entries)
            publisher.publish(*entries)
            synced = oneiric("--config", "settings.yml", "remote-sync")
            assert synced.code == 0
            assert "revoked" in synced.out
            yield publisher


def asked(oneiric: Run, *arguments: str, name: str, code: int = 0) -> Any:
    done = oneiric("--config", "settings.yml", *arguments, "--json")
    assert done.code == code, done
    return check(name, done.out)


def text(oneiric: Run, *arguments: str) -> str:
    out: str = oneiric("--config", "settings.yml", *arguments).out
    return out


def test_status_health_remote_status_and_explain_say_that_it_serves_on_and_what_to_do(
    revoked: WebPublisher, oneiric: Run
) -> None:
    status = asked(oneiric, "status", name="status")
    health = asked(oneiric, "health", name="health")
    probed = asked(oneiric, "health", "--probe", name="health")
    remote = asked(oneiric, "remote-status", name="remote-status", code=3)

    for slot in SLOTS:
        digest = next(each["sha256"] for each in remote["status"]["revoked"] if f"adapter:{each['key']}" == slot)
        sentence = f"{slot} is served by acme, whose artifact {digest} was revoked"
        assert any(sentence in each for each in status["system"]["problems"])
        assert any(sentence in each for each in health["degraded"])
        assert any(sentence in each for each in probed["degraded"])
        assert sentence in text(oneiric, "remote-status")
        assert sentence in text(oneiric, "status")
        assert f"degraded {sentence}" in text(oneiric, "health")
        explained = asked(oneiric, "explain", slot, name="explain")
        assert (explained["selected"], explained["active"]) == (None, "acme")
        (row,) = [row for row in explained["filtered"] if row["provider"] == "acme"]
        assert (row["obstacles"][0]["kind"], sentence in row["obstacles"][0]["detail"]) == ("revoked", True)
        assert "oneiric retire" in row["obstacles"][0]["fix"]
        assert sentence in text(oneiric, "explain", slot)
    logged = [json.loads(line) for line in Path("log.txt").read_text().splitlines() if "remote-revoked-in-use" in line]
    assert {each["reason"].partition(" is served")[0] for each in logged} == set(SLOTS)
    assert {each["detail"] is not None for each in health["slots"] if each["provider"] == "acme"} == {True}
    orphan = [each for each in status["other_slots"] if each["key"] == "vault"]
    assert [(each["current_provider"], each["withdrawn"]) for each in orphan] == [("acme", True)]
    assert "vault (withdrawn)" in text(oneiric, "status")
    assert asked(oneiric, "explain", "vault", name="explain")["active"] == "acme"


def test_it_is_over_once_something_sound_is_published_or_it_is_retired(revoked: WebPublisher, oneiric: Run) -> None:
    assert oneiric("--config", "settings.yml", "retire", "adapter:vault").code == 0
    remote = asked(oneiric, "remote-status", name="remote-status", code=3)
    assert [each["key"] for each in remote["status"]["revoked"]] == ["cache"]

    revoked.publish(revoked.entry("1.1"))
    assert oneiric("--config", "settings.yml", "remote-sync").code == 0

    assert asked(oneiric, "remote-status", name="remote-status")["status"]["revoked"] == []
    assert asked(oneiric, "health", name="health")["degraded"] == []
    assert asked(oneiric, "explain", "adapter:cache", name="explain")["selected"] == "acme"


def test_where_nothing_runs_any_more_nothing_revoked_serves(oneiric: Run) -> None:
    with web_publisher(Path.cwd()) as publisher:
        entry = publisher.entry("1.0", key="vault")
        publisher.publish(entry)
        with system(publisher.home, Path("settings.yml").read_text()):
            assert oneiric("--config", "settings.yml", "swap", "adapter:vault").code == 0
            publisher.repository.revoked.add(entry["sha256"])
            publisher.publish(entry)
            assert oneiric("--config", "settings.yml", "remote-sync").code == 0
            assert oneiric("--config", "settings.yml", "remote-status").code == 3

        assert asked(oneiric, "remote-status", name="remote-status")["status"]["revoked"] == []
        assert oneiric("--config", "settings.yml", "explain", "adapter:vault").code == 4
