"""Files as a source: who may read them, where links may lead, what is malformed, and when they are read again."""

import asyncio
import logging
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from oneiric.adapters.secrets.file import FileSecretAdapter, FileSecretSettings
from oneiric.core import Secret
from oneiric.core.errors import ConfigurationError, OneiricError, UnavailableError

CANARY = "S3CR3T-2f1c9b9e-6f0e-4a57"


def private(path: Path, content: str | bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def source_of(path: Path, **settings: Any) -> FileSecretAdapter:
    return FileSecretAdapter(FileSecretSettings(path=path, **settings))


async def opened(path: Path, **settings: Any) -> FileSecretAdapter:
    source = source_of(path, **settings)
    await source.init()
    return source


def everything(error: BaseException | None) -> str:
    """All that an error and what it came from could show."""
    shown = []
    while error is not None:
        shown.append(f"{error!r} {error} {error.args!r} {vars(error)!r}")
        error = error.__cause__ or error.__context__
    return " ".join(shown)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
async def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = private(tmp_path / "secrets.json", f'{{"a": "{CANARY}"}}', mode)

    with pytest.raises(ConfigurationError, match=r"open to others.*chmod 600") as refused:
        await opened(path)
    assert CANARY not in everything(refused.value)


async def test_a_file_open_to_others_may_be_warned_of_or_allowed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = private(tmp_path / "secrets.json", '{"a": "value"}', 0o644)

    with caplog.at_level(logging.WARNING):
        allowed = await opened(path, permissions="allow")
        assert caplog.records == []
        warned = await opened(path, permissions="warn")
    assert await allowed.get_secret("a") == await warned.get_secret("a") == Secret("value")
    assert "mode 0644" in caplog.text
    assert "value" not in caplog.text


@pytest.mark.parametrize("permissions", ["refuse", "warn", "allow"])
async def test_a_file_that_anybody_may_write_is_always_refused(tmp_path: Path, permissions: Any) -> None:
    path = private(tmp_path / "secrets.json", '{"a": "value"}', 0o602)

    with pytest.raises(ConfigurationError, match="written by anybody"):
        await opened(path, permissions=permissions)


async def test_a_directory_in_which_anybody_may_replace_files_is_refused_unless_it_is_sticky(tmp_path: Path) -> None:
    directory = tmp_path / "secrets"
    directory.mkdir()
    private(directory / "a", "value")
    directory.chmod(0o777)

    with pytest.raises(ConfigurationError, match="anybody may replace it"):
        await opened(directory)
    directory.chmod(0o1777)  # as Kubernetes mounts a volume
    assert await (await opened(directory)).get_secret("a") == Secret("value")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
async def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = private(tmp_path / "secrets.json", '{"a": "value"}')
    os.chown(path, 4321, 4321)

    with pytest.raises(ConfigurationError, match="belongs to user 4321"):
        await opened(path)
    assert await (await opened(path, permissions="allow")).get_secret("a") == Secret("value")


async def test_a_link_is_not_followed(tmp_path: Path) -> None:
    elsewhere = private(tmp_path / "elsewhere", CANARY)
    directory = tmp_path / "secrets"
    directory.mkdir()
    (directory / "relative").symlink_to("../elsewhere")
    (directory / "absolute").symlink_to(elsewhere)
    (directory / "below").symlink_to(tmp_path)
    (directory / "data").symlink_to("..data/other")
    source = await opened(directory)

    for secret_id in ("relative", "absolute", "below/elsewhere", "data"):
        with pytest.raises(ConfigurationError, match="symbolic link") as refused:
            await source.get_secret(secret_id)
        assert CANARY not in everything(refused.value)
    (tmp_path / "link.json").symlink_to("elsewhere")
    with pytest.raises(ConfigurationError, match="symbolic link"):
        await opened(tmp_path / "link.json")


@pytest.mark.parametrize("version", ["../elsewhere", "..", "/etc", "plain", "..a/b"])
async def test_a_volume_whose_version_lies_outside_is_refused(tmp_path: Path, version: str) -> None:
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    private(outside / "a", CANARY)
    directory = tmp_path / "secrets"
    directory.mkdir()
    (directory / "a").symlink_to("..data/a")
    (directory / "..data").symlink_to(version)

    with pytest.raises(ConfigurationError, match="symbolic link"):
        await (await opened(directory)).get_secret("a")


async def test_a_link_inside_a_version_of_a_volume_is_refused(tmp_path: Path) -> None:
    private(tmp_path / "elsewhere", CANARY)
    version = tmp_path / "secrets" / "..2026_01"
    version.mkdir(parents=True)
    (version / "a").symlink_to("../../elsewhere")
    (tmp_path / "secrets" / "..data").symlink_to("..2026_01")
    (tmp_path / "secrets" / "a").symlink_to("..data/a")

    with pytest.raises(ConfigurationError, match="symbolic link"):
        await (await opened(tmp_path / "secrets")).get_secret("a")


async def test_a_volume_without_its_version_has_no_secrets(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("..data/a")
    source = await opened(tmp_path)

    assert await source.get_secret("a") is None
    (tmp_path / "..data").symlink_to("..2026_01")
    assert await source.get_secret("a") is None


async def test_what_is_no_file_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        source = await opened(tmp_path)
        with pytest.raises(ConfigurationError, match="no regular file"):
            await source.get_secret("pipe")
        with pytest.raises(UnavailableError):
            await source.get_secret("socket")


async def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    private(tmp_path / "fits", "x" * 100)
    private(tmp_path / "large", "x" * 101)
    source = await opened(tmp_path, max_bytes=100)

    assert await source.get_secret("fits") == Secret("x" * 100)
    with pytest.raises(ConfigurationError, match="larger than 100 bytes"):
        await source.get_secret("large")


async def test_one_line_end_is_taken_off_a_file_and_nothing_else(tmp_path: Path) -> None:
    contents = {"a": "x\n", "b": "x\r\n", "c": "x\n\n", "d": " x ", "e": "x\r", "f": "\n", "g": ""}
    for name, content in contents.items():
        private(tmp_path / name, content)
    source = await opened(tmp_path)

    found = {name: await source.get_secret(name) for name in contents}
    assert {name: one and one.reveal() for name, one in found.items()} == {
        "a": "x", "b": "x", "c": "x\n", "d": " x ", "e": "x\r", "f": None, "g": None,
    }  # fmt: skip


MALFORMED = {
    "cut": f'{{"a": "{CANARY}',
    "list": f'["{CANARY}"]',
    "text": f'"{CANARY}"',
    "number": f'{{"a": 1, "b": "{CANARY}"}}',
    "none": f'{{"a": null, "b": "{CANARY}"}}',
    "twice": f'{{"a": "{CANARY}", "a": "x"}}',
    "two ways": f'{{"a/b": "{CANARY}", "a": {{"b": "x"}}}}',
    "id": f'{{"{CANARY} is no id": "a"}}',
    "empty": "",
    "deep": '{"a":' * 50 + f'"{CANARY}"' + "}" * 50,
    "deeper": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "not text": b'{"a": "\xff' + CANARY.encode() + b'"}',
}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=list(MALFORMED))
async def test_a_malformed_document_is_refused_and_nothing_of_it_is_shown(tmp_path: Path, content: str | bytes) -> None:
    path = private(tmp_path / "secrets.json", content)

    with pytest.raises(ConfigurationError, match=r"secrets\.json") as refused:
        await opened(path)
    assert CANARY not in everything(refused.value)


@pytest.mark.parametrize(
    "content", [f"a = {CANARY}", f"a = '{CANARY}'\na = 'x'", f"[t]\nb = '{CANARY}'\nc = 1", "[[a]]"]
)
async def test_a_malformed_toml_document_is_refused_and_nothing_of_it_is_shown(tmp_path: Path, content: str) -> None:
    path = private(tmp_path / "secrets.toml", content)

    with pytest.raises(ConfigurationError, match=r"secrets\.toml") as refused:
        await opened(path)
    assert CANARY not in everything(refused.value)


async def test_tables_within_tables_are_paths(tmp_path: Path) -> None:
    path = private(tmp_path / "secrets.toml", 'token = "t"\n[db]\npassword = "p"\n[db.replica]\npassword = "r"\n')
    source = await opened(path)

    assert await source.list_secrets() == ("db/password", "db/replica/password", "token")
    assert await source.get_secret("db/replica/password") == Secret("r")


async def test_a_document_is_read_again_when_its_file_changed_and_not_before(tmp_path: Path) -> None:
    path = private(tmp_path / "secrets.json", '{"a": "one"}')
    later = path.stat().st_mtime_ns + 3_000_000_000
    source = FileSecretAdapter(FileSecretSettings(path=path), wall_clock_ns=lambda: later)
    await source.init()

    first = await source.get_secret("a")
    assert await source.get_secret("a") is first  # the very object: nothing was parsed in between
    await source.invalidate_cache(["a"])
    again = await source.get_secret("a")
    assert (again, again is first) == (first, False)
    private(path, '{"a": "two"}')
    assert await source.get_secret("a") == Secret("two")


async def test_a_document_is_read_at_every_access_where_that_is_asked_for(tmp_path: Path) -> None:
    path = private(tmp_path / "secrets.json", '{"a": "one"}')
    later = path.stat().st_mtime_ns + 3_000_000_000
    settings = FileSecretSettings(path=path, reload_on_access=True)
    source = FileSecretAdapter(settings, wall_clock_ns=lambda: later)
    await source.init()

    assert await source.get_secret("a") is not await source.get_secret("a")


async def test_a_file_that_changed_a_moment_ago_is_read_at_every_access_because_its_times_may_not_tell_again(
    tmp_path: Path,
) -> None:
    path = private(tmp_path / "secrets.json", '{"a": "one"}')
    modified_at = path.stat().st_mtime_ns
    now = modified_at + 1_000_000_000
    source = FileSecretAdapter(FileSecretSettings(path=path), wall_clock_ns=lambda: now)
    await source.init()

    first = await source.get_secret("a")
    assert await source.get_secret("a") is not first
    now = modified_at + 3_000_000_000
    first = await source.get_secret("a")
    assert await source.get_secret("a") is first
    now = modified_at - 1_000_000_000  # a clock that was set back tells as little
    await source.invalidate_cache()
    first = await source.get_secret("a")
    assert await source.get_secret("a") is not first


async def test_nothing_is_served_from_a_document_that_turned_unfit(tmp_path: Path) -> None:
    path = private(tmp_path / "secrets.json", '{"a": "one"}')
    source = await opened(path)

    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="open to others"):
        await source.get_secret("a")
    path.chmod(0o600)
    path.write_text('{"a": "tw')
    with pytest.raises(ConfigurationError, match="is no JSON"):
        await source.health()
    path.unlink()
    with pytest.raises(UnavailableError, match="there is no secrets file"):
        await source.get_secret("a")
    private(path, '{"a": "three"}')
    assert await source.get_secret("a") == Secret("three")


