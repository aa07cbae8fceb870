"""Publish and consume by commands alone: sign → verify → sync, and the tampered twin of each refused."""

import fcntl
import json
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.documents import check
from tests.cli.publishing import web_publisher
from tests.cli.systems import system

from oneiric.remote.testing import tampered

type Run = Callable[..., Any]

MANIFEST = """
product: acme
entries:
  - domain: adapter
    key: cache
    provider: acme
    factory: acme.cache:Cache
    version: "{version}"
    uri: cache-{version}.zip
"""
SETTINGS = """
remote:
  enabled: true
  manifest_url: site/manifest.json
  root_path: root.json
  factories: {adapter: [acme]}
  probation_seconds: 0
  refresh_interval: null
http: {port: 0}
profile: {watchers_enabled: false}
"""


class Publisher:
    """A publisher who has commands and nothing else."""

    def __init__(self, run: Run, home: Path) -> None:
        self.run = run
        self.home = home
        for directory in ("keys", "site", "site/root"):
            (home / directory).mkdir(exist_ok=True)
        for name in ("root-a", "root-b", "manifest", "freshness"):
            self.ok("manifest", "keygen", f"keys/{name}")
        roles = ["--root-key", "keys/root-a.pub", "--root-key", "keys/root-b.pub", "--threshold", "root=2"]
        roles += ["--manifest-key", "keys/manifest.pub", "--freshness-key", "keys/freshness.pub"]
        self.ok("root", "init", "--product", "acme", *roles, "-k", "keys/root-a", "-o", "site/root/1.json")
        self.ok("root", "sign", "-i", "site/root/1.json", "-k", "keys/root-b")
        (home / "root.json").write_bytes((home / "site/root/1.json").read_bytes())
        (home / "settings.yml").write_text(SETTINGS)

    def ok(self, *arguments: str) -> Any:
        name = " ".join(arguments[:2]) if arguments[0] in {"manifest", "root"} else arguments[0]
        done = self.run(*arguments, "--json")
        assert done.code == 0, done.out + done.err
        return check(name.replace(" ", "-"), done.out)

    def publish(self, version: str, key: str = "manifest") -> None:
        with zipfile.ZipFile(self.home / f"site/cache-{version}.zip", "w") as archive:
            archive.writestr("acme/cache.py", f"class Cache:\n    version = {version!r}\n")
        (self.home / "manifest.yaml").write_text(MANIFEST.format(version=version))
        after = ("--after", "site/manifest.json") if (self.home / "site/manifest.json").exists() else ()
        self.ok("manifest", "pack", "-i", "manifest.yaml", "-o", "body.json", "--artifacts", "site", *after)
        self.ok("manifest", "sign", "-i", "body.json", "-o", "site/manifest.json", "-k", f"keys/{key}")
        self.ok("manifest", "freshness", "-i", "site/manifest.json", "-k", "keys/freshness")

    def verify(self) -> Any:
        return self.run("manifest", "verify", "site/manifest.json", "--root", "root.json", "--json")


@pytest.fixture
def publisher(oneiric: Run, tmp_path: Path) -> Publisher:
    return Publisher(oneiric, tmp_path / "home")


def error_of(done: Any) -> str:
    kind: str = json.loads(done.out)["error"]["type"]
    return kind


def test_a_key_is_for_its_owner_alone_and_is_never_overwritten(publisher: Publisher) -> None:
    key = publisher.home / "keys/manifest"
    before = key.read_bytes()

    done = publisher.run("manifest", "keygen", "keys/manifest", "--json")

    assert done.code == 2
    assert key.read_bytes() == before
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_what_is_signed_is_verified_and_its_tampered_twin_is_refused_with_5(publisher: Publisher) -> None:
    publisher.publish("1.0")
    verified = check("manifest-verify", publisher.verify().out)
    assert (verified["version"], verified["signature"], verified["entries"]) == (1, "envelope", 1)

    path = publisher.home / "site/manifest.json"
    path.write_bytes(tampered(path.read_bytes(), lambda body: body.replace(b'"1.0"', b'"6.6"')))
    publisher.ok("manifest", "freshness", "-i", "site/manifest.json", "-k", "keys/freshness")
    done = publisher.verify()

    assert (done.code, error_of(done)) == (5, "SignatureError")
    synced = publisher.run("--config", "settings.yml", "remote-sync", "--json")
    assert (synced.code, error_of(synced)) == (5, "SignatureError")


