"""Remote delivery from end to end: a publisher over https, an application, a running system, and kills."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
import trustme
from tests.remote.archives import packed

from oneiric.app import App, OrchestrateOptions, RunningSystem
from oneiric.core.errors import ConfigurationError, SignatureError
from oneiric.core.resolution import Resolver
from oneiric.core.security import FactoryAllowList
from oneiric.remote.loader import LoaderOptions, RemoteLoader, is_network
from oneiric.remote.manifest import FactoryPolicy
from oneiric.remote.testing import RepositorySimulator, tampered
from oneiric.remote.testing_http import MisbehavingServer
from oneiric.remote.trust import TrustRoot
from oneiric.runtime.control import ControlClient, control_socket_path
from oneiric.runtime.settings import RemoteSettings

CODE = "# {token}\nclass Part:\n    version = {version!r}\n    async def health(self):\n        return True\n"


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("ONEIRIC_FACTORY_ALLOWLIST", "acme")
    with structlog.testing.capture_logs() as lines:
        yield lines
    structlog.reset_defaults()


class Publisher:
    """A publisher whose documents a server gives out over https."""

    def __init__(self) -> None:
        self.repository = RepositorySimulator(product="acme", now=time.time)
        self.authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("127.0.0.1").configure_cert(context)
        self.server = MisbehavingServer(tls=context)
        self.token = secrets.token_hex()

    def publish(self, version: str) -> None:
        entries = []
        for key in ("cache", "queue"):
            archive = packed({f"acme/{key}.py": CODE.format(token=self.token, version=version), "acme/__init__.py": ""})
            stated = self.repository.add_artifact(archive)
            path = f"/acme/{stated['sha256']}.zip"
            self.server.publish(path, archive)
            stated["uri"] = path
            entry = {"domain": "adapter", "key": key, "provider": "acme", "factory": f"acme.{key}:Part"}
            entries.append({**entry, "version": version, **stated})
        self.repository.publish(entries)
        self.give_out()

    def give_out(self) -> None:
        self.server.publish("/acme/manifest.json", self.repository.manifest)
        self.server.publish("/acme/freshness.json", self.repository.freshness)
        for number, root in enumerate(self.repository.roots, 1):
            self.server.publish(f"/acme/root/{number}.json", root)

    def settings(self, directory: Path, **more: Any) -> dict[str, Any]:
        (directory / "root.json").write_bytes(self.repository.roots[0])
        self.authority.cert_pem.write_to_path(str(directory / "ca.pem"))
        return {
            "remote.enabled": True,
            "remote.manifest_url": self.server.url("/acme/manifest.json"),
            "remote.root_path": str(directory / "root.json"),
            "remote.ca_path": str(directory / "ca.pem"),
            "remote.private_networks": ["127.0.0.0/8"],
            "remote.cache_dir": str(directory / "state"),
            "remote.probation_seconds": 0,
            "remote.max_retries": 0,
            **more,
        }


def test_an_application_takes_what_is_signed_over_https_and_refuses_its_tampered_twin(tmp_path: Path) -> None:
    async def run() -> None:
        publisher = Publisher()
        async with publisher.server:
            publisher.publish("1.0")
            async with App.open(overrides=publisher.settings(tmp_path), environ={}) as app:
                report = await app.remote.sync()
                assert report.outcome == "applied"
                assert (await app.lifecycle.activate("adapter", "cache")).version == "1.0"
                publisher.publish("2.0")
                honest = publisher.repository.manifest
                publisher.repository.manifest = tampered(honest, lambda body: body.replace(b'"2.0"', b'"6.6"'))
                publisher.repository.refresh()
                publisher.give_out()
                with pytest.raises(SignatureError):
                    await app.remote.sync()
                assert (await app.lifecycle.activate("adapter", "cache")).version == "1.0"
                publisher.repository.manifest = honest
                publisher.repository.refresh()
                publisher.give_out()
                assert {key for _, key, _ in (await app.remote.sync()).swapped} == {"cache"}
                assert (await app.lifecycle.activate("adapter", "cache")).version == "2.0"

    asyncio.run(run())


def test_what_was_delivered_is_in_force_beside_the_system_too_and_nothing_is_fetched_for_it(tmp_path: Path) -> None:
    async def run() -> None:
        publisher = Publisher()
        async with publisher.server:
            publisher.publish("1.0")
            settings = publisher.settings(tmp_path)
            async with App.open(overrides=settings, environ={}) as app:
                await app.remote.sync()
        async with App.open(overrides=settings, environ={}, keep_state=True, beside=True) as beside:
            assert (await beside.lifecycle.activate("adapter", "cache")).version == "1.0"

    asyncio.run(run())


def test_a_manifest_that_is_named_by_hand_may_lie_on_a_host_that_the_settings_do_not_name(tmp_path: Path) -> None:
    async def run() -> None:
        publisher = Publisher()
        async with publisher.server:
            publisher.publish("1.0")
            settings = publisher.settings(tmp_path)
            url = settings.pop("remote.manifest_url")
            async with App.open(overrides={**settings, "remote.enabled": False}, environ={}) as app:
                assert (await app.remote.sync(url)).outcome == "applied"

    asyncio.run(run())


def test_tls_cannot_be_left_unverified(tmp_path: Path) -> None:
    async def run() -> None:
        publisher = Publisher()
        async with publisher.server:
            publisher.publish("1.0")
            settings = publisher.settings(tmp_path, **{"remote.verify_tls": False})
            async with App.open(overrides=settings, environ={}) as app:
                with pytest.raises(ConfigurationError, match="verify_tls"):
                    await app.remote.sync()

    asyncio.run(run())


def test_a_running_system_starts_with_what_is_stored_and_syncs_when_told_to(tmp_path: Path) -> None:
    async def run() -> None:
        publisher = Publisher()
        async with publisher.server:
            publisher.publish("1.0")
            settings = publisher.settings(tmp_path, **{"http.port": 0})
            running = await started(settings)
            client = ControlClient(control_socket_path(tmp_path / "state"))
            status = await asyncio.to_thread(client.call, "status")
            assert status["remote"]["manifest"]["version"] == 1
            assert status["remote"]["manifest"]["signature"] == "envelope"
            assert "remote" in {part["name"] for part in status["parts"]}
            publisher.publish("2.0")
            plan = await asyncio.to_thread(client.call, "remote_sync", plan=True)
            assert {each["outcome"] for each in plan["report"]["entries"]} == {"changed"}
            answer = await asyncio.to_thread(client.call, "remote_sync")
            assert answer["outcome"] == "applied"
            explained = await asyncio.to_thread(client.call, "explain", domain="adapter", key="cache")
            assert explained["selected"] == "acme"
            await stopped(running)
        # The publisher is gone: what was committed to is there all the same.
        running = await started(settings)
        app = running[0]
        assert app.resolver.resolve("adapter", "cache").version == "2.0"
        await stopped(running)

    asyncio.run(run())


def test_the_metrics_count_what_serves_although_it_was_revoked(tmp_path: Path) -> None:
    async def run() -> None:
        publisher = Publisher()
        async with publisher.server:
            publisher.publish("1.0")
            chosen = {"http.port": 0, "adapters.selections.cache": "acme", "remote.refresh_interval": None}
            app, system, task = await started(publisher.settings(tmp_path, **chosen))
            await app.lifecycle.activate("adapter", "cache")
            assert system.http is not None
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{system.http.port}") as client:
                assert revoked_in_use((await client.get("/metrics")).text) == 0
                publisher.repository.revoked.update(publisher.repository.artifacts)
                publisher.publish("1.0")
                await app.remote.sync()
                assert revoked_in_use((await client.get("/metrics")).text) == 1
            await stopped((app, system, task))

    asyncio.run(run())


@pytest.mark.parametrize(("days_old", "stale"), [(0, 0.0), (2, 1.0)])
def test_the_metrics_say_whether_what_is_in_force_has_expired(tmp_path: Path, days_old: int, stale: float) -> None:
    """A publisher who froze is not believed, what was stored serves on, and the gauge says that it is old."""

    def then() -> float:
        return time.time() - days_old * 86_400

    async def run() -> None:
        repository = RepositorySimulator(product="acme", now=then)
        (tmp_path / "root.json").write_bytes(repository.roots[0])
        mirror(repository, tmp_path / "mirror", "1.0")
        url, state = str(tmp_path / "mirror/manifest.json"), tmp_path / "state"
        options = LoaderOptions(factories=FactoryPolicy(general=FactoryAllowList(("acme",))))
        root = TrustRoot.pinned(repository.roots[0])
        before = RemoteLoader(Resolver(), root=root, cache_dir=state, options=options, clock=then)
        assert (await before.sync(url, apply=False)).outcome == "stored"
        settings = {"remote.manifest_url": url, "remote.root_path": str(tmp_path / "root.json"), "http.port": 0}
        settings |= {"remote.enabled": True, "remote.cache_dir": str(state), "remote.refresh_interval": None}
        app, system, task = await started(settings)
        assert app.resolver.resolve("adapter", "cache").version == "1.0"
        assert system.http is not None
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{system.http.port}") as client:
            assert gauge((await client.get("/metrics")).text, "oneiric_remote_stale") == stale
        await stopped((app, system, task))

    asyncio.run(run())


def revoked_in_use(page: str) -> float:
    return gauge(page, "oneiric_remote_revoked_in_use")


def gauge(page: str, name: str) -> float:
    (line,) = [line for line in page.splitlines() if line.startswith(name)]
    return float(line.split()[-1])


async def started(settings: dict[str, Any]) -> tuple[App, RunningSystem, asyncio.Task[int]]:
    app = App.open(overrides=settings, environ={}, keep_state=True)
    ready: asyncio.Future[RunningSystem] = asyncio.get_running_loop().create_future()
    options = OrchestrateOptions(handle_signals=False, on_ready=ready.set_result)
    task = asyncio.create_task(app.run_forever(options))
    either: set[asyncio.Future[Any]] = {ready, task}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED, timeout=30)
    if task.done():
        task.result()
    return app, ready.result(), task


async def stopped(running: tuple[App, RunningSystem, asyncio.Task[int]]) -> None:
    running[1].stop()
    await running[2]


def test_a_serverless_system_reads_no_network_and_nothing_unsigned(tmp_path: Path) -> None:
    async def run() -> None:
        path = tmp_path / "manifest.yaml"
        path.write_text("entries: []\n")
        settings = {"remote.enabled": True, "remote.manifest_url": str(path), "remote.cache_dir": str(tmp_path / "s")}
        async with App.open(profile="serverless", overrides=settings, environ={}) as app:
            with pytest.raises(SignatureError):
                await app.remote.sync()

    asyncio.run(run())


def test_a_fetcher_has_the_limits_of_the_settings(tmp_path: Path) -> None:
    async def run() -> None:
        settings = {"remote.manifest_url": "https://updates.example/manifest.json", "remote.cache_dir": str(tmp_path)}
        settings |= {"remote.retry_jitter": "0.5", "remote.max_retries": "4", "remote.retry_max_delay": "7"}
        async with App.open(overrides=settings, environ={}) as app:
            fetcher = await app.remote._fetching._fetcher()  # inside on purpose: chance cannot be waited for
        limits = fetcher._limits
        assert (limits.jitter, limits.attempts, limits.backoff_cap_seconds) == (0.5, 5, 7.0)

    asyncio.run(run())


@pytest.mark.parametrize("is_enabled", [True, False])
def test_files_that_are_allowed_are_read_whether_or_not_the_network_is(tmp_path: Path, is_enabled: bool) -> None:
    async def run() -> None:
        archive = packed({"acme.py": CODE.format(token=secrets.token_hex(), version="1.0")})
        artifact = tmp_path / "store/acme.zip"
        artifact.parent.mkdir()
        artifact.write_bytes(archive)
        repository = RepositorySimulator(product="acme", now=time.time)
        stated = {**repository.add_artifact(archive), "uri": artifact.as_uri()}
        about = {"domain": "service", "key": "part", "provider": "acme", "factory": "acme:Part", "version": "1.0"}
        repository.publish([{**about, **stated}])
        for name, data in {"root.json": repository.roots[0], "manifest.json": repository.manifest}.items():
            (tmp_path / name).write_bytes(data)
        (tmp_path / "freshness.json").write_bytes(repository.freshness)
        settings = {
            "remote.manifest_url": str(tmp_path / "manifest.json"),
            "remote.root_path": str(tmp_path / "root.json"),
            "remote.cache_dir": str(tmp_path / "state"),
            "remote.allow_file_uris": True,
            "remote.allowed_file_uri_roots": [str(artifact.parent)],
            "profile.remote_enabled": is_enabled,
        }
        async with App.open(overrides=settings, environ={}) as app:
            assert (await app.remote.sync()).digest_checks == 1

    asyncio.run(run())


@pytest.mark.parametrize(
    "url",
    ["https://a/b", "HTTP://a", "file:///a/b", "FILE://a", "a/b.json", "./x://y", "dir/a://b", "ftp://a", "", "1://a"],
)
def test_settings_and_loader_agree_on_what_is_on_the_network(url: str) -> None:
    assert RemoteSettings(manifest_url=url).is_on_network == is_network(url)


def test_where_somebody_is_trusted_the_configured_file_cannot_be_swapped_for_an_unsigned_one(tmp_path: Path) -> None:
    async def run() -> None:
        repository = RepositorySimulator(product="acme", now=time.time)
        (tmp_path / "root.json").write_bytes(repository.roots[0])
        path = tmp_path / "manifest.json"
        path.write_text('{"entries": []}')
        settings = {"remote.manifest_url": str(path), "remote.cache_dir": str(tmp_path / "state")}
        trusting = {**settings, "remote.root_path": str(tmp_path / "root.json")}
        async with App.open(overrides=settings, environ={}) as app:
            assert (await app.remote.sync()).plan.signature == "unsigned"
        async with App.open(overrides=trusting, environ={}) as app:
            with pytest.raises(SignatureError):
                await app.remote.sync()

    asyncio.run(run())


# Kills

CHILD = """
import asyncio, json, os, signal, sys
from oneiric.core.errors import ManifestError
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Resolver
from oneiric.core.security import FactoryAllowList
from oneiric.remote.apply import Probation
from oneiric.remote.loader import LoaderOptions, RemoteLoader
from oneiric.remote.manifest import FactoryPolicy
from oneiric.remote.trust import TrustRoot

