"""The installed distributions, read from their ``.dist-info`` directories.

`importlib.metadata` does the same and more, and costs tens of milliseconds to import: a command that lists
candidates would spend most of its time on it. What it finds and a directory listing does not (zip archives,
egg metadata, finders of other tools) is still found: such places are handed to it. Paths are plain strings
for the same reason: `pathlib` costs more than the whole listing.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from oneiric.core._requirements import normalized

if TYPE_CHECKING:
    from importlib.metadata import Distribution as MetadataDistribution

__all__ = ["Installed", "find_installed", "iter_installed"]

_SUFFIX: Final = ".dist-info"
_EGGS: Final = (".egg-info", ".egg")


class Installed:
    """One installed distribution; its files are read when asked for.

    Attributes:
        name: Normalised.
        place: Where it was found, for reports.
    """

    __slots__ = ("_directory", "_slow", "name", "place")

    def __init__(self, name: str, directory: str = "", slow: "MetadataDistribution | None" = None) -> None:
        self.name = name
        self._directory = directory
        self._slow = slow
        self.place = directory or str(getattr(slow, "_path", ""))

    @property
    def version(self) -> str:
        """Its version, from the name of its directory, else from its metadata; empty when neither tells."""
        if self._slow is not None:
            return self._slow.version or ""
        stem = self._directory.rpartition("/")[2].removesuffix(_SUFFIX)
        return stem.partition("-")[2] or next(iter(self.header("Version")), "")

    def read(self, name: str) -> str | None:
        """Return one of its metadata files, or None when it has no such file or it cannot be read."""
        if self._slow is not None:
            return self._slow.read_text(name)
        try:
            with open(f"{self._directory}/{name}", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - see above
                return file.read()
        except OSError:
            return None

    def header(self, field: str) -> list[str]:
        """Return every value of a header of its METADATA, such as ``Requires-Dist``."""
        if self._slow is not None:
            return [str(value) for value in self._slow.metadata.get_all(field) or ()]
        lead = f"{field.lower()}:"
        found = []
        for line in (self.read("METADATA") or "").splitlines():
            if not line:
                break
            if line.lower().startswith(lead):
                found.append(line[len(lead) :].strip())
        return found


def iter_installed(path: Iterable[str] | None = None) -> Iterator[Installed]:
    """Yield the distributions on *path* (by default ``sys.path``), in its order, the first of each name."""
    seen: set[str] = set()
    for installed in _all_on(sys.path if path is None else path, None):
        if installed.name not in seen:
            seen.add(installed.name)
            yield installed


def find_installed(name: str, path: Iterable[str] | None = None) -> Installed | None:
    """Return the distribution of a normalised *name*, or None."""
    return next(iter(_all_on(sys.path if path is None else path, name)), None)


def _all_on(path: Iterable[str], wanted: str | None) -> Iterator[Installed]:
    for entry in path:
        try:
            names = sorted(os.listdir(entry or "."))  # noqa: PTH208 - see above
        except NotADirectoryError:
            yield from _slowly([entry], wanted)
            continue
        except OSError:
            continue  # a path entry that does not exist is nothing unusual
        if any(name.endswith(_EGGS) for name in names):
            yield from _slowly([entry], wanted)
            continue
        for file_name in names:
            if file_name.endswith(_SUFFIX):
                name = normalized(file_name.removesuffix(_SUFFIX).partition("-")[0])
                if wanted is None or name == wanted:
                    yield Installed(name, f"{entry or '.'}/{file_name}")
    yield from _foreign(wanted)


def _slowly(path: list[str], wanted: str | None) -> Iterator[Installed]:
    """Ask `importlib.metadata` about places that hold more than ``.dist-info`` directories."""
    from importlib.metadata import DistributionFinder, MetadataPathFinder  # noqa: PLC0415 - tens of milliseconds

    context = DistributionFinder.Context(name=wanted, path=path)
    yield from _wrapped(MetadataPathFinder.find_distributions(context))


def _foreign(wanted: str | None) -> Iterator[Installed]:
    """Ask the finders that other tools put on ``sys.meta_path``."""
    for finder in sys.meta_path:
        if getattr(finder, "__name__", None) == "PathFinder" or not hasattr(finder, "find_distributions"):
            continue
        from importlib.metadata import DistributionFinder  # noqa: PLC0415 - only where such a finder is installed

        yield from _wrapped(finder.find_distributions(DistributionFinder.Context(name=wanted)))


def _wrapped(found: "Iterable[MetadataDistribution]") -> Iterator[Installed]:
    for distribution in found:
        if name := distribution.metadata.get("Name"):
            yield Installed(normalized(name), slow=distribution)