async def test_a_path_that_is_not_there_says_so(tmp_path: Path) -> None:
    for path, kind in (
        (tmp_path / "missing.json", "auto"),
        (tmp_path / "missing", "directory"),
        (tmp_path / "m/n", "json"),
    ):
        with pytest.raises(UnavailableError, match=str(path.parent)):
            await opened(path, format=kind)


async def test_a_directory_given_as_a_document_is_an_error_not_a_crash(tmp_path: Path) -> None:
    private(tmp_path / "file", "{}")
    with pytest.raises(OneiricError):
        await opened(tmp_path, format="json")
    with pytest.raises(OneiricError):
        await opened(tmp_path / "file", format="directory")


async def test_files_whose_names_are_no_ids_are_not_listed(tmp_path: Path) -> None:
    for name in ("good", ".dockerconfigjson", "with space", "..hidden"):
        private(tmp_path / name, "x")
    (tmp_path / "db").mkdir()
    private(tmp_path / "db" / "password", "x")
    (tmp_path / "db" / "link").symlink_to("password")

    assert await (await opened(tmp_path)).list_secrets() == (".dockerconfigjson", "db/password", "good")


@pytest.mark.parametrize("name", ["secrets.json", "mounted"])
async def test_while_it_is_replaced_every_reader_gets_the_old_or_the_new_and_none_an_error(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name

    def replace(value: str) -> None:
        if name.endswith(".json"):
            private(tmp_path / "new", f'{{"a": "{value}", "b": "{value}"}}')
            (tmp_path / "new").rename(path)
            return
        version = path / f"..2026_{value}"
        version.mkdir(parents=True)
        private(version / "a", value)
        private(version / "b", value)
        (path / "..tmp").symlink_to(version.name)
        (path / "..tmp").rename(path / "..data")
        for secret_id in ("a", "b"):
            if not (path / secret_id).is_symlink():
                (path / secret_id).symlink_to(f"..data/{secret_id}")
        for old in path.glob("..2026_*"):
            if old != version:
                shutil.rmtree(old)

    replace("v0")
    source = await opened(path)
    is_done = False

    async def read() -> list[int]:
        seen = []
        while not is_done:
            found = await source.get_secret("a")
            assert found is not None
            seen.append(int(found.reveal()[1:]))
        return seen

    readers = [asyncio.create_task(read()) for _ in range(4)]
    for number in range(1, 200):
        await asyncio.to_thread(replace, f"v{number}")
    is_done = True
    for seen in await asyncio.gather(*readers):
        assert seen == sorted(seen)
    assert await source.get_secret("b") == Secret("v199")


async def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    private(tmp_path / "a", "x")
    private(tmp_path / "bad", "x", 0o644)
    (tmp_path / "link").symlink_to("a")
    source = await opened(tmp_path)

    def count() -> int:
        return len(list(Path("/dev/fd").iterdir()))

    before = count()
    for secret_id in ("a", "bad", "link", "missing", "a/b") * 20:
        try:
            await source.get_secret(secret_id)
        except OneiricError:
            continue
    assert count() <= before + 1