directory, fatal, syncs = sys.argv[1], sys.argv[2], sys.argv[3] == "sync"


armed = False


ran, at = [], ""


def hook(event, arguments):
    if armed and event in {"import", "exec", "compile"} and "_oneiric_remote_" in repr(arguments):
        ran.append(at)


sys.addaudithook(hook)


def step(name):
    global at
    at = name
    if armed and name == fatal:
        os.kill(os.getpid(), signal.SIGKILL)


async def main():
    resolver = Resolver()
    async with LifecycleManager(resolver) as lifecycle:
        loader = RemoteLoader(
            resolver, lifecycle,
            root=TrustRoot.pinned(open(f"{directory}/root.json", "rb").read()),
            cache_dir=f"{directory}/state",
            options=LoaderOptions(
                factories=FactoryPolicy(general=FactoryAllowList(("acme",))), probation=Probation(seconds=0)
            ),
            on_step=step,
        )
        await loader.restore()
        if syncs:
            for key in ("cache", "queue"):
                if resolver.get("adapter", key):
                    await lifecycle.activate("adapter", key)
            global armed
            armed = True
            try:
                await loader.sync(f"{directory}/mirror/manifest.json")
            except ManifestError as error:
                print(json.dumps([type(error).__name__, ran]))
                return
        found = [await lifecycle.activate("adapter", key) for key in ("cache", "queue")]
        print(json.dumps([each.version for each in found]))
        print(json.dumps(sorted(set(ran))), file=sys.stderr)


