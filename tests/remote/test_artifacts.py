"""Artifacts: only the bytes that were signed for, only what is safe in them, and two versions side by side."""

from __future__ import annotations

import asyncio
import importlib
import os
import pickle
import stat
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.remote.archives import digest, packed, renamed, understated, with_link
from tests.remote.conftest import entry

from oneiric.core.errors import (
    ActivationError,
    DigestError,
    FactoryNotAllowedError,
    FactoryNotFoundError,
    ManifestError,
    SchemaError,
    StoreError,
    UnsafePathError,
)
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Policy, Resolver
from oneiric.core.security import FactoryAllowList, load_factory
from oneiric.remote._artifact_import import unmount
from oneiric.remote.artifacts import (
    Artifact,
    ArtifactLimits,
    ArtifactStore,
    mounted_artifacts,
    open_artifact,
    stage,
)
from oneiric.remote.manifest import FactoryPolicy, candidates_of

SHOP = {
    "acme/__init__.py": "NAME = 'acme'\n",
    "acme/util.py": "def version():\n    return 'VERSION'\n",
    "acme/cache.py": (
        "import acme.util\n"
        "from acme import util as same\n"
        "from acme.util import version\n"
        "from . import util as relative\n"
        "import json, os.path\n"
        "from os import system\n"
        "from functools import partial\n"
        "class Settings:\n    size = 1\n"
        "class Cache:\n"
        "    def version(self):\n"
        "        assert acme.util is same is relative\n"
        "        return acme.util.version()\n"
        "    def fail(self):\n        raise RuntimeError('from inside')\n"
        "class Nested:\n    class Inner: pass\n"
        "def make():\n    return Cache()\n"
        "ready = Cache()\n"
        "bound = partial(Cache)\n"
        "alias = make\n"
        "def __getattr__(name):\n    return Cache\n"
    ),
    "acme/data/words.txt": "one two",
    "acme/deep/er/leaf.py": "VALUE = 7\n",
}


def shop(version: str = "1") -> bytes:
    return packed({name: text.replace("VERSION", version) for name, text in SHOP.items()})


def opened(data: bytes, name: str = "acme-1-py3-none-any.whl", module: str = "acme.cache", **limits: int) -> Artifact:
    return open_artifact(
        data,
        sha256=digest(data),
        size=len(data),
        uri=f"https://cdn.example/{name}",
        module=module,
        limits=ArtifactLimits(**limits),
    )


def candidate(data: bytes, **changes: Any) -> Candidate:
    row = entry(uri="https://cdn.example/a.whl", sha256=digest(data), size=len(data), **changes)
    policy = FactoryPolicy(general=FactoryAllowList(("acme",)))
    (made,) = candidates_of([row], origin="m", policy=policy).candidates
    return made


@pytest.fixture(autouse=True)
def nothing_stays_mounted() -> Iterator[None]:
    yield
    for each in mounted_artifacts():
        unmount(each)


# Digest and size


def test_only_the_bytes_that_were_signed_for_are_opened() -> None:
    data = shop()
    signed = {"sha256": digest(data), "size": len(data), "uri": "a.whl", "module": "acme.cache"}
    changed = data[:50] + bytes([data[50] ^ 1]) + data[51:]
    for wrong in (changed, data + b"x", data[:-1], b"", shop("2")):
        with pytest.raises(DigestError):
            open_artifact(wrong, **signed)  # type: ignore[arg-type]  # as they are above
    assert open_artifact(data, **signed).sha256 == digest(data)  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a", "a.whl.exe", "a.so", "a.egg", "a.pyc"])
def test_what_is_no_wheel_zip_or_source_is_refused(name: str) -> None:
    with pytest.raises(SchemaError, match="neither a wheel"):
        opened(shop(), name)


def test_a_larger_artifact_than_the_limit_is_refused() -> None:
    with pytest.raises(UnsafePathError, match="10 is the most"):
        opened(shop(), bytes=10)


# What an archive may hold