def test_a_packed_manifest_is_verified_without_what_says_that_it_is_current(publisher: Publisher) -> None:
    publisher.publish("1.0")
    (publisher.home / "site/freshness.json").unlink()

    alone = publisher.run("manifest", "verify", "site/manifest.json", "--root", "root.json")
    packed = publisher.ok("manifest", "verify", "site/manifest.json", "--root", "root.json", "--packed")

    told = publisher.run("manifest", "verify", "site/manifest.json", "--root", "root.json", "--packed").out

    assert (alone.code != 0, "freshness.json" in alone.err, "or --packed" in alone.err) == (True, True, True)
    assert "nothing says whether it is current: it is packed" in told
    assert (packed["version"], packed["freshness_version"]) == (1, None)


def test_a_manifest_signed_with_another_key_is_refused_with_5(publisher: Publisher) -> None:
    publisher.ok("manifest", "keygen", "keys/thief")
    publisher.publish("1.0", key="thief")

    done = publisher.verify()

    assert (done.code, error_of(done)) == (5, "SignatureError")


def test_where_nothing_runs_a_sync_verifies_and_stores_and_says_that_it_applied_nothing(
    publisher: Publisher, oneiric: Run
) -> None:
    publisher.publish("1.0")

    planned = check("remote-sync", oneiric("--config", "settings.yml", "remote-sync", "--plan", "--json").out)
    assert planned["outcome"] == "planned"
    done = oneiric("--config", "settings.yml", "remote-sync")

    assert done.code == 0
    assert "nothing was applied" in done.err
    assert "adapter:cache/acme added" in done.out
    status = check("remote-status", oneiric("--config", "settings.yml", "remote-status", "--json").out)
    assert status["running"] is False
    assert status["status"]["manifest"]["applied"] is False
    assert status["status"]["manifest"]["version"] == 1


def test_an_older_manifest_is_refused_with_5_and_told_by_status(publisher: Publisher, oneiric: Run) -> None:
    publisher.publish("1.0")
    old = {name: (publisher.home / "site" / name).read_bytes() for name in ("manifest.json", "freshness.json")}
    publisher.publish("2.0")
    assert oneiric("--config", "settings.yml", "remote-sync").code == 0
    for name, data in old.items():
        (publisher.home / "site" / name).write_bytes(data)

    done = oneiric("--config", "settings.yml", "remote-sync", "--json")

    assert (done.code, error_of(done)) == (5, "RollbackError")
    status = oneiric("--config", "settings.yml", "remote-status")
    assert "RollbackError" in status.out
    assert "acme version 2, envelope" in status.out  # what is stored is told all the same


def test_a_cache_that_another_process_syncs_into_is_waited_for_as_long_as_the_settings_say(
    publisher: Publisher, oneiric: Run
) -> None:
    publisher.publish("1.0")
    Path("settings.yml").write_text(SETTINGS.replace("  enabled: true\n", "  enabled: true\n  lock_seconds: 0\n"))
    Path(".oneiric_cache").mkdir(mode=0o700)
    with Path(".oneiric_cache/remote.lock").open("w") as held:
        held.write("4711")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)

        done = oneiric("--config", "settings.yml", "remote-sync")

    assert (done.code, "is in use by pid 4711, which syncs there" in done.err) == (1, True), done
    assert oneiric("--config", "settings.yml", "remote-sync").code == 0


def test_an_artifact_that_was_changed_is_refused_with_5(publisher: Publisher, oneiric: Run) -> None:
    publisher.publish("1.0")
    path = publisher.home / "site/cache-1.0.zip"
    path.write_bytes(path.read_bytes()[:-1] + b"x")

    done = oneiric("--config", "settings.yml", "remote-sync", "--json")

    assert (done.code, error_of(done)) == (5, "DigestError")


