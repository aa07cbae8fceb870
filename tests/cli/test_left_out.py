"""Entries of a signed manifest that are left out: every answer that lacks them says so, and why."""

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

FOREIGN = "'os:system'"


@pytest.fixture
def publisher(oneiric: Run) -> Iterator[WebPublisher]:
    """Give a publisher of one good entry, one that names what nobody allowed, and one for a key nobody else offers."""
    with web_publisher(Path.cwd()) as found:
        foreign = {"domain": "adapter", "key": "cache", "provider": "evil", "factory": "os:system"}
        found.publish(found.entry("1.0"), foreign, {**foreign, "key": "vault"})
        yield found


@pytest.fixture
def stored(publisher: WebPublisher, oneiric: Run) -> WebPublisher:
    """Give it with its manifest stored."""
    assert oneiric("--config", "settings.yml", "remote-sync").code == 0
    return publisher


@pytest.fixture
def running(publisher: WebPublisher, oneiric: Run) -> Iterator[WebPublisher]:
    """Give it with its manifest in force in a running system."""
    with system(publisher.home, Path("settings.yml").read_text()):
        assert oneiric("--config", "settings.yml", "remote-sync").code == 0
        yield publisher


def asked(oneiric: Run, *arguments: str, name: str) -> Any:
    done = oneiric("--config", "settings.yml", *arguments, "--json")
    assert done.code == 0, done
    return check(name, done.out)


def text(oneiric: Run, *arguments: str, code: int = 0) -> str:
    done = oneiric("--config", "settings.yml", *arguments)
    assert done.code == code, done
    return str(done.out + done.err)


def test_a_listing_names_what_was_left_out_of_the_keys_that_are_asked_for(stored: WebPublisher, oneiric: Run) -> None:
    listed = asked(oneiric, "list", name="list")
    whole, narrowed = text(oneiric, "list"), text(oneiric, "list", "--key", "cache")

    assert {each["name"] for each in listed["stored"]["skipped"]} == {"adapter:cache/evil", "adapter:vault/evil"}
    assert all(FOREIGN in each["reason"] for each in listed["stored"]["skipped"])
    assert whole.count("left out   ") == 2
    assert narrowed.count("left out   ") == 1
    assert "left out   adapter:cache/evil: " in narrowed


@pytest.mark.parametrize("where", ["stored", "running"])
def test_an_explanation_says_what_was_left_out_and_why_not(
    request: pytest.FixtureRequest, oneiric: Run, where: str
) -> None:
    request.getfixturevalue(where)

    explained = asked(oneiric, "explain", "cache", "--why-not", "evil", name="explain")
    told = text(oneiric, "explain", "cache", "--why-not", "evil")

    assert explained["running"] == (where == "running")
    assert explained["selected"] == "acme"
    assert [each["name"] for each in explained["skipped"]] == ["adapter:cache/evil"]
    (obstacle,) = explained["why_not"]["obstacles"]
    assert (obstacle["kind"], explained["why_not"]["wins"]) == ("manifest", False)
    assert FOREIGN in obstacle["detail"]
    assert "left out of the manifest:\n    evil\n" in told
    assert "why not evil?\n    it was left out of the manifest: " in told


@pytest.mark.parametrize("where", ["stored", "running"])
def test_a_key_whose_only_entry_was_left_out_does_not_exist_and_the_error_says_why(
    request: pytest.FixtureRequest, oneiric: Run, where: str
) -> None:
    request.getfixturevalue(where)

    told = text(oneiric, "explain", "vault", code=4)
    unknown = text(oneiric, "explain", "cache", "--why-not", "nobody", code=4)

    listed = text(oneiric, "list", "--key", "vault", code=4)
    error = json.loads(oneiric("--config", "settings.yml", "explain", "adapter:vault", "--json").out)["error"]

    assert where == "running" or "adapter:vault/evil was left out of the manifest: " in listed
    assert (error["type"], FOREIGN in error["message"]) == ("CandidateNotFoundError", True)
    assert "no domain has a key 'vault'" in told
    assert "adapter:vault/evil was left out of the manifest: " in told
    assert FOREIGN in told
    assert "left out" not in unknown


@pytest.mark.parametrize("where", ["stored", "running"])
def test_status_counts_them_and_the_status_of_delivery_names_them(
    request: pytest.FixtureRequest, oneiric: Run, where: str
) -> None:
    request.getfixturevalue(where)

    status = asked(oneiric, "remote-status", name="remote-status")["status"]
    told = text(oneiric, "remote-status")

    command = {"stored": "list", "running": "remote-status"}[where]
    assert f"left out  2 entries of the manifest; `oneiric {command}` says why" in text(oneiric, "status")
    assert [each["name"] for each in status["skipped"]] == ["adapter:cache/evil", "adapter:vault/evil"]
    assert status["last_skipped"] == 2
    assert "left out   adapter:vault/evil: " in told


def test_many_are_counted_and_the_first_are_named(publisher: WebPublisher, oneiric: Run) -> None:
    foreign = {"domain": "adapter", "provider": "evil", "factory": "os:system"}
    publisher.publish(publisher.entry("1.0"), *({**foreign, "key": f"key{number}"} for number in range(120)))
    assert oneiric("--config", "settings.yml", "remote-sync").code == 0

    status = asked(oneiric, "remote-status", name="remote-status")["status"]
    told = text(oneiric, "remote-status")

    assert (len(status["skipped"]), status["last_skipped"]) == (100, 120)
    assert told.count("left out   adapter:key") == 20
    assert "and 100 more" in told

    path = Path(".oneiric_cache/remote_status.json")
    older = json.loads(path.read_text())
    del older["skipped"]
    path.write_text(json.dumps(older))
    assert "left out   120 entries" in text(oneiric, "remote-status")


def test_what_a_running_system_does_not_name_is_counted(publisher: WebPublisher, oneiric: Run) -> None:
    foreign = {"domain": "adapter", "provider": "evil", "factory": "os:system"}
    publisher.publish(publisher.entry("1.0"), *({**foreign, "key": f"key{number}"} for number in range(120)))
    with system(publisher.home, Path("settings.yml").read_text()):
        assert oneiric("--config", "settings.yml", "remote-sync").code == 0
        told = text(oneiric, "explain", "cache")

    assert "20 more entries of the manifest were left out than the system names" in told
