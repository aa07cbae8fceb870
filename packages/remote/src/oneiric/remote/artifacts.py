"""Artifacts: wheels, zip archives and single files, used only as the bytes that were signed for.

The order is fixed: size, digest, content, and only then does anybody import anything (`open_artifact`, `stage`,
`Artifact.mount`). What is stored (`ArtifactStore`) is stored by digest, and verified again when it is read.
Components run in the process, with its rights: verification says whose code it is, not what it does.
"""

import hashlib
import os
import stat
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from oneiric.core.errors import DigestError, FactoryNotFoundError, SchemaError, StoreError, UnsafePathError
from oneiric.core.resolution import Candidate
from oneiric.remote._artifact_archive import ArtifactLimits, check_source, read_archive
from oneiric.remote._artifact_import import ROOT_PREFIX, mount, mounted, unmount
from oneiric.remote._installed import check_installed

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Artifact",
    "ArtifactLimits",
    "ArtifactStore",
    "check_installed",
    "mounted_artifacts",
    "open_artifact",
    "stage",
]

_ARCHIVES: Final = (".whl", ".zip")
_DIGITS: Final = 64
_TEMPORARY: Final = ".incoming-"
_ABANDONED_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """Verified bytes, and the files in them.

    Attributes:
        sha256: Of the artifact.
        size: In bytes.
        files: Path → content; read-only.
    """

    sha256: str
    size: int
    files: "Mapping[str, bytes]" = field(repr=False)

    @property
    def root(self) -> str:
        """The package below which its modules are imported."""
        return f"{ROOT_PREFIX}{self.sha256}"

    @property
    def unpacked_bytes(self) -> int:
        """Of all its files together."""
        return sum(map(len, self.files.values()))

    def holds(self, module: str) -> bool:
        """Tell whether the artifact has a module of this name."""
        path = module.replace(".", "/")
        return f"{path}.py" in self.files or f"{path}/__init__.py" in self.files

    def mount(self) -> str:
        """Make its modules importable, and return the name of their root; nothing is imported yet."""
        return mount(self.sha256, self.files)

    def unmount(self) -> None:
        """Forget its modules, once nothing made of them serves: what they have not imported yet they no longer can."""
        unmount(self.sha256)


def mounted_artifacts() -> tuple[str, ...]:
    """Return the digests of the artifacts whose modules are importable now."""
    return mounted()


def open_artifact(
    data: bytes, *, sha256: str, size: int, uri: str, module: str, limits: ArtifactLimits | None = None
) -> Artifact:
    """Verify an artifact held in memory, and read what is in it; nothing is written, imported or run.

    Args:
        data: The artifact.
        sha256: What its digest must be.
        size: What its size must be.
        uri: Where it came from; its suffix (``.whl``, ``.zip``, ``.py``) says what it is.
        module: The module that its entry's factory names: what a single file is.
        limits: How much it may hold.

    Raises:
        DigestError: Size or digest are others.
        UnsafePathError: It holds what must not be unpacked.
        SchemaError: It is no sound archive or source, or of another kind.
    """
    limits = limits or ArtifactLimits()
    path = _path_in(uri)
    what = f"artifact {sha256[:12]}… of {path.rpartition('/')[2][:80]!r}"
    _verify(data, sha256, size, what)
    if size > limits.bytes:
        raise UnsafePathError(f"{what} is {size} bytes long, and {limits.bytes} is the most")
    path = path.lower()
    if path.endswith(_ARCHIVES):
        files = read_archive(data, limits, what)
    elif path.endswith(".py"):
        check_source(data, module, what)
        files = {f"{module.replace('.', '/')}.py": data}
    else:
        raise SchemaError(f"{what} is neither a wheel, nor a zip archive, nor a single .py file", "a .whl, .zip or .py")
    return Artifact(sha256=sha256.lower(), size=size, files=MappingProxyType(files))


def _path_in(uri: str) -> str:
    try:
        return urlsplit(uri).path
    except ValueError as error:
        raise SchemaError(f"artifact URI {uri!r:.120} is malformed: {error}") from error


def _verify(data: bytes, sha256: str, size: int, what: str) -> None:
    if len(data) != size:
        raise DigestError(f"{what} is {len(data)} bytes long, and {size} were signed for", "fetch it again")
    digest = hashlib.sha256(data).hexdigest()
    if digest != sha256.lower():
        raise DigestError(f"{what} has the digest {digest}, and {sha256[:64]} was signed for", "fetch it again")