def test_an_unsigned_local_file_is_said_to_be_unsigned_and_a_signed_one_is_verified_all_the_same(
    publisher: Publisher, oneiric: Run
) -> None:
    (publisher.home / "local.yaml").write_text(
        "entries: [{domain: adapter, key: cache, provider: acme, factory: 'acme.cache:Cache'}]"
    )

    done = oneiric("--config", "settings.yml", "remote-sync", "--manifest", "local.yaml")

    assert done.code == 0
    assert "UNSIGNED" in done.err
    assert "UNSIGNED" in oneiric("--config", "settings.yml", "remote-status").out


def test_keys_are_rotated_and_the_stolen_one_is_worth_nothing(publisher: Publisher, oneiric: Run) -> None:
    """The runbook for a stolen manifest key, as it stands in the guide."""
    publisher.publish("1.0")
    assert oneiric("--config", "settings.yml", "remote-sync").code == 0
    publisher.ok("manifest", "keygen", "keys/manifest-2")
    rotated = publisher.ok(
        "root", "rotate", "-i", "site/root/1.json", "--manifest-key", "keys/manifest-2.pub", "-k", "keys/root-a"
    )
    assert rotated["complete"] is False
    signed = publisher.ok(
        "root", "sign", "-i", "site/root/2.json", "-k", "keys/root-b", "--previous", "site/root/1.json"
    )
    assert (signed["version"], signed["complete"]) == (2, True)

    publisher.publish("6.6", key="manifest")  # the thief's
    done = oneiric("--config", "settings.yml", "remote-sync", "--json")
    assert (done.code, error_of(done)) == (5, "SignatureError")
    publisher.publish("2.0", key="manifest-2")
    synced = check("remote-sync", oneiric("--config", "settings.yml", "remote-sync", "--json").out)

    assert synced["entries"][0]["name"] == "adapter:cache/acme"
    status = check("remote-status", oneiric("--config", "settings.yml", "remote-status", "--json").out)
    assert status["status"]["trust"]["root_version"] == 2


def test_the_root_keys_themselves_are_rotated_under_both(publisher: Publisher, oneiric: Run) -> None:
    publisher.publish("1.0")
    for name in ("root-c", "root-d"):
        publisher.ok("manifest", "keygen", f"keys/{name}")
    keys = ["--root-key", "keys/root-c.pub", "--root-key", "keys/root-d.pub", "--threshold", "root=2"]
    signers = ["-k", "keys/root-a", "-k", "keys/root-b", "-k", "keys/root-c", "-k", "keys/root-d"]

    rotated = publisher.ok("root", "rotate", "-i", "site/root/1.json", *keys, *signers)

    assert rotated["complete"] is True
    assert oneiric("--config", "settings.yml", "remote-sync").code == 0


def test_two_manifests_are_compared_and_one_is_shown(publisher: Publisher) -> None:
    publisher.publish("1.0")
    (publisher.home / "old.json").write_bytes((publisher.home / "site/manifest.json").read_bytes())
    publisher.publish("2.0")

    changes = publisher.ok("manifest", "diff", "old.json", "site/manifest.json")["changes"]
    shown = publisher.ok("manifest", "inspect", "site/manifest.json")

    assert [each["change"] for each in changes] == ["changed"]
    assert changes[0]["fields"]["version"] == ["1.0", "2.0"]
    assert shown["stated"]["version"] == 2
    assert len(shown["signatures"]) == 1


def test_what_is_registered_is_exported_as_a_manifest_that_packs(publisher: Publisher) -> None:
    exported = publisher.ok("manifest", "export", "-o", "exported.yaml", "--domain", "adapter")

    assert exported["entries"] > 0
    packed = publisher.ok("manifest", "pack", "-i", "exported.yaml", "-o", "exported.body.json")
    assert packed["entries"] == exported["entries"]


