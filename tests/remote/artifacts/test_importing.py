"""Artifacts: imported from the bytes that were verified, two versions side by side, in nobody's way."""

from __future__ import annotations

import asyncio
import importlib
import pickle
import subprocess
import sys
import threading
import traceback
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from tests.remote.archives import digest, packed
from tests.remote.artifacts.shop import candidate, opened, shop

from oneiric.core.errors import (
    ActivationError,
    DigestError,
    FactoryNotAllowedError,
    FactoryNotFoundError,
    SchemaError,
    UnsafePathError,
)
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Policy, Resolver
from oneiric.core.security import load_factory
from oneiric.remote.artifacts import ArtifactStore, mounted_artifacts, open_artifact, stage


def test_modules_are_imported_from_the_verified_bytes_and_know_one_another() -> None:
    data = shop()
    staged = stage(candidate(data, settings_model="acme.cache:Settings"), opened(data), "/store/x")
    cache = load_factory(str(staged.factory), defined_there=True)()

    assert staged.factory == f"_oneiric_remote_{digest(data)}.acme.cache:Cache"
    assert staged.settings_model == f"_oneiric_remote_{digest(data)}.acme.cache:Settings"
    assert staged.metadata["artifact_path"] == "/store/x"
    assert cache.version() == "1"
    assert "acme" not in sys.modules
    assert not [path for path in sys.path if "oneiric_remote" in path]


def test_two_versions_live_side_by_side() -> None:
    first, second = (
        load_factory(str(stage(candidate(data), opened(data)).factory))() for data in (shop("1"), shop("2"))
    )

    assert (first.version(), second.version()) == ("1", "2")
    assert type(first) is not type(second)


def test_what_is_unmounted_is_forgotten_and_what_was_made_lives_on() -> None:
    data = shop()
    artifact = opened(data)
    staged = stage(candidate(data), artifact)
    cache = load_factory(str(staged.factory))()
    artifact.unmount()

    assert not [name for name in sys.modules if name.startswith(artifact.root)]
    assert artifact.sha256 not in mounted_artifacts()
    assert cache.version() == "1"
    with pytest.raises(FactoryNotFoundError):
        load_factory(str(staged.factory))
    artifact.mount()
    assert load_factory(str(staged.factory))().version() == "1"


def test_packages_without_an_init_and_data_beside_code_are_found() -> None:
    artifact = opened(shop())
    root = artifact.mount()

    assert importlib.import_module(f"{root}.acme.deep.er.leaf").VALUE == 7
    package = importlib.import_module(f"{root}.acme")
    assert resources.files(package).joinpath("data", "words.txt").read_text() == "one two"


def test_a_traceback_shows_the_line_and_whose_it_is() -> None:
    data = shop()
    cache = load_factory(str(stage(candidate(data), opened(data)).factory))()
    with pytest.raises(RuntimeError) as caught:
        cache.fail()
    text = "".join(traceback.format_exception(caught.value))

    assert "raise RuntimeError('from inside')" in text
    assert f"_oneiric_remote_{digest(data)}/acme/cache.py" in text


def test_a_single_file_is_the_module_its_factory_names() -> None:
    source = b"# -*- coding: latin-1 -*-\nclass Cache:\n    name = 'gr\xf6\xdfer'\n"
    artifact = opened(source, "cache.py", "acme.cache")
    staged = stage(candidate(source), artifact)

    assert load_factory(str(staged.factory), defined_there=True).name == "größer"


def test_one_file_may_be_two_modules() -> None:
    source = b"class Cache:\n    where = __name__\n"
    for module in ("acme.cache", "acme.other"):
        staged = stage(candidate(source, factory=f"{module}:Cache"), opened(source, "x.py", module))
        assert load_factory(str(staged.factory)).where.endswith(module)


@pytest.mark.parametrize("source", [b"\x00", b"a = '\x00'"])
def test_a_single_file_that_is_no_text_is_refused(source: bytes) -> None:
    with pytest.raises(SchemaError, match="no text"):
        opened(source, "cache.py")


@pytest.mark.parametrize("module", ["json", "os", "oneiric.x", "sitecustomize"])
def test_a_single_file_stands_in_nobodys_way(module: str) -> None:
    with pytest.raises(UnsafePathError):
        opened(b"x = 1", "cache.py", module)


@pytest.mark.parametrize(
    "attribute", ["system", "partial", "json", "ready", "bound", "alias", "acme", "missing", "same"]
)
def test_only_what_the_module_itself_defines_is_a_factory(attribute: str) -> None:
    data = shop()
    staged = stage(candidate(data, factory=f"acme.cache:{attribute}"), opened(data))

    with pytest.raises(FactoryNotAllowedError, match="not a class or function defined in"):
        load_factory(str(staged.factory), defined_there=True)


def test_the_lifecycle_takes_remote_factories_only_where_they_are_defined() -> None:
    data = shop()

    async def activate(factory: str) -> Any:
        resolver = Resolver(Policy())
        resolver.apply(add=[stage(candidate(data, factory=factory), opened(data))])
        async with LifecycleManager(resolver) as manager:
            return await manager.activate("adapter", "cache")

    assert asyncio.run(activate("acme.cache:Cache")).version() == "1"
    assert asyncio.run(activate("acme.cache:make")).version() == "1"
    for reexported in ("system", "alias", "bound"):
        with pytest.raises(ActivationError, match="defined in"):
            asyncio.run(activate(f"acme.cache:{reexported}"))


def test_an_entry_takes_only_the_artifact_it_signed_for() -> None:
    with pytest.raises(DigestError, match="signed for"):
        stage(candidate(shop("1")), opened(shop("2")))