asyncio.run(main())
"""

#: One before anything is registered, two in the middle of it, one before and one after what decides.
STEPS = ("stage", "swap", "probation", "commit", "done")


def child(directory: Path, fatal: str, what: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(directory), fatal, what],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ},
    )


@pytest.fixture(scope="module")
def updated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a client that has version 1.0 and is to take 2.0."""
    directory = tmp_path_factory.mktemp("client")
    repository = RepositorySimulator(product="acme", now=time.time)
    (directory / "root.json").write_bytes(repository.roots[0])
    mirror(repository, directory / "mirror", "1.0")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("ONEIRIC_FACTORY_ALLOWLIST", "acme")
        assert child(directory, "", "sync").stdout == '["1.0", "1.0"]\n'
    mirror(repository, directory / "mirror", "2.0")
    return directory


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_leaves_the_old_or_the_new_and_never_half(updated: Path, tmp_path: Path, step: str) -> None:
    directory = tmp_path / "client"
    shutil.copytree(updated, directory)

    killed = child(directory, step, "sync")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    restarted = child(directory, "", "restore")

    wanted = "2.0" if step == "done" else "1.0"
    assert restarted.stdout == f'["{wanted}", "{wanted}"]\n', restarted.stderr


def test_nothing_that_was_delivered_runs_before_it_is_verified(updated: Path, tmp_path: Path) -> None:
    honest, hostile = tmp_path / "honest", tmp_path / "hostile"
    shutil.copytree(updated, honest)
    shutil.copytree(updated, hostile)
    for archive in (hostile / "mirror").glob("*.zip"):
        archive.write_bytes(archive.read_bytes()[:-1] + b"x")

    done = child(honest, "", "sync")
    assert done.stdout == '["2.0", "2.0"]\n'
    assert done.stderr == '["swap"]\n'  # and in no step before it
    assert child(hostile, "", "sync").stdout == '["DigestError", []]\n'


def mirror(repository: RepositorySimulator, directory: Path, version: str) -> None:
    directory.mkdir(exist_ok=True)
    entries = []
    for key in ("cache", "queue"):
        archive = packed({f"acme/{key}.py": CODE.format(token="", version=version), "acme/__init__.py": ""})
        stated = repository.add_artifact(archive)
        (directory / f"{stated['sha256']}.zip").write_bytes(archive)
        stated["uri"] = f"{stated['sha256']}.zip"
        entry = {"domain": "adapter", "key": key, "provider": "acme", "factory": f"acme.{key}:Part"}
        entries.append({**entry, "version": version, **stated})
    repository.publish(entries)
    (directory / "manifest.json").write_bytes(repository.manifest)
    (directory / "freshness.json").write_bytes(repository.freshness)
