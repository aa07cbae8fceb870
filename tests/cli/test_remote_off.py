"""Settings that keep a manifest from being fetched: nobody is asked, and every answer says which setting it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.documents import check
from tests.cli.publishing import WebPublisher, web_publisher
from tests.cli.systems import system

from oneiric.remote.testing import tampered

type Run = Callable[..., Any]

#: What the profile says → what is told.
OFF = {
    "remote_enabled: false": "profile.remote_enabled is false",
    "inline_manifest_only: true": "profile.inline_manifest_only is true",
    "name: serverless": "profile.remote_enabled is false",
}


@pytest.fixture
def publisher() -> Iterator[WebPublisher]:
    with web_publisher(Path.cwd()) as found:
        found.publish(found.entry("1.0"))
        yield found


def profiled(publisher: WebPublisher, profile: str, url: str | None = None) -> str:
    """Return the publisher's settings under a profile, as they are written into the file; *url* is named instead."""
    settings = (
        Path("settings.yml").read_text().replace("watchers_enabled: false", f"watchers_enabled: false, {profile}")
    )
    settings = settings.replace(publisher.url, url or publisher.url)
    Path("settings.yml").write_text(settings)
    return settings


def remote_status(oneiric: Run) -> Any:
    done = oneiric("--config", "settings.yml", "remote-status", "--json")
    return check("remote-status", done.out)


@pytest.mark.parametrize("profile", OFF)
def test_a_system_that_is_not_to_fetch_starts_asks_nobody_and_says_so(
    publisher: WebPublisher, oneiric: Run, profile: str
) -> None:
    with system(publisher.home, profiled(publisher, profile)):
        explained = json.loads(oneiric("--config", "settings.yml", "explain", "adapter:cache", "--json").out)
        status = remote_status(oneiric)
        synced = oneiric("--config", "settings.yml", "remote-sync", "--json")
        told = oneiric("--config", "settings.yml", "remote-status").out
        health = json.loads(Path(".oneiric_cache/runtime_health.json").read_text())

    reason = f"{OFF[profile]}, and the manifest is on the network"
    assert "acme" not in [row["provider"] for row in explained["ordered"]]
    assert (status["running"], status["enabled"], status["why_off"], status["status"]) == (True, True, reason, None)
    assert f"delivery   off: {reason}" in told
    assert health["remote_enabled"] is False
    error = json.loads(synced.out)["error"]
    assert (error["type"], OFF[profile] in error["message"]) == ("FetchRefusedError", True)
    logged = [json.loads(line) for line in Path("log.txt").read_text().splitlines() if "remote-off" in line]
    assert [line["reason"] for line in logged] == [reason]
    assert publisher.asked == []


@pytest.mark.parametrize("profile", OFF)
def test_what_was_stored_before_is_not_in_force_while_delivery_is_off(
    publisher: WebPublisher, oneiric: Run, profile: str
) -> None:
    assert oneiric("--config", "settings.yml", "remote-sync").code == 0
    assert "acme" in oneiric("--config", "settings.yml", "list").out
    publisher.asked.clear()

    settings = profiled(publisher, profile)

    assert "acme" not in oneiric("--config", "settings.yml", "list").out
    probed = json.loads(
        oneiric("--config", "settings.yml", "health", "--probe", "--key", "adapter:cache", "--json").out
    )
    assert [slot["provider"] for slot in probed["slots"]] == ["memory"]
    with system(publisher.home, settings):
        assert "acme" not in oneiric("--config", "settings.yml", "list").out
    assert publisher.asked == []


def test_a_running_system_goes_by_the_settings_that_it_was_started_with(publisher: WebPublisher, oneiric: Run) -> None:
    with system(publisher.home, Path("settings.yml").read_text()):
        assert oneiric("--config", "settings.yml", "remote-sync").code == 0
        profiled(publisher, "remote_enabled: false")

        assert remote_status(oneiric)["why_off"] is None


@pytest.fixture
def packed(publisher: WebPublisher) -> str:
    """Pack what is published into a directory, and name that in the settings; return them."""
    entry = publisher.entry("1.0")
    directory = publisher.home / "packed"
    directory.mkdir()
    (directory / entry["uri"]).write_bytes(publisher.given_out(entry["uri"]))
    # What says which manifest is current is a day old at most, and an image is older than that.
    (directory / "manifest.json").write_bytes(publisher.repository.manifest)
    return profiled(publisher, "name: serverless", "packed/manifest.json")


def test_a_packed_manifest_is_put_in_force_under_the_serverless_profile(
    publisher: WebPublisher, oneiric: Run, packed: str
) -> None:
    with system(publisher.home, packed):
        explained = json.loads(oneiric("--config", "settings.yml", "explain", "adapter:cache", "--json").out)

    assert explained["selected"] == "acme"
    assert explained["ordered"][0]["manifest"]["signature"] == "envelope"
    assert publisher.asked == []


@pytest.mark.usefixtures("packed")
def test_a_packed_manifest_is_shown_where_nothing_runs_and_nothing_of_it_is_stored(
    publisher: WebPublisher, oneiric: Run
) -> None:
    explained = json.loads(oneiric("--config", "settings.yml", "explain", "adapter:cache", "--json").out)
    assert (explained["running"], explained["selected"]) == (False, "acme")
    assert not Path(".oneiric_cache").exists()

    synced = oneiric("--config", "settings.yml", "remote-sync")
    assert "the next start takes what is packed from where it is" in synced.err
    assert synced.out.startswith("verified  acme version 1 from packed/manifest.json")
    assert not Path(".oneiric_cache/trusted_state.json").exists()

    Path("packed/manifest.json").write_bytes(tampered(publisher.repository.manifest, lambda body: body + b" "))
    told = oneiric("--config", "settings.yml", "list")
    assert ("acme" in told.out, "the stored manifest is left out" in told.err) == (False, True)


def test_a_packed_manifest_that_nobody_signed_is_shown_as_the_start_takes_it(oneiric: Run) -> None:
    entry = "{domain: adapter, key: cache, provider: acme, factory: 'oneiric.adapters.cache.memory:MemoryCacheAdapter'}"
    Path("manifest.yaml").write_text(f"entries: [{entry}]\n")
    settings = "remote: {enabled: true, manifest_url: manifest.yaml, factories: {adapter: [oneiric]}}\n"
    for profile, is_taken in {"inline_manifest_only: true": True, "name: serverless": False}.items():
        Path("settings.yml").write_text(f"{settings}profile: {{{profile}}}\n")
        explained = oneiric("--config", "settings.yml", "explain", "adapter:cache", "--json")
        providers = [row["provider"] for row in json.loads(explained.out)["ordered"]]

        assert ("acme" in providers, "left out" in explained.err) == (is_taken, not is_taken), explained


@pytest.mark.parametrize("profile", ["serverless", "default"])
def test_a_manifest_that_is_named_by_hand_and_cannot_be_fetched_stops_the_start(
    publisher: WebPublisher, oneiric: Run, monkeypatch: pytest.MonkeyPatch, profile: str
) -> None:
    monkeypatch.setenv("ONEIRIC_PROFILE__REMOTE_ENABLED", "false")

    done = oneiric("--profile", profile, "orchestrate", "--manifest", publisher.url)

    assert (done.code != 0, "profile.remote_enabled is false" in done.err) == (True, True), done
    assert publisher.asked == []
