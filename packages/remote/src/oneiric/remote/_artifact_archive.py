"""What may be in an archive: files and directories, under names that mean one thing on every system, and nothing else.

An archive is read from bytes in memory, and nothing is written anywhere. There is no tar here: too much of what a tar
may hold is dangerous.
"""

import io
import re
import stat
import struct
import sys
import unicodedata
import zipfile
import zlib
from dataclasses import dataclass
from typing import Final

from oneiric.core.errors import SchemaError, UnsafePathError

__all__ = ["ArtifactLimits", "check_source", "read_archive"]

_NATIVE_NAME = re.compile(r"\.(?:so|pyd|dll|dylib|a|o|lib|exe|node)(?:\.[0-9.]+)?\Z", re.IGNORECASE)
_NATIVE_MAGIC: Final = (
    b"\x7fELF",
    b"MZ",
    b"\xfe\xed\xfa\xce",
    b"\xfe\xed\xfa\xcf",
    b"\xce\xfa\xed\xfe",
    b"\xcf\xfa\xed\xfe",
    b"\xca\xfe\xba\xbe",
    b"!<arch>\n",
)
#: Python runs these at its start, wherever they lie on its path.
_STARTUP: Final = frozenset({"sitecustomize", "usercustomize"})
_FORBIDDEN: Final = frozenset('\\:*?"<>|')
_MOST_PATH: Final = 300
_END: Final = b"PK\x05\x06"
_END_BYTES: Final = 22
#: Of the end: size and start of the directory. Of a file's header: lengths of the name and of what follows it.
_DIRECTORY: Final = struct.Struct("<II")
_LENGTHS: Final = struct.Struct("<HH")
_HEADER_BYTES: Final = 30
_DESCRIPTOR: Final = 0x8
_MOST_DESCRIPTOR: Final = 24
#: Encrypted, patched, strongly encrypted.
_FLAGS: Final = 0x1 | 0x20 | 0x40


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactLimits:
    """How much an artifact may hold, and all of a manifest together.

    Attributes:
        bytes: The artifact itself.
        files: In an archive.
        unpacked_bytes: All files of an archive together.
        ratio: How many times larger than itself an archive may unpack to, once that is more than a mebibyte.
        manifest_bytes: All artifacts of one manifest together, packed as well as unpacked: they are held in memory.
        publisher_seconds: How long all artifacts of a delegated publisher may take to be had: the product's own
            updates wait for them.
    """

    bytes: int = 64 * 1024 * 1024
    files: int = 10_000
    unpacked_bytes: int = 256 * 1024 * 1024
    ratio: int = 100
    manifest_bytes: int = 1024 * 1024 * 1024
    publisher_seconds: float = 300.0


def read_archive(data: bytes, limits: ArtifactLimits, what: str) -> dict[str, bytes]:
    """Return the files of a zip archive or wheel: path → bytes.

    Raises:
        UnsafePathError: It holds a path, a link, a kind of file or an amount that must not be unpacked.
        SchemaError: It is no sound zip archive.
    """
    if not data.startswith(b"PK\x03\x04") or data[-_END_BYTES:-18] != _END or data[-2:] != b"\x00\x00":
        raise SchemaError(
            f"{what} is no plain zip archive: it must hold nothing before its first file or after its end"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            _check_amount(members, len(data), limits, what)
            _check_layout(data, members, what)
            _check_names(members, what)
            return {each.filename: _content(archive, each, what) for each in members if not each.is_dir()}
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, OSError, ValueError, RuntimeError) as error:
        raise SchemaError(f"{what} is no sound zip archive: {error}"[:300]) from error


def _check_amount(members: list[zipfile.ZipInfo], size: int, limits: ArtifactLimits, what: str) -> None:
    if len(members) > limits.files:
        raise UnsafePathError(f"{what} holds {len(members)} files, and {limits.files} is the most")
    unpacked = sum(each.file_size for each in members)
    if unpacked > limits.unpacked_bytes:
        raise UnsafePathError(f"{what} unpacks to {unpacked} bytes, and {limits.unpacked_bytes} is the most")
    if unpacked > max(1024 * 1024, size * limits.ratio):
        raise UnsafePathError(f"{what} unpacks to more than {limits.ratio} times its size")


