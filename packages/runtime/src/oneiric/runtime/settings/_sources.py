"""Configuration on disk: one file, or a directory with a file per section."""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path as FilePath
from typing import Any, Final

from oneiric.core.errors import ConfigurationError
from oneiric.runtime.settings._document import SUFFIXES, Document, read_document
from oneiric.runtime.settings._model import OneiricSettings
from oneiric.runtime.settings._origin import Layer, Path, refuse
from oneiric.runtime.settings._schema import annotation_at, preferred

__all__ = ["Config", "read_config"]

#: The file of a directory that holds any section, as a single-file configuration does.
_WHOLE: Final = "oneiric"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What was read from disk.

    Attributes:
        layer: The settings.
        files: Each file that was read and the SHA-256 of its bytes, in the order of reading.
    """

    layer: Layer
    files: tuple[tuple[FilePath, str], ...] = ()


def read_config(path: FilePath) -> Config:
    """Read a configuration file, or the section files of a directory.

    In a directory, ``adapters.yml`` holds the section ``adapters``, and ``oneiric.toml`` any sections;
    where both set a value, the section's own file has it.

    Raises:
        ConfigurationError: A file cannot be read or is not what its name says.
    """
    found = _files(path) if path.is_dir() else [(_WHOLE, path)]
    config, files = Layer(), []
    for stem, file in found:
        document = read_document(file)
        files.append((file, document.digest))
        # oneiric.* comes first, so that section files are laid over it.
        config.merge(_layer(document, str(file), () if stem == _WHOLE else (stem,)))
    return Config(layer=config, files=tuple(files))


def _files(directory: FilePath) -> list[tuple[str, FilePath]]:
    known = [_WHOLE, *OneiricSettings.model_fields]
    found: dict[str, FilePath] = {}
    try:
        names = sorted(directory.iterdir())
    except OSError as error:
        raise ConfigurationError(
            f"cannot be read: {error.strerror}", "check its permissions", str(directory)
        ) from error
    for file in names:
        if file.name.startswith(".") or file.suffix.lower() not in SUFFIXES or file.is_dir():
            continue
        if file.stem not in known:
            near = get_close_matches(file.stem, known, n=1)
            hint = f"{near[0]}{file.suffix}" if near else "keep only oneiric.toml and files named after sections here"
            raise ConfigurationError(f"is not named after a section: there is no {file.stem[:80]!r}", hint, str(file))
        if file.stem in found:
            raise ConfigurationError(f"repeats {found[file.stem].name}", "keep one of the two", str(file))
        found[file.stem] = file
    return sorted(found.items(), key=lambda entry: (entry[0] != _WHOLE, entry[0]))


def _layer(document: Document, file: str, base: Path) -> Layer:
    """Give a document its place in the settings, and every name in it the spelling that the model prefers."""
    layer = Layer()

    def adopted(value: Any, annotation: Any, written: Path, path: Path) -> Any:
        layer.origins[path] = document.origin(file, written)
        if isinstance(value, list):
            inner = annotation_at(annotation, (0,))
            return [adopted(below, inner, (*written, place), (*path, place)) for place, below in enumerate(value)]
        if not isinstance(value, dict):
            return value
        table: dict[str, Any] = {}
        for name, below in value.items():
            own = str(preferred(annotation, (name,))[0])
            if own in table:
                origin = document.origin(file, (*written, name))
                raise refuse(f"is given twice: {name!r} is another name of it", "keep one", (*path, own), origin)
            inner = annotation_at(annotation, (name,))
            table[own] = adopted(below, inner, (*written, name), (*path, own))
        return table

    layer.data = adopted(document.data, annotation_at(OneiricSettings, base), (), base)
    for part in reversed(base):
        layer.data = {str(part): layer.data}
    layer.origins.pop((), None)
    return layer
