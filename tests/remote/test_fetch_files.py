"""Local files: plain ones, below the roots that were allowed, whatever links say."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from oneiric.core.errors import DigestError, FetchError, FetchRefusedError
from oneiric.remote._fetch_files import read_local
from oneiric.remote._fetch_values import Wanted
from oneiric.remote.fetch import FetchLimits, FetchPolicy, SafeFetcher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    allowed = tmp_path / "allowed"
    (allowed / "deep").mkdir(parents=True)
    (allowed / "m.json").write_bytes(b'{"version": 1}')
    (allowed / "deep" / "größe 1.json").write_bytes(b"{}")
    (tmp_path / "secret").write_bytes(b"S3CR3T")
    return allowed


def fetcher(root: Path, **limits: int) -> SafeFetcher:
    return SafeFetcher(FetchPolicy(roots=(root,)), replace(FetchLimits(), **limits))


async def test_a_path_and_a_file_url_give_the_same_result(root: Path) -> None:
    by_path = await fetcher(root).fetch(str(root / "m.json"))
    by_url = await fetcher(root).fetch(f"file://{root}/m.json")
    by_host = await fetcher(root).fetch(f"FILE://localhost{root}/m.json", sha256=by_path.sha256, expected_bytes=14)
    assert by_path == by_url == replace(by_host, is_verified=False)
    assert (by_path.content, by_path.source, by_path.etag) == (b'{"version": 1}', "file", None)


async def test_a_url_is_unquoted_once_and_a_path_never(root: Path) -> None:
    (root / "100%25.json").write_bytes(b"quoted")
    assert (await fetcher(root).fetch(f"file://{root}/deep/gr%C3%B6%C3%9Fe%201.json")).content == b"{}"
    assert (await fetcher(root).fetch(f"file://{root}/100%2525.json")).content == b"quoted"
    assert (await fetcher(root).fetch(f"{root}/100%25.json")).content == b"quoted"


async def test_a_relative_path_is_taken_from_here(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root / "deep")
    assert (await fetcher(root).fetch("../m.json")).length_bytes == 14


async def test_an_empty_file_is_a_file(root: Path) -> None:
    (root / "empty").touch()
    assert (await fetcher(root).fetch(str(root / "empty"))).content == b""


async def test_links_are_followed_while_they_stay_below_a_root(root: Path) -> None:
    """As Kubernetes mounts a configuration: a link to a directory that is a link."""
    (root / "..data").symlink_to("deep")
    (root / "current.json").symlink_to("..data/größe 1.json")
    (root.parent / "also").symlink_to(root)
    assert (await fetcher(root).fetch(str(root / "current.json"))).content == b"{}"
    assert (await fetcher(root.parent / "also").fetch(str(root / "m.json"))).length_bytes == 14


@pytest.mark.parametrize(
    "path",
    [
        "../secret",
        "deep/../../secret",
        "link",
        "linked/secret",
        "/etc/passwd",
        ".",
        "fifo",
        "deep",
        "/dev/zero",
        "..%2fsecret",
    ],
)
@pytest.mark.parametrize("form", ["{}", "file://{}"])
async def test_what_leads_outside_or_is_no_plain_file_is_refused(root: Path, path: str, form: str) -> None:
    (root / "link").symlink_to("../secret")
    (root / "linked").symlink_to("..")
    os.mkfifo(root / "fifo")
    url = form.format(os.path.join(root, path))  # noqa: PTH118 - a Path would tidy it
    with pytest.raises(FetchError) as caught:
        await fetcher(root).fetch(url)
    if "%" not in path:  # a path with a percent sign names a file that does not exist
        assert isinstance(caught.value, FetchRefusedError)
    assert "S3CR3T" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "file://elsewhere.test/m.json",
        "file:///m.json?x=1",
        "file:///m.json#x",
        "file:///%00",
        "file://",
        "\x00",
        "",
    ],
)
async def test_a_file_url_is_a_path_and_nothing_more(root: Path, url: str) -> None:
    with pytest.raises(FetchRefusedError):
        await fetcher(root).fetch(url)


async def test_what_does_not_exist_says_so(root: Path) -> None:
    with pytest.raises(FetchError, match=r"'.*nothing\.json' cannot be read: No such file") as caught:
        await fetcher(root).fetch(str(root / "nothing.json"))
    assert type(caught.value) is FetchError


async def test_a_loop_of_links_and_a_name_too_long_are_errors_of_ours(root: Path) -> None:
    (root / "loop").symlink_to("loop")
    for name in ("loop", "x" * 5000):
        with pytest.raises(FetchError):
            await fetcher(root).fetch(str(root / name))


async def test_a_file_is_bounded_and_verified_as_a_download_is(root: Path) -> None:
    url = str(root / "m.json")
    with pytest.raises(FetchRefusedError, match="larger than the limit of 13 bytes"):
        await fetcher(root, max_bytes=13).fetch(url)
    with pytest.raises(DigestError, match="more than the 13"):
        await fetcher(root).fetch(url, expected_bytes=13)
    with pytest.raises(DigestError, match="15 were expected"):
        await fetcher(root).fetch(url, expected_bytes=15)
    with pytest.raises(DigestError, match="sha256"):
        await fetcher(root).fetch(url, sha256="0" * 64)


async def test_progress_is_reported_in_pieces(root: Path) -> None:
    (root / "large").write_bytes(bytes(1_000_000))
    seen: list[tuple[int, int | None]] = []
    await fetcher(root).fetch(str(root / "large"), progress=lambda done, whole: seen.append((done, whole)))
    assert len(seen) > 2
    assert seen[-1] == (1_000_000, 1_000_000)


async def test_a_mirror_may_be_a_directory(root: Path) -> None:
    result = await fetcher(root).fetch("https://127.0.0.1/m.json", mirrors=[str(root / "m.json")])
    assert (result.source, result.length_bytes) == ("file", 14)


class Swapping(tuple["Path", ...]):
    """Roots that are looked at after the links were followed: then a directory becomes a link to another."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Path]:
        (root,) = super().__iter__()
        (root / "deep").rename(root / "parked")
        (root / "deep").symlink_to(root.parent / "outside")
        yield root


def test_a_directory_that_becomes_a_link_while_it_is_opened_leads_nowhere(root: Path) -> None:
    (root.parent / "outside").mkdir()
    (root.parent / "outside" / "m.json").write_bytes(b"S3CR3T")
    (root / "deep" / "m.json").write_bytes(b"{}")
    with pytest.raises(FetchError, match="cannot be read"):
        read_local(root / "deep" / "m.json", Swapping([root]), Wanted(max_bytes=100))
    assert (root / "deep" / "m.json").read_bytes() == b"S3CR3T"
