"""Catalogue files: found beside a package that is never imported, read within bounds."""

import os
import stat
from typing import TYPE_CHECKING, Any, Final

from oneiric.core._candidate import Candidate, CandidateSource
from oneiric.core.catalog._rows import candidate_from_row
from oneiric.core.errors import CatalogError, DuplicateCandidateError, InvalidCandidateError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["find_catalog", "read_catalog"]

FILE_NAME: Final = "catalog.toml"
MAX_BYTES: Final = 1 << 20
SCHEMA: Final = 1


def read_catalog(catalog: "str | Path", origin: str, *, name: str | None = None) -> tuple[Candidate, ...]:
    """Return the candidates of a catalogue, in its order.

    Args:
        catalog: The path of a file, or the text itself.
        origin: What the candidates come from; withdrawal goes by it.
        name: What errors call the catalogue; by default its path, or ``catalog.toml``.

    Raises:
        CatalogError: The file cannot be read, is not TOML, or an entry breaks the schema; the message names
            the file and the number of the entry.
        DuplicateCandidateError: Two entries have the same domain, key and provider.
    """
    if isinstance(catalog, str):
        content, name = catalog.encode(errors="surrogatepass"), name or FILE_NAME
    else:
        name = name or str(catalog)
        content = read_bounded(str(catalog))
    return parse_catalog(content, origin, name)


def parse_catalog(content: bytes, origin: str, name: str) -> tuple[Candidate, ...]:
    """Return the candidates of a catalogue's bytes; raises as `read_catalog` does."""
    candidates = []
    seen: set[tuple[str, str, str, str]] = set()
    for number, row in enumerate(_entries(content, name), 1):
        where = f"{name} entry {number}"
        try:
            candidate = candidate_from_row(row, source=CandidateSource.LOCAL_PKG, origin=origin, where=where)
        except InvalidCandidateError as error:
            raise CatalogError(f"{where} is wrong: {error.message}", error.hint) from error
        if candidate.identity in seen:
            raise DuplicateCandidateError(*candidate.identity)
        seen.add(candidate.identity)
        candidates.append(candidate)
    return tuple(candidates)


def _entries(content: bytes, name: str) -> list[Any]:
    document = _document(content, name)
    if document.get("schema") != SCHEMA or type(document["schema"]) is not int:
        raise CatalogError(
            f"{name} states schema {document.get('schema')!r:.40}; this version reads {SCHEMA}",
            f"schema = {SCHEMA} as its first line",
        )
    entries = document.get("entries", [])
    if unknown := sorted(set(document) - {"schema", "entries"}):
        raise CatalogError(f"{name} has an unknown table or field {unknown[0][:60]!r}", "[[entries]]")
    if not isinstance(entries, list):
        raise CatalogError(f"{name}: entries must be an array of tables", "[[entries]] for each one")
    return entries


def _document(content: bytes, name: str) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - only a process that reads a catalogue pays for it

    if len(content) > MAX_BYTES:
        raise CatalogError(f"{name} is larger than {MAX_BYTES} bytes")
    try:
        return tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise CatalogError(f"{name} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except RecursionError as error:
        raise CatalogError(f"{name} is nested too deeply") from error
    except ValueError as error:  # TOMLDecodeError is one, and so is an integer of too many digits
        raise CatalogError(f"{name} is not TOML: {error}") from error


def read_bounded(path: str) -> bytes:
    """Return the bytes of a file that may lie in a zip archive.

    Raises:
        CatalogError: It does not exist, is not a regular file, is too large, or cannot be read.
    """
    try:
        content = _bytes_of(path)
    except OSError as error:
        raise CatalogError(f"{path} cannot be read: {error.strerror or error}") from error
    if content is None:
        raise CatalogError(f"{path} does not exist")
    return content


def _bytes_of(path: str) -> bytes | None:
    """Return a file's bytes; None when there is no such file."""
    try:
        status = os.stat(path)  # noqa: PTH116 - pathlib costs more than reading the file
    except (FileNotFoundError, NotADirectoryError):
        return _bytes_in_archive(path)
    if not stat.S_ISREG(status.st_mode):
        raise CatalogError(f"{path} is not a regular file")
    with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs more than reading the file
        return file.read(MAX_BYTES + 1)


def _bytes_in_archive(path: str) -> bytes | None:
    archive = path
    while archive := archive.rpartition("/")[0]:
        if os.path.isfile(archive):  # noqa: PTH113 - as above
            break
    else:
        return None
    from zipimport import ZipImportError, zipimporter  # noqa: PLC0415 - only a zipped package pays for it

    try:
        return zipimporter(archive).get_data(path)
    except (ZipImportError, OSError):
        return None


def find_catalog(package: str) -> tuple[str, bytes]:
    """Return the path and the bytes of the catalogue beside a package's code; no code of the package runs.

    Only the first name of *package* is looked up, and the import system finds that without running anything.
    The rest of the way is directories: to ask it for ``a.b`` would import ``a``.

    Raises:
        CatalogError: The package is not installed, or has no catalogue.
    """
    top, *rest = package.split(".")
    locations = _locations(top)
    if locations is None:
        raise CatalogError(f"package {package!r} is not installed: there is no package {top!r}")
    for segment in rest:
        locations = _below(locations, segment)
    for location in locations:
        path = f"{location}/{FILE_NAME}"
        if (content := _bytes_of(path)) is not None:
            return path, content
    raise CatalogError(
        f"package {package!r} has no {FILE_NAME}",
        f"state it in the distribution's package data, beside {package}/__init__.py",
    )


def _locations(top: str) -> list[str] | None:
    from importlib.util import find_spec  # noqa: PLC0415 - only a process that discovers pays for it

    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return None
    return None if spec is None or spec.submodule_search_locations is None else list(spec.submodule_search_locations)


def _below(locations: list[str], segment: str) -> list[str]:
    """Return where a subpackage may lie: a regular package hides all portions of a namespace."""
    below = [f"{location}/{segment}" for location in locations]
    regular = (place for place in below if os.path.isfile(f"{place}/__init__.py"))  # noqa: PTH113 - as above
    first = next(regular, None)
    return below if first is None else [first]
