"""Installed modules that a manifest names: are they what their distribution installed?

An entry without an artifact names code that is already here. An allow-list of names is worth little if any directory
on the path can stand in for the name: so the files that an import would run must be in the record of an installed
distribution, with the hash that stands there.

Source: PyPA, "Recording installed projects": the RECORD file.
"""

import base64
import csv
import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ModuleSpec, PathFinder
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Final, NamedTuple

from oneiric.core.errors import DigestError, FactoryNotAllowedError, FactoryNotFoundError

__all__ = ["InstalledModules", "check_installed"]

_IMPORTED: Final = (*SOURCE_SUFFIXES, *EXTENSION_SUFFIXES)


def check_installed(module: str, *, path: Sequence[str] | None = None) -> None:
    """Check one module as `InstalledModules.check` does."""
    InstalledModules(path).check(module)


class _Place(NamedTuple):
    """The file of a module, and where those below it lie."""

    file: Path | None
    below: Sequence[str]

    @classmethod
    def of(cls, spec: ModuleSpec | None) -> "_Place":
        if spec is None:
            return cls(None, ())
        file = Path(spec.origin) if spec.has_location and spec.origin else None
        return cls(file, list(spec.submodule_search_locations or ()))


class InstalledModules:
    """What the installed distributions recorded; read when it is first asked for, and once.

    Args:
        path: Where to look; by default `sys.path`.
    """

    def __init__(self, path: Sequence[str] | None = None) -> None:
        self._path = list(sys.path if path is None else path)
        self._are_right: set[Path] = set()
        self._places: dict[str, _Place] = {"": _Place(None, self._path)}

    def check(self, module: str) -> None:
        """Refuse a module whose files are not those that an installed distribution recorded; nothing is imported.

        Looked at are the module and the ``__init__.py`` of every package above it: what an import would run. Compiled
        copies beside them are not: who can write there owns the interpreter. An editable installation records no
        source, and is refused. A file that was found to be right is not read again.

        Args:
            module: Its dotted name.

        Raises:
            FactoryNotFoundError: There is no such module.
            FactoryNotAllowedError: A file of it is in no distribution's record.
            DigestError: A file of it was changed since it was installed.
        """
        for file in self._files_of(module):
            if file in self._are_right:
                continue
            recorded = self._recorded.get(str(file.resolve()))
            if recorded is None:
                raise FactoryNotAllowedError(
                    f"module {module!r} is refused: {file} is in no installed distribution's record",
                    "install its distribution, not editable; or give the entry an artifact",
                )
            algorithm, _, value = recorded.partition("=")
            if algorithm not in hashlib.algorithms_guaranteed or _hashed(file, algorithm) != value:
                raise DigestError(
                    f"module {module!r} is refused: {file} is not as it was installed", "install it again"
                )
            self._are_right.add(file)

    def _files_of(self, module: str) -> list[Path]:
        """Return the files that importing a module runs, the outermost first."""
        found: list[Path] = []
        names = module.split(".")
        for depth in range(1, len(names) + 1):
            place = self._place(".".join(names[:depth]))
            if place.file is None and (not place.below or depth == len(names)):
                raise FactoryNotFoundError(f"there is no installed module {module!r}")
            if place.file is not None:
                found.append(place.file)
        return found

    def _place(self, module: str) -> _Place:
        """Return where a module lies, if it does. The finder looks at directories and runs nothing."""
        known = self._places.get(module)
        if known is None:
            package, _, name = module.rpartition(".")
            spec = PathFinder.find_spec(name, self._places[package].below)
            known = self._places[module] = _Place.of(spec)
        return known

    @cached_property
    def _recorded(self) -> dict[str, str]:
        """File → its hash as the first distribution that lists it has recorded it."""
        found: dict[str, str] = {}
        for distribution in distributions(path=self._path):
            place = os.path.realpath(str(distribution.locate_file("")))
            for name, hashed in _listed(distribution):
                found.setdefault(os.path.normpath(f"{place}{os.sep}{name}"), hashed)
        return found


def _listed(distribution: Distribution) -> Iterator[tuple[str, str]]:
    """Yield name and hash of the files of a distribution that an import could run."""
    for row in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
        if len(row) > 1 and row[1] and row[0].endswith(_IMPORTED):
            yield row[0], row[1]


def _hashed(file: Path, algorithm: str) -> str:
    try:
        digest = hashlib.new(algorithm, file.read_bytes()).digest()
    except OSError as error:
        raise DigestError(f"{file} cannot be read: {error.strerror or error}") from error
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
