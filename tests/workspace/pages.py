"""Read a page's fenced blocks, and run its Python as a reader would: ``python pages.py PAGE.md``.

The blocks of one page share one namespace and one event loop, and ``await`` stands at the top level as it does in the
page. A block marked ``python no-run`` is only shown. A ``text`` block right below a Python block is what that prints. A
block of another language with ``title="settings/oneiric.toml"`` is written to that file first, below the current
directory.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,})(?P<info>[^`\n]*)\n(?P<body>.*?)^(?P=indent)(?P=fence) *$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, the rest of its info string, where it stands, and whether right below another."""

    language: str
    info: str
    body: str
    line: int
    follows: bool

    @property
    def is_run(self) -> bool:
        return "no-run" not in self.info.split()

    @property
    def title(self) -> str | None:
        found = re.search(r'title="([^"]+)"', self.info)
        return found.group(1) if found else None


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    end = 0
    for match in FENCE.finditer(text):
        language, _, info = match["info"].strip().partition(" ")
        indent = len(match["indent"])
        body = "".join(line[indent:] if line.strip() else line for line in match["body"].splitlines(keepends=True))
        yield Block(
            language,
            info,
            body,
            text.count("\n", 0, match.start("body")),
            end > 0 and not text[end : match.start()].strip(),
        )
        end = match.end()


def write_files(page: Path, directory: Path) -> None:
    """Write every titled block of the page below the directory."""
    for block in blocks(page):
        if block.title and block.language != "python":
            path = directory / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.body, encoding="utf-8")


def run(page: Path) -> int:
    """Run the page's Python blocks in order and hold what they print against the page; return how many ran."""
    namespace = sys.modules["__main__"].__dict__
    count = 0
    printed: str | None = None
    with asyncio.Runner() as runner:
        for block in blocks(page):
            if block.language == "text" and block.follows and block.is_run and printed is not None:
                compare(page, block, printed)
            printed = None
            if block.language == "python" and block.is_run:
                printed = run_block(page, block, namespace, runner)
                count += 1
    return count


def run_block(page: Path, block: Block, namespace: dict[str, object], runner: asyncio.Runner) -> str:
    """Run one block, in the page's event loop if it awaits; return what it printed."""
    # The padding makes a traceback name the page's own lines.
    code = compile("\n" * block.line + block.body, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    with redirect_stdout(StringIO()) as output:
        result = eval(code, namespace)  # noqa: S307 - the page is ours, and running it is the point
        if inspect.iscoroutine(result):
            runner.run(result)
    return output.getvalue()


def compare(page: Path, block: Block, printed: str) -> None:
    if printed.rstrip() != block.body.rstrip():
        raise SystemExit(f"{page}:{block.line}: the page shows\n{block.body}\nand the code prints\n{printed}")


if __name__ == "__main__":
    page_given = Path(sys.argv[1])
    write_files(page_given, Path.cwd())
    sys.stdout.write(f"{run(page_given)}\n")