def test_the_same_manifest_packs_to_the_same_bytes(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher.publish("1.0")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1795000000")
    pack = ("manifest", "pack", "-i", "manifest.yaml", "-o", "b.json", "--artifacts", "site")

    first, second = publisher.ok(*pack), publisher.ok(*pack)

    assert first["sha256"] == second["sha256"]


def test_a_running_system_is_asked_to_sync_and_says_what_it_did(publisher: Publisher, oneiric: Run) -> None:
    publisher.publish("1.0")
    with system(publisher.home, SETTINGS) as orchestrator:
        publisher.publish("2.0")
        plan = check("remote-sync", oneiric("--config", "settings.yml", "remote-sync", "--plan", "--json").out)
        assert (plan["running"], plan["outcome"]) == (True, "planned")
        synced = check("remote-sync", oneiric("--config", "settings.yml", "remote-sync", "--json").out)
        assert (synced["running"], synced["outcome"]) == (True, "applied")
        status = check("remote-status", oneiric("--config", "settings.yml", "remote-status", "--json").out)
        assert (status["running"], status["status"]["manifest"]["version"]) == (True, 2)
        explained = check("explain", oneiric("--config", "settings.yml", "explain", "adapter:cache", "--json").out)
        about = next(row for row in explained["ordered"] if row["provider"] == "acme")["manifest"]
        assert (about["product"], about["version"], about["signature"]) == ("acme", 2, "envelope")
        text = oneiric("--config", "settings.yml", "explain", "adapter:cache").out
        assert "acme came with manifest acme stable version 2" in text
        assert f"signed by {about['signed_by'][0]}" in text
        refused = oneiric("--config", "settings.yml", "remote-sync", "--manifest", "site/manifest.json")
        assert refused.code == 2
        assert orchestrator.process.poll() is None


def test_what_has_expired_since_it_was_written_is_stale_with_3(publisher: Publisher, oneiric: Run) -> None:
    publisher.publish("1.0")
    assert oneiric("--config", "settings.yml", "remote-sync").code == 0
    path = publisher.home / ".oneiric_cache/remote_status.json"
    document = json.loads(path.read_text())
    document["trust"]["freshness_expires"] = "2026-01-01T00:00:00Z"
    path.write_text(json.dumps(document))

    done = oneiric("--config", "settings.yml", "remote-status")

    assert done.code == 3
    assert "STALE" in done.out


def test_what_may_be_secret_in_the_manifests_url_is_shown_by_no_command(oneiric: Run) -> None:
    with web_publisher(Path.cwd()) as server:
        server.publish(server.entry("1.0"))
        settings = Path("settings.yml")
        settings.write_text(settings.read_text().replace("manifest.json", "manifest.json?sig=S3CR3T-4711"))
        outputs = []
        with system(server.home, settings.read_text()):
            commands = [
                ["remote-sync"],
                ["remote-status"],
                ["status"],
                ["health"],
                ["list"],
                ["explain", "adapter:cache"],
            ]
            for command in commands:
                for form in ([], ["--json"]):
                    done = oneiric("--config", "settings.yml", *command, *form)
                    assert done.code == 0, done
                    outputs += [done.out, done.err]
        for form in ([], ["--json"]):
            done = oneiric("--config", "settings.yml", "remote-status", *form)
            outputs += [done.out, done.err]
        outputs += [path.read_text() for path in Path(".oneiric_cache").glob("*.json")]
        outputs.append(Path("log.txt").read_text())

    assert any("/acme/manifest.json?sig=S3CR3T-4711" in path for path in server.asked)
    assert not [each for each in outputs if "S3CR3T" in each]


def test_a_root_that_is_no_file_is_an_error_and_nobody_waits_for_it(publisher: Publisher, oneiric: Run) -> None:
    publisher.publish("1.0")
    root = publisher.home / "root.json"
    root.unlink()
    os.mkfifo(root)

    done = oneiric("--config", "settings.yml", "remote-sync", "--json")

    assert (done.code, error_of(done)) == (2, "ConfigurationError")
    assert "no file" in json.loads(done.out)["error"]["message"]
