"""Where nothing runs, commands show what remote delivery has stored: as the next start has it, with no network."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.documents import check
from tests.cli.publishing import WebPublisher, web_publisher
from tests.cli.systems import system

from oneiric.remote.testing import RepositorySimulator

type Run = Callable[..., Any]

DAG = {"nodes": [{"id": "pack", "task": "pack"}, {"id": "ship", "task": "ship", "depends_on": ["pack"]}]}
STATE = Path(".oneiric_cache")


@pytest.fixture
def publisher(oneiric: Run) -> Iterator[WebPublisher]:
    """Give a publisher whose manifest was stored, and who has fallen silent since."""
    with web_publisher(Path.cwd()) as found:
        cache = found.entry("1.0", priority=5)
        events = found.entry("1.0", key="orders") | {"domain": "event", "event_topics": ["orders.*"]}
        flow = found.entry("1.0", key="fulfil") | {"domain": "workflow", "dag": DAG}
        found.publish(cache, events, flow)
        assert oneiric("--config", "settings.yml", "remote-sync").code == 0
        found.stop()
        found.asked.clear()
        yield found


def asked(oneiric: Run, *arguments: str, name: str) -> Any:
    done = oneiric("--config", "settings.yml", *arguments, "--json")
    assert (done.code, done.err) == (0, ""), done
    return check(name, done.out)


def files() -> dict[str, tuple[int, bytes]]:
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in STATE.rglob("*") if path.is_file()}


def test_a_listing_names_what_is_stored_and_who_signed_it_fetches_nothing_and_changes_no_file(
    publisher: WebPublisher, oneiric: Run
) -> None:
    before = files()

    listed = asked(oneiric, "list", "--key", "cache", "--shadowed", name="list")
    text = oneiric("--config", "settings.yml", "list", "--key", "cache", "--shadowed").out

    (entry,) = listed["keys"]
    about = listed["stored"]["manifest"]
    assert (entry["provider"], entry["source"], entry["version"]) == ("acme", "remote_manifest", "1.0")
    assert entry["manifest"]["stored"] is True
    assert entry["manifest"]["digest"] == about["digest"]
    assert (about["product"], about["version"], about["signature"]) == ("acme", 1, "envelope")
    assert {row["provider"] for row in entry["shadowed"]} >= {"memory"}
    assert "remote_manifest, stored" in text
    assert f"stored  acme stable version 1, envelope\n        sha256 {about['digest']}" in text
    assert f"signed by {about['signed_by'][0]}" in text
    assert text.count("stored  acme") == 1
    assert publisher.asked == []
    assert files() == before


def test_an_explanation_ranks_what_is_stored_and_says_why_not(publisher: WebPublisher, oneiric: Run) -> None:
    explained = asked(oneiric, "explain", "adapter:cache", "--why-not", "memory", name="explain")
    text = oneiric("--config", "settings.yml", "explain", "adapter:cache").out

    assert (explained["running"], explained["selected"]) == (False, "acme")
    assert explained["stored"]["manifest"]["version"] == 1
    assert explained["why_not"]["wins"] is False
    assert "acme came with the stored manifest acme stable version 1" in text
    digest = explained["stored"]["manifest"]["digest"]
    assert f"sha256 {digest}" in text


def test_a_start_without_a_network_has_in_force_what_was_shown(publisher: WebPublisher, oneiric: Run) -> None:
    shown = asked(oneiric, "explain", "adapter:cache", name="explain")
    with system(publisher.home, Path("settings.yml").read_text()):
        explained = asked(oneiric, "explain", "adapter:cache", name="explain")

    assert (explained["running"], explained["stored"]) == (True, None)
    assert explained["selected"] == shown["selected"] == "acme"
    rows = {row["provider"]: row.get("manifest", {}).get("digest") for row in explained["ordered"]}
    assert rows["acme"] == shown["stored"]["manifest"]["digest"]
    assert [row["provider"] for row in explained["ordered"]] == [row["provider"] for row in shown["ordered"]]


def test_stored_events_and_workflows_are_explained_and_planned(publisher: WebPublisher, oneiric: Run) -> None:
    event = asked(oneiric, "event", "explain", "orders.created", name="event-explain")
    plan = asked(oneiric, "workflow", "plan", "fulfil", name="workflow-plan")
    drawn = oneiric("--config", "settings.yml", "orchestrate", "--print-dag", "--workflow", "fulfil")

    assert [each["handler"] for each in event["handlers"] if each["runs"]] == ["orders:acme"]
    assert (plan["provider"], [node["id"] for node in plan["nodes"]]) == ("acme", ["pack", "ship"])
    assert drawn.code == 0
    assert "ship" in drawn.out


def test_status_and_a_probe_take_what_is_stored_for_what_it_will_be(publisher: WebPublisher, oneiric: Run) -> None:
    status = asked(oneiric, "status", name="status")
    text = oneiric("--config", "settings.yml", "status").out
    probed = asked(oneiric, "health", "--probe", "--key", "adapter:cache", name="health")

    (cache,) = [each for each in status["keys"] if (each["domain"], each["key"]) == ("adapter", "cache")]
    assert cache["provider"] == "acme"
    assert status["stored"]["manifest"]["version"] == 1
    assert "stored    acme stable version 1, in force from the next start on" in text
    assert [(slot["provider"], slot["health"]) for slot in probed["slots"]] == [("acme", "healthy")]


def other_root(_publisher: WebPublisher) -> None:
    other = RepositorySimulator(product="acme", now=lambda: 1_795_000_000.0)
    Path("root.json").write_bytes(other.roots[0])


def changed(pattern: str, change: Callable[[bytes], bytes]) -> Callable[[WebPublisher], None]:
    def damage(_publisher: WebPublisher) -> None:
        for path in STATE.glob(pattern):
            path.chmod(0o600)
            path.write_bytes(change(path.read_bytes()))

    return damage


DAMAGE: dict[str, tuple[Callable[[WebPublisher], object], str]] = {
    "another root": (other_root, "signed by 0 of"),
    "a changed manifest": (changed("remote/manifests/sha256/*", lambda data: data[:-1] + b" "), "not stored here"),
    "a changed artifact": (changed("remote/artifacts/sha256/*", lambda data: data[:-1] + b"x"), "not stored here"),
    "a torn state": (changed("trusted_state.json", lambda data: data[:-9]), "trusted state cannot be read"),
    "a state that everybody may write": (lambda _: (STATE / "trusted_state.json").chmod(0o666), "everybody may write"),
    "no state": (lambda _: (STATE / "trusted_state.json").unlink(), "is gone"),
    "no root": (lambda _: Path("root.json").unlink(), "cannot be read"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_does_not_verify_any_more_is_named_on_stderr_and_only_what_is_local_is_shown(
    publisher: WebPublisher, oneiric: Run, damage: str
) -> None:
    do, reason = DAMAGE[damage]
    do(publisher)

    for _ in range(2):  # looking does not make it better or worse
        done = oneiric("--config", "settings.yml", "list", "--key", "cache", "--json")
        listed = check("list", done.out)
        assert done.code == 0
        assert done.err.startswith("warning: ")
        assert reason in done.err
        assert reason in listed["stored"]["problems"][0]
        assert listed["stored"]["manifest"] is None
        assert [each["provider"] for each in listed["keys"]] == ["memory"]
    unknown = oneiric("--config", "settings.yml", "explain", "workflow:fulfil", "--json")
    assert unknown.code == 4
    assert reason in unknown.err
    status = check("status", oneiric("--config", "settings.yml", "status", "--json").out)
    assert reason in status["stored"]["problems"][0]


def test_where_no_manifest_is_configured_or_remote_is_off_nothing_stored_is_shown(
    publisher: WebPublisher, oneiric: Run
) -> None:
    settings = Path("settings.yml")
    settings.write_text(settings.read_text().replace("enabled: true", "enabled: false", 1))

    listed = asked(oneiric, "list", "--key", "cache", name="list")

    assert listed["stored"] is None
    assert [each["provider"] for each in listed["keys"]] == ["memory"]
    assert json.loads(oneiric("list", "--key", "cache", "--json").out)["stored"] is None


@pytest.mark.parametrize("text", ["[1]", "{}", '{"manifest": 5}', '{"trust": {"root_expires": 5}}', "{", '"x"'])
def test_a_status_file_that_no_sync_wrote_is_said_to_be_none(publisher: WebPublisher, oneiric: Run, text: str) -> None:
    (STATE / "remote_status.json").write_text(text)

    done = oneiric("--config", "settings.yml", "remote-status", "--json")

    assert done.code == 1
    assert json.loads(done.out)["error"]["type"] == "StoreError"
    assert "the next sync" in json.loads(done.out)["error"]["hint"]
