"""A page of the documentation, one part of which a script writes from the code, so that it cannot fall behind."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

DOCS: Final = Path(__file__).resolve().parent.parent / "docs"


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenPage:
    """A page with two markers; everything between them is replaced.

    Attributes:
        path: Where it is.
        script: The name of the script that writes it, without its ending.
        sources: What to change instead of the page, such as "the models".
        write: Returns what stands between the markers.
    """

    path: Path
    script: str
    sources: str
    write: Callable[[], str]

    @property
    def begin(self) -> str:
        """The first marker."""
        return f"<!-- Written by scripts/{self.script}.py: change {self.sources} instead. -->"

    @property
    def end(self) -> str:
        """The second marker."""
        return f"<!-- End of what scripts/{self.script}.py writes. -->"

    def written(self, page: str) -> str:
        """Return the text of the page as it should be.

        Raises:
            ValueError: It has not exactly one pair of markers.
        """
        before, begin, rest = page.partition(self.begin)
        _, end, after = rest.partition(self.end)
        if not begin or not end:
            raise ValueError(f"{self.path} has lost its markers: {self.begin} and {self.end}")
        return f"{before}{begin}\n\n{self.write()}\n{end}{after}"

    def update(self, arguments: list[str]) -> int:
        """Write the page; with ``--check`` change nothing, and return 1 if it would be changed."""
        page = self.path.read_text(encoding="utf-8")
        wanted = self.written(page)
        if "--check" in arguments:
            if page != wanted:
                behind = f"docs/{self.path.name} is behind {self.sources}"
                print(f"{behind}. Try: python -m scripts.{self.script}", file=sys.stderr)
            return int(page != wanted)
        self.path.write_text(wanted, encoding="utf-8")
        return 0