@pytest.mark.parametrize(
    "path",
    [
        "../evil.py",
        "acme/../../evil.py",
        "/etc/evil.py",
        "//host/evil.py",
        "./evil.py",
        "acme//evil.py",
        "acme/./evil.py",
        "C:/evil.py",
        "acme\\evil.py",
        "acme/evil.py:stream",
        "acme/evil .py ",
        "acme/evil.",
        "acme/new\nline.py",
        "acme/\u202eyp.exe",
        "acme/e\u0301.py",
        "acme/" + "x" * 300 + ".py",
        "a/" * 200 + "x.py",
    ],
    ids=lambda path: repr(path[:20]),
)
def test_a_path_that_is_not_safe_everywhere_is_refused(path: str) -> None:
    with pytest.raises(UnsafePathError):
        opened(packed({**SHOP, path: "x"}))


@pytest.mark.parametrize(
    "path",
    [
        "evil.pth",
        "acme/evil.PTH",
        "acme/cache.pyc",
        "acme/__pycache__/cache.cpython-313.pyc",
        "sitecustomize.py",
        "acme/sitecustomize.py",
        "usercustomize/__init__.py",
        "acme/fast.so",
        "acme/fast.cpython-313-x86_64-linux-gnu.so",
        "acme/libfast.so.1.2",
        "acme/fast.pyd",
        "acme/fast.dylib",
        "acme/FAST.DLL",
        "json.py",
        "json/__init__.py",
        "os/path.py",
        "Typing.py",
        "oneiric/__init__.py",
        "Oneiric/core.py",
        "_oneiric_remote_x/__init__.py",
        "acme-1.data/scripts/run",
        "acme-1.data/purelib/evil.py",
    ],
)
def test_startup_files_native_code_and_names_of_others_are_refused(path: str) -> None:
    with pytest.raises(UnsafePathError):
        opened(packed({**SHOP, path: "x"}))


@pytest.mark.parametrize(
    "magic", [b"\x7fELF\x02\x01", b"MZ\x90", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"!<arch>\n"]
)
def test_native_code_is_refused_under_any_name(magic: bytes) -> None:
    with pytest.raises(UnsafePathError, match="native code"):
        opened(packed({"acme/words.txt": magic + b"\x00" * 10}))
    with pytest.raises(UnsafePathError, match="no Python source"):
        opened(magic + b"\x00" * 10, "cache.py")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_are_refused(kind: int) -> None:
    with pytest.raises(UnsafePathError, match="link or a device"):
        opened(with_link("acme/cache.py", "/etc/passwd", kind))


@pytest.mark.parametrize(
    "names",
    [
        ["acme/a.py", "acme/a.py"],
        ["acme/a.py", "acme/A.py"],
        ["acme/a.py", "ACME/a.py"],
        ["acme/stra\u00dfe.py", "acme/strasse.py"],
        ["acme/a.py", "acme/a.py/b.py"],
        ["acme", "acme/a.py"],
        ["acme/", "acme"],
    ],
    ids=str,
)
def test_names_that_are_one_file_to_some_are_refused(names: list[str]) -> None:
    with pytest.raises(UnsafePathError):
        opened(packed([(name, "" if name.endswith("/") else "x") for name in names]))


def test_an_archive_with_two_opinions_on_a_name_is_refused() -> None:
    data = packed({"acme/cache.py": "x = 1\n"})
    for changed in (
        renamed(data, b"acme/cache.py", b"acme/other.py", central_only=True),
        renamed(data, b"acme/cache.py", b"acme/ca\x00he.py"),
    ):
        with pytest.raises(ManifestError):
            opened(changed)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"#!/bin/sh\n" + data,
        lambda data: data + b"trailing",
        lambda data: data[:-2] + b"\x04\x00note",
        lambda data: data[: len(data) // 2],
        lambda data: b"PK\x05\x06" + b"\x00" * 18,
        lambda data: data[:30] + b"X" + data[31:],
    ],
)
def test_an_archive_with_more_or_less_than_its_files_is_refused(change: Any) -> None:
    with pytest.raises(SchemaError):
        opened(change(shop()))


