"""Settings as they were loaded: the values, and where each of them came from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import get_args, get_origin

from oneiric.core.errors import ConfigurationError
from oneiric.runtime.settings._model import OneiricSettings
from oneiric.runtime.settings._origin import DEFAULT, Origin, Path, dotted
from oneiric.runtime.settings._schema import annotation_at, preferred
from oneiric.runtime.settings._unknown import unknown_setting

__all__ = ["LoadedSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedSettings:
    """Settings, and where each of their values came from.

    Attributes:
        settings: The checked settings.
        path: The file or directory they were read from, or None.
        files: The files that were read, in the order of reading.
        digest: SHA-256, in hexadecimal, over all that was read: files, environment, overrides and profile.
            Two loads of the same input have the same digest. Variables that hold a secret are left out.
        origins: Path of a value → where it came from; what is not in it is a default.
        overridden: Path of a value → the weaker sources that set it too, strongest first.
        stack_order: The text of ``ONEIRIC_STACK_ORDER``.
    """

    settings: OneiricSettings
    path: str | None = None
    files: tuple[FilePath, ...] = ()
    digest: str = ""
    origins: Mapping[Path, Origin] = field(default_factory=dict, repr=False)
    overridden: Mapping[Path, tuple[Origin, ...]] = field(default_factory=dict, repr=False)
    stack_order: str = ""

    def origin(self, key: str | Path) -> str:
        """Return where a value came from.

        Args:
            key: A dotted key, such as ``"adapters.selections.cache"``, or the parts of one.

        Returns:
            ``"settings/adapters.yml:3"``, ``"environment ONEIRIC_APP__NAME"``, ``"command line"``,
            ``"profile serverless"`` or ``"default"``.

        Raises:
            ConfigurationError: There is no such setting.
        """
        return str(self.origin_of(self.path_of(key) if isinstance(key, str) else key))

    def path_of(self, key: str) -> Path:
        """Return the path that a dotted key names, by any of its names.

        Keys may hold dots themselves, so that a known one is preferred.
        """
        spelt = {dotted(path): path for path in self.origins}
        return spelt.get(key) or preferred(OneiricSettings, tuple(key.split(".")))

    def origin_of(self, path: Path) -> Origin:
        """Return where a value came from, as a value.

        Raises:
            ConfigurationError: There is no such setting.
        """
        found = self.origins.get(path)
        if found is None and annotation_at(OneiricSettings, path) is None and not _is_text_key(path):
            raise ConfigurationError(*unknown_setting(path), key=dotted(path))
        return found or DEFAULT

    def origin_near(self, path: Path) -> Origin:
        """Return where a value came from, or the nearest one above it; any path will do."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return DEFAULT


def _is_text_key(path: Path) -> bool:
    """Tell whether a path names a key with dots in a table of texts."""
    tables = (annotation_at(OneiricSettings, path[:length]) for length in range(1, len(path) - 1))
    return any(get_origin(table) is dict and get_args(table)[1] is str for table in tables)
