"""Installed modules that a manifest names: are they what their distribution installed?

An entry without an artifact names code that is already here. An allow-list of names is worth little if any directory
on the path can stand in for the name: so the files that an import would run must be in the record of an installed
distribution, with the hash that stands there.

Source: PyPA, "Recording installed projects": the RECORD file.
"""

import base64
import hashlib
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from importlib.metadata import Distribution, PackagePath, distributions
from pathlib import Path

from oneiric.core.errors import DigestError, FactoryNotAllowedError, FactoryNotFoundError

__all__ = ["check_installed"]


def check_installed(module: str, *, path: Sequence[str] | None = None) -> None:
    """Refuse a module whose files are not those that an installed distribution recorded; nothing is imported.

    Looked at are the module and the ``__init__.py`` of every package above it: what an import would run. Compiled
    copies beside them are not: who can write there owns the interpreter. An editable installation records no source,
    and is refused.

    Args:
        module: Its dotted name.
        path: Where to look; by default `sys.path`.

    Raises:
        FactoryNotFoundError: There is no such module.
        FactoryNotAllowedError: A file of it is in no distribution's record.
        DigestError: A file of it was changed since it was installed.
    """
    search = list(sys.path if path is None else path)
    for file in _files_of(module, search):
        recorded = next((hashed for each in distributions(path=search) if (hashed := _recorded(each, file))), None)
        if recorded is None:
            raise FactoryNotAllowedError(
                f"module {module!r} is refused: {file} is in no installed distribution's record",
                "install its distribution, not editable; or give the entry an artifact",
            )
        algorithm, value = recorded
        if algorithm not in hashlib.algorithms_guaranteed or _hashed(file, algorithm) != value:
            raise DigestError(f"module {module!r} is refused: {file} is not as it was installed", "install it again")


def _files_of(module: str, search: list[str]) -> list[Path]:
    """Return the files that importing a module runs, the outermost first."""
    found: list[Path] = []
    places: Sequence[str] = search
    for depth, name in enumerate(names := module.split("."), 1):
        file, places = _found(name, places)
        if file is None and (not places or depth == len(names)):
            raise FactoryNotFoundError(f"there is no installed module {module!r}")
        if file is not None:
            found.append(file)
    return found


def _found(name: str, places: Sequence[str]) -> tuple[Path | None, Sequence[str]]:
    """Return the file of a module, and where those below it lie. The finder looks at directories and runs nothing."""
    spec = PathFinder.find_spec(name, places)
    if spec is None:
        return None, ()
    file = Path(spec.origin) if spec.has_location and spec.origin else None
    return file, list(spec.submodule_search_locations or ())


def _recorded(distribution: Distribution, file: Path) -> tuple[str, str] | None:
    """Return algorithm and value of a file's hash in a distribution's record."""
    for listed in _listed(distribution, file.name):
        if listed.hash is not None and Path(str(distribution.locate_file(listed))).resolve() == file.resolve():
            return listed.hash.mode, listed.hash.value
    return None


def _listed(distribution: Distribution, name: str) -> Iterator[PackagePath]:
    # Most distributions have no such file: their record is not parsed.
    if f"{name}," in (distribution.read_text("RECORD") or ""):
        yield from (each for each in distribution.files or () if each.name == name)


def _hashed(file: Path, algorithm: str) -> str:
    try:
        digest = hashlib.new(algorithm, file.read_bytes()).digest()
    except OSError as error:
        raise DigestError(f"{file} cannot be read: {error.strerror or error}") from error
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
