"""Archives that are read one way here and another way there: refused, or read by what the directory says alone."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING

import pytest
from tests.remote.archives import digest, packed, with_link

from oneiric.core.errors import ManifestError
from oneiric.remote.artifacts import Artifact, ArtifactLimits, open_artifact

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "acme/cache.py"
SOURCE = b"class Cache: ...\n"


def opened(data: bytes, limits: ArtifactLimits | None = None) -> Artifact:
    return open_artifact(data, sha256=digest(data), size=len(data), uri="acme.zip", module="acme.cache", limits=limits)


class Pipe(io.BytesIO):
    """What cannot be gone back in: sizes then stand behind the content."""

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise OSError

    def seek(self, *_: object) -> int:
        raise OSError


def written(file: io.BytesIO, *, zip64: bool = False) -> bytes:
    with zipfile.ZipFile(file, "w") as archive, archive.open(NAME, "w", force_zip64=zip64) as member:
        member.write(SOURCE)
    return file.getvalue()


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def renamed_in_an_extra_field(name: str) -> bytes:
    """Return an archive whose file is called otherwise by a field that some readers prefer to the name."""
    member = zipfile.ZipInfo(NAME)
    body = struct.pack("<BI", 1, zlib.crc32(NAME.encode())) + name.encode()
    member.extra = struct.pack("<HH", 0x7075, len(body)) + body
    packed_into = io.BytesIO()
    with zipfile.ZipFile(packed_into, "w") as archive:
        archive.writestr(member, SOURCE)
    return packed_into.getvalue()


def overlapping(count: int) -> bytes:
    """Return an archive whose directory names the same bytes again and again."""
    data = packed({NAME: bytes(1_000_000)})
    start, end = data.index(b"PK\x01\x02"), data.rindex(b"PK\x05\x06")
    rows = b"".join(data[start:end].replace(NAME.encode(), f"acme/c{each:03}.py".encode()) for each in range(count))
    return data[:start] + rows + patched(data[end:], 8, struct.pack("<HHI", count, count, len(rows)))


def with_another_descriptor() -> bytes:
    data = written(Pipe())
    return patched(data, data.index(b"PK\x07\x08") + 4, bytes(4))


def with_a_second_directory() -> bytes:
    """Return an archive that holds the directory and the end of another one behind its own end."""
    hidden = packed([(NAME, SOURCE), ("acme/more.py", b"evil = 1")])
    shown = packed({NAME: SOURCE})
    start = hidden.index(b"PK\x01\x02")
    end = hidden.rindex(b"PK\x05\x06")
    comment = hidden[start:end] + patched(hidden[end:], 16, struct.pack("<I", len(shown)))
    return shown[:-2] + struct.pack("<H", len(comment)) + comment


SOUND: dict[str, Callable[[], bytes]] = {
    "sizes of 64 bits": lambda: written(io.BytesIO(), zip64=True),
    "sizes behind the content": lambda: written(Pipe()),
    "another size in front of the content": lambda: patched(written(io.BytesIO()), 22, struct.pack("<I", 5)),
    "another checksum behind the content": with_another_descriptor,
    "what looks like an end within a file": lambda: packed([(NAME, SOURCE), ("acme/e.txt", b"PK\x05\x06" + bytes(18))]),
    "an archive within": lambda: packed([(NAME, SOURCE), ("acme/more.zip", packed({"os.py": "evil"}))]),
    "a file that sets the user": lambda: packed({NAME: SOURCE}, external_attr=(stat.S_IFREG | 0o4777) << 16),
}


@pytest.mark.parametrize("trick", SOUND)
def test_what_the_directory_says_is_all_that_counts(trick: str) -> None:
    artifact = opened(SOUND[trick]())

    assert artifact.files[NAME] == SOURCE
    assert not any(path.startswith("os") for path in artifact.files)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "another name in an extra field": lambda: renamed_in_an_extra_field("../../evil.py"),
    "a harmless name in an extra field": lambda: renamed_in_an_extra_field("acme/evil.py"),
    "a link made on a system without links": lambda: packed(
        {NAME: "/etc/passwd"}, external_attr=(stat.S_IFLNK | 0o777) << 16, create_system=0
    ),
    "a directory that is a link": lambda: with_link("acme/", "/etc"),
    "the same bytes two hundred times": lambda: overlapping(200),
    "a second directory behind the first": with_a_second_directory,
    "a second end in a comment": lambda: written(io.BytesIO())[:-2] + b"\x16\x00" + b"PK\x05\x06" + bytes(18),
}


@pytest.mark.parametrize("trick", HOSTILE)
def test_what_two_readers_would_read_otherwise_is_refused(trick: str) -> None:
    with pytest.raises(ManifestError):
        opened(HOSTILE[trick]())


def test_the_same_bytes_under_several_names_are_refused_however_much_may_be_unpacked() -> None:
    with pytest.raises(ManifestError):
        opened(overlapping(3), ArtifactLimits(ratio=10**6))


def test_deep_directories_cost_no_more_than_their_names() -> None:
    """Five thousand files 140 levels down: each level is looked at once and not once for each file."""
    artifact = opened(packed({"d/" * 140 + f"f{number}.txt": "" for number in range(5000)} | {NAME: SOURCE}))

    assert len(artifact.files) == 5001
