"""Entry points of chosen groups, read without importing what they name."""

from collections.abc import Collection, Iterator
from typing import NamedTuple

from oneiric.core._distributions import iter_installed

__all__ = ["EntryPoint", "entry_points_of"]


class EntryPoint(NamedTuple):
    """A line of some distribution's ``entry_points.txt``."""

    group: str
    name: str
    distribution: str
    value: str


def entry_points_of(groups: Collection[str]) -> list[EntryPoint]:
    """Return every entry point of *groups* on ``sys.path``, by group, name and distribution."""
    found = []
    for installed in iter_installed():
        text = installed.read("entry_points.txt")
        # Nearly every distribution has other groups only: looking for ours is quicker than reading those.
        if text is None or not any(group in text for group in groups):
            continue
        found += [
            EntryPoint(group, name, installed.name, value) for group, name, value in _lines(text) if group in groups
        ]
    return sorted(found)


def _lines(text: str) -> Iterator[tuple[str, str, str]]:
    group = ""
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("[") and line.endswith("]"):
            group = line.strip("[]")
        elif line and not line.startswith("#") and "=" in line:
            name, _, value = line.partition("=")
            yield group, name.strip(), value.strip()