def _check_layout(data: bytes, members: list[zipfile.ZipInfo], what: str) -> None:
    """Refuse an archive whose files and directory do not follow one another from its first byte to its end.

    What lies between is what another reader may take for the archive: a second directory, or the same bytes as two
    files.
    """
    size, start = _DIRECTORY.unpack(data[-10:-2])
    behind, spare = 0, 0
    sound = start + size == len(data) - _END_BYTES
    for member in sorted(members, key=lambda each: each.header_offset):
        begins = member.header_offset
        sound = sound and behind <= begins <= behind + spare and begins + _HEADER_BYTES <= start
        if not sound:
            break
        name, extra = _LENGTHS.unpack_from(data, begins + _HEADER_BYTES - _LENGTHS.size)
        behind = begins + _HEADER_BYTES + name + extra + member.compress_size
        # Behind the content its sizes may stand once more.
        spare = _MOST_DESCRIPTOR if member.flag_bits & _DESCRIPTOR else 0
    if not (sound and behind <= start <= behind + spare):
        raise SchemaError(f"{what} is no plain zip archive: its files and its directory do not follow one another")


def _check_names(members: list[zipfile.ZipInfo], what: str) -> None:
    seen: dict[str, str] = {}
    for member in members:
        path = member.filename
        _check_kind(member, what)
        _check_path(path, what)
        # Python reads an identifier as its compatibility form, and some file systems know no case.
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", path.rstrip("/")).casefold())
        if folded in seen:
            raise UnsafePathError(f"{what} holds {path!r:.120} and {seen[folded]!r:.120}, which are one file to some")
        seen[folded] = path
    files = {folded for folded, path in seen.items() if not path.endswith("/")}
    directories: set[str] = set()
    for folded, path in seen.items():
        parent = folded.rpartition("/")[0]
        while parent and parent not in directories:
            if parent in files:
                raise UnsafePathError(f"{what} holds {path!r:.120} below a file")
            directories.add(parent)
            parent = parent.rpartition("/")[0]


def _check_kind(member: zipfile.ZipInfo, what: str) -> None:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise UnsafePathError(f"{what} holds {member.filename!r:.120}, which is a link or a device")
    if member.is_dir() and member.file_size:
        raise UnsafePathError(f"{what} holds a directory with content, {member.filename!r:.120}")
    if member.orig_filename != member.filename:
        raise UnsafePathError(f"{what} holds a file with two names, {member.orig_filename!r:.120}")
    if member.flag_bits & _FLAGS or member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise UnsafePathError(f"{what} holds {member.filename!r:.120}, which is encrypted or packed in another way")


def _check_path(path: str, what: str) -> None:
    segments = path.removesuffix("/").split("/")
    if (
        len(path) > _MOST_PATH
        or any(not segment or segment in {".", ".."} or segment[-1] in ". " for segment in segments)
        or not _FORBIDDEN.isdisjoint(path)
        or not path.isprintable()
        or not unicodedata.is_normalized("NFC", path)
    ):
        raise UnsafePathError(f"{what} holds the path {path!r:.120}, which is not safe on every system")
    if path.endswith("/"):
        return
    name, stem = segments[-1], segments[-1].partition(".")[0]
    if name.lower().endswith((".pth", ".pyc", ".pyo")):
        raise UnsafePathError(f"{what} holds {path!r:.120}: startup files and compiled code are never imported")
    if stem.lower() in _STARTUP:
        raise UnsafePathError(f"{what} holds {path!r:.120}, which Python would run at its start")
    if _NATIVE_NAME.search(name):
        raise UnsafePathError(f"{what} holds native code, {path!r:.120}")
    if segments[0].endswith(".data"):
        raise UnsafePathError(f"{what} holds {path!r:.120}, which an installer would put elsewhere")
    _check_top(segments[0] if len(segments) > 1 else stem, path, what)


def _check_top(top: str, path: str, what: str) -> None:
    lowered = unicodedata.normalize("NFKC", top).lower()
    if lowered in _STARTUP:
        raise UnsafePathError(f"{what} holds {path!r:.120}, which Python would run at its start")
    if lowered in sys.stdlib_module_names or top in sys.stdlib_module_names:
        raise UnsafePathError(f"{what} holds {path!r:.120}, which stands in the way of the standard library's {top!r}")
    if lowered == "oneiric" or lowered.startswith("_oneiric"):
        raise UnsafePathError(f"{what} holds {path!r:.120}, which stands in the way of Oneiric's own modules")


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo, what: str) -> bytes:
    # Reading stops at the stated size, and the checksum finds whoever stated it wrongly.
    content = archive.read(member)
    if content.startswith(_NATIVE_MAGIC):
        raise UnsafePathError(f"{what} holds native code, {member.filename!r:.120}")
    return content


def check_source(data: bytes, module: str, what: str) -> None:
    """Refuse what cannot be the source of a single module.

    Raises:
        UnsafePathError: It is native or compiled code, or stands in another module's way.
        SchemaError: It is no text.
    """
    if data.startswith((*_NATIVE_MAGIC, b"PK\x03\x04")):
        raise UnsafePathError(f"{what} is no Python source")
    if b"\x00" in data:
        raise SchemaError(f"{what} is no text")
    _check_path(f"{module.replace('.', '/')}.py", what)