def test_an_encrypted_file_is_refused() -> None:
    data = bytearray(packed({"acme/cache.py": "x"}))
    central = data.index(b"PK\x01\x02")
    data[6] |= 1
    data[central + 8] |= 1
    with pytest.raises(UnsafePathError, match="encrypted"):
        opened(bytes(data))


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = packed({"acme/zeros.txt": b"\x00" * 50_000_000})
    assert len(bomb) < 100_000
    with pytest.raises(UnsafePathError, match="100 times its size"):
        opened(bomb)
    with pytest.raises(UnsafePathError, match="unpacks to 50000000 bytes"):
        opened(bomb, unpacked_bytes=1_000_000)


def test_a_bomb_that_says_it_is_small_is_refused() -> None:
    with pytest.raises(SchemaError, match="no sound zip archive"):
        opened(understated(packed({"acme/zeros.txt": b"\x00" * 50_000_000}), 100))


def test_more_files_than_anybody_needs_are_refused() -> None:
    with pytest.raises(UnsafePathError, match="5 files, and 3 is the most"):
        opened(shop(), files=3)


@given(st.data())
def test_whatever_is_changed_in_an_archive_ends_in_files_or_in_an_error_of_ours(data: st.DataObject) -> None:
    content = bytearray(packed({"acme/a.py": "x = 1\n", "acme/b.txt": "words"}))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        artifact = opened(bytes(content))
    except ManifestError:
        return
    assert all(".." not in path and not path.startswith("/") for path in artifact.files)


# Import


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
    assert mounted_artifacts() == ()
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


# The store


def test_artifacts_are_stored_read_only_in_a_private_directory(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        data = shop()
        path = ArtifactStore(tmp_path / "cache").put(data, sha256=digest(data), size=len(data))
    finally:
        os.umask(before)

    assert path == tmp_path / "cache" / "sha256" / digest(data)
    assert path.stat().st_mode & 0o777 == 0o444
    assert path.parent.stat().st_mode & 0o777 == path.parent.parent.stat().st_mode & 0o777 == 0o700
    assert ArtifactStore(tmp_path / "cache").get(digest(data), size=len(data)) == data
    assert [each.name for each in path.parent.iterdir()] == [digest(data)]


def test_other_bytes_are_never_stored(tmp_path: Path) -> None:
    data = shop()
    with pytest.raises(DigestError):
        ArtifactStore(tmp_path).put(data + b"x", sha256=digest(data), size=len(data))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["changed", "short", "long", "link", "pipe", "directory"])
def test_what_was_stored_is_verified_again_and_a_damaged_copy_is_replaced(tmp_path: Path, damage: str) -> None:
    data, store = shop(), ArtifactStore(tmp_path)
    path = store.put(data, sha256=digest(data), size=len(data))
    path.unlink()
    match damage:
        case "changed":
            path.write_bytes(data[:-1] + b"x")
        case "short":
            path.write_bytes(data[:-1])
        case "long":
            path.write_bytes(data + b"x")
        case "link":
            (tmp_path / "real").write_bytes(data)
            path.symlink_to(tmp_path / "real")
        case "pipe":
            os.mkfifo(path)
        case "directory":
            path.mkdir()

    assert store.get(digest(data), size=len(data)) is None
    if damage == "directory":
        with pytest.raises(StoreError):
            store.put(data, sha256=digest(data), size=len(data))
        return
    assert store.put(data, sha256=digest(data), size=len(data)) == path
    assert store.get(digest(data), size=len(data)) == data


@pytest.mark.parametrize("name", ["../x", "", "ab", "z" * 64, "/" * 64, "ab" * 32 + "\n"])
def test_only_a_digest_names_an_artifact(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsafePathError):
        ArtifactStore(tmp_path).get(name, size=1)


def test_a_store_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "sha256").write_text("in the way")
    data = shop()
    with pytest.raises(StoreError, match="cannot be"):
        ArtifactStore(tmp_path).put(data, sha256=digest(data), size=len(data))


def test_what_is_not_kept_is_removed(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    for data in (shop("1"), shop("2")):
        store.put(data, sha256=digest(data), size=len(data))

    assert store.keep(frozenset({digest(shop("2"))})) == 1
    assert store.get(digest(shop("1")), size=len(shop("1"))) is None
    assert store.get(digest(shop("2")), size=len(shop("2"))) == shop("2")


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
