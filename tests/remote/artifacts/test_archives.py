"""Artifacts: only the bytes that were signed for, and only what is safe in them."""

from __future__ import annotations

import stat
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.remote.archives import digest, packed, renamed, understated, with_link
from tests.remote.artifacts.shop import SHOP, opened, shop

from oneiric.core.errors import DigestError, ManifestError, SchemaError, UnsafePathError
from oneiric.remote.artifacts import open_artifact


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
        "\uff4fs.py",
        "\U0001d428s/__init__.py",
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
        ["acme/a.py", "acme/\uff41.py"],
        ["acme/fi.py", "acme/\ufb01.py"],
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