def test_a_module_the_artifact_lacks_is_not_looked_for_elsewhere() -> None:
    data = shop()
    with pytest.raises(FactoryNotFoundError, match=r"has no module 'acme\.other'"):
        stage(candidate(data, factory="acme.other:Cache"), opened(data))
    root = opened(data).mount()
    for name in ("json", "acme.json", "acme.cache.json"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(f"{root}.{name}")


def test_a_name_below_our_root_is_answered_by_us_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = opened(shop()).mount()
    (tmp_path / root).mkdir()
    (tmp_path / root / "evil.py").write_text("raise AssertionError('from the path')")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"{root}.evil")


def test_a_shadow_of_the_package_on_the_path_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "__init__.py").write_text("")
    (tmp_path / "acme" / "util.py").write_text("raise AssertionError('from the path')")
    monkeypatch.syspath_prepend(tmp_path)
    data = shop()

    assert load_factory(str(stage(candidate(data), opened(data)).factory))().version() == "1"


def test_many_threads_import_one_artifact_once() -> None:
    data = packed({"acme/cache.py": "import time\ntime.sleep(0.02)\nclass Cache: pass\n"})
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(load_factory(str(stage(candidate(data), opened(data)).factory))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 8
    assert len(set(found)) == 1


def test_instances_of_remote_classes_pickle_while_they_are_mounted() -> None:
    data = shop()
    cache = load_factory(str(stage(candidate(data), opened(data)).factory))()

    assert pickle.loads(pickle.dumps(cache)).version() == "1"  # noqa: S301 - our own bytes


AUDITED = """
import hashlib, io, sys, zipfile
from oneiric.core.errors import OneiricError
from oneiric.remote.artifacts import open_artifact, stage, ArtifactStore
from oneiric.remote.testing import RepositorySimulator
from oneiric.remote.trust import TrustedManifests, TrustRoot, TrustedState
from oneiric.remote.manifest import FactoryPolicy
from oneiric.core.security import FactoryAllowList, load_factory

buffer = io.BytesIO()
with zipfile.ZipFile(buffer, "w") as archive:
    archive.writestr("canary/__init__.py", "import sys; sys.canary = True\\n")
    archive.writestr("canary/bird.py", "class Bird: pass\\n")
data = buffer.getvalue()
repository = RepositorySimulator(now=lambda: 1795000000.0)
row = {"domain": "adapter", "key": "cache", "provider": "acme", "factory": "canary.bird:Bird"}
repository.publish([row | repository.add_artifact(data, "canary.whl")])
policy = FactoryPolicy(general=FactoryAllowList(("canary",)))

ran = []
def watch(event, arguments):
    if event == "exec" and "canary" in str(arguments[0].co_filename):
        ran.append(event)
    if event in {"compile", "import"} and "canary" in str(arguments)[:2000]:
        ran.append(event)
    if event in {"os.system", "subprocess.Popen", "socket.connect", "os.exec", "os.posix_spawn"}:
        ran.append(event)
sys.addaudithook(watch)

def sync(manifest, artifact):
    trusted = TrustedManifests(TrustRoot.pinned(repository.roots[0]), now=1795000000.0)
    trusted.update_freshness(repository.freshness)
    (candidate,) = trusted.update_manifest(manifest).candidates(policy).candidates
    said = candidate.metadata
    ArtifactStore(sys.argv[1]).put(artifact, sha256=said["sha256"], size=said["size"])
    said = {"sha256": said["sha256"], "size": said["size"], "uri": said["remote_uri"]}
    opened = open_artifact(artifact, **said, module="canary.bird")
    return stage(candidate, opened)

for manifest, artifact in (
    (repository.manifest, data[:-30] + b"x" + data[-29:]),
    (repository.manifest, data + b"x"),
    (repository.manifest[:-2], data),
    (repository.manifest.replace(b"A", b"B", 1), data),
):
    try:
        sync(manifest, artifact)
    except OneiricError as error:
        print("refused", type(error).__name__)
staged = sync(repository.manifest, data)
print("ran before import:", ran, hasattr(sys, "canary"))
print(load_factory(staged.factory, defined_there=True).__name__, hasattr(sys, "canary"), bool(ran))
"""


def test_nothing_of_an_artifact_runs_before_it_is_verified_and_asked_for(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", AUDITED, str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "refused DigestError",
        "refused DigestError",
        "refused DigestError",
        "refused DigestError",
        "ran before import: [] False",
        "Bird True True",
    ]


def test_t22_what_is_imported_is_what_was_verified_however_the_file_changes_meanwhile(tmp_path: Path) -> None:
    """The store's file is overwritten all the time; each import sees the honest bytes, or there is no import."""
    store = ArtifactStore(tmp_path)
    honest, evil = shop("honest"), shop("evil--")
    path = store.put(honest, sha256=digest(honest), size=len(honest))
    done = threading.Event()

    def race() -> None:
        while not done.is_set():
            for content in (evil, honest, honest[:100]):
                other = tmp_path / "other"
                other.write_bytes(content)
                other.replace(path)

    racer = threading.Thread(target=race)
    racer.start()
    seen: set[str] = set()
    try:
        for attempt in range(100_000):
            if attempt >= 300 and seen:
                break
            data = store.get(digest(honest), size=len(honest))
            if data is None:
                continue
            artifact = open_artifact(
                data, sha256=digest(honest), size=len(honest), uri="https://cdn.example/a.whl", module="acme.cache"
            )
            seen.add(load_factory(str(stage(candidate(honest), artifact).factory))().version())
            artifact.unmount()
    finally:
        done.set()
        racer.join()

    assert seen == {"honest"}
