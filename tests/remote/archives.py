"""Archives that a careful tool would never write."""

from __future__ import annotations

import hashlib
import io
import stat
import struct
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any


def packed(files: Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]], **info: Any) -> bytes:
    """Return a zip archive; a list of pairs may name a file twice."""
    pairs = files.items() if isinstance(files, Mapping) else files
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a name comes twice is what some tests want
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in pairs:
                member = zipfile.ZipInfo(name)
                member.compress_type = zipfile.ZIP_DEFLATED
                for attribute, value in info.items():
                    setattr(member, attribute, value)
                archive.writestr(member, content)
    return buffer.getvalue()


def with_link(name: str, target: str, kind: int = stat.S_IFLNK) -> bytes:
    return packed({name: target}, external_attr=(kind | 0o777) << 16, create_system=3)


def renamed(data: bytes, before: bytes, after: bytes, *, central_only: bool = False) -> bytes:
    """Overwrite a name in the headers, as long as it is."""
    assert len(before) == len(after)
    if not central_only:
        return data.replace(before, after)
    place = data.rindex(before)
    return data[:place] + after + data[place + len(before) :]


def understated(data: bytes, size: int) -> bytes:
    """Return the archive whose only file says that it unpacks to *size* bytes."""
    central = data.index(b"PK\x01\x02")
    changed = bytearray(data)
    changed[22:26] = struct.pack("<I", size)
    changed[central + 24 : central + 28] = struct.pack("<I", size)
    return bytes(changed)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