def stage(candidate: Candidate, artifact: Artifact, path: str | os.PathLike[str] | None = None) -> Candidate:
    """Return a candidate whose factory lies in a verified artifact, and mount the artifact; nothing is imported.

    Args:
        candidate: Made of a manifest's entry; its factory was held against the allow-list under its own name.
        artifact: What the entry signed for.
        path: Where the artifact is stored; goes to the metadata as ``artifact_path``.

    Raises:
        DigestError: The entry signed for another artifact.
        FactoryNotFoundError: The artifact has no module of the factory's name.
    """
    if candidate.metadata.get("sha256") != artifact.sha256:
        raise DigestError(f"{candidate} signed for {candidate.metadata.get('sha256')}, and this is {artifact.sha256}")
    factory = str(candidate.factory)
    module = factory.partition(":")[0]
    if not artifact.holds(module):
        raise FactoryNotFoundError(f"{candidate}: artifact {artifact.sha256[:12]}… has no module {module!r}")
    root = artifact.mount()
    model = candidate.settings_model
    if model is not None and artifact.holds(model.partition(":")[0]):
        model = f"{root}.{model}"
    metadata = {**candidate.metadata, **({} if path is None else {"artifact_path": os.fspath(path)})}
    return candidate.replace(factory=f"{root}.{factory}", settings_model=model, metadata=metadata)


class ArtifactStore:
    """Artifacts on disk, by digest: ``<directory>/sha256/<hex>``, mode 0444 in a directory of mode 0700.

    A file here is a copy to save a download, and never trusted: it is verified again whenever it is read.

    Args:
        directory: Where; made when first written to.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = Path(directory) / "sha256"

    def path(self, sha256: str) -> Path:
        """Return where an artifact lies, or would.

        Raises:
            UnsafePathError: *sha256* is no digest.
        """
        digest = sha256.lower()
        if not _is_digest(digest):
            raise UnsafePathError(f"{sha256!r:.80} is no SHA-256 digest")
        return self._directory / digest

    def put(self, data: bytes, *, sha256: str, size: int) -> Path:
        """Store verified bytes; when this returns, they and their name are on the disk.

        Raises:
            DigestError: They are others than *sha256* and *size* say; nothing is written.
            StoreError: They cannot be written; nothing is left of the attempt.
        """
        _verify(data, sha256, size, f"artifact {sha256[:12]}…")
        target = self.path(sha256)
        if self.get(sha256, size=size) is not None:
            return target
        try:
            for each in (*reversed(self._directory.parents), self._directory):
                each.mkdir(mode=0o700, exist_ok=True)
            self._write(target, data)
        except OSError as error:
            raise StoreError(f"artifact {target} cannot be stored: {error.strerror or error}") from error
        return target

    def _write(self, target: Path, data: bytes) -> None:
        descriptor, temporary = tempfile.mkstemp(prefix=_TEMPORARY, dir=self._directory)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), 0o444)
                os.fsync(file.fileno())
            Path(temporary).replace(target)
        except BaseException:
            with suppress(OSError):
                Path(temporary).unlink()
            raise
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def get(self, sha256: str, *, size: int) -> bytes | None:
        """Return an artifact's bytes, verified; None when it is not here, or what is here is not it.

        What is not it stays where it is, for who looks into it, until the next `put` replaces it.

        Raises:
            StoreError: It is here and cannot be read.
        """
        path = self.path(sha256)
        data = _read(path, size)
        if data is not None and hashlib.sha256(data).hexdigest() == sha256.lower():
            return data
        return None

    def holds_any(self) -> bool:
        """Tell whether anything is stored here, sound or not."""
        return any(_is_digest(path.name) for path in self._directory.glob("*"))

    def keep(self, digests: "frozenset[str]", *, is_alone: bool = False) -> int:
        """Remove every artifact but these, and return how many were removed.

        What this store did not write stays: other files, whatever lies behind a link in the directory's place, and
        what another process writes at the moment.

        Args:
            digests: Of what is to stay.
            is_alone: Whether no other process can write here at the moment: what is half-written was then abandoned.
        """
        removed = 0
        if self._directory.is_symlink():
            return removed
        for path in self._directory.glob("*"):
            if path.name not in digests and (_is_digest(path.name) or _is_abandoned(path, is_alone=is_alone)):
                with suppress(OSError):
                    path.unlink()
                    removed += 1
        return removed


def _is_digest(text: str) -> bool:
    return len(text) == _DIGITS and set(text) <= set("0123456789abcdef")


def _is_abandoned(path: Path, *, is_alone: bool) -> bool:
    """Tell whether this is what a writer that was killed left behind."""
    if not path.name.startswith(_TEMPORARY):
        return False
    if is_alone:
        return True
    try:
        return time.time() - path.stat(follow_symlinks=False).st_mtime > _ABANDONED_SECONDS
    except OSError:
        return False


def _read(path: Path, size: int) -> bytes | None:
    """Return a regular file of just this size; None where there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        if path.is_symlink():
            return None
        raise StoreError(f"artifact {path} cannot be read: {error.strerror or error}") from error
    try:
        found = os.fstat(descriptor)
        # An entry may state any size: no more is made room for than there is.
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            return None
        with os.fdopen(os.dup(descriptor), "rb") as file:
            data = file.read(size + 1)
        return data if len(data) == size else None
    finally:
        os.close(descriptor)
