"""The errors page says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from oneiric.core import errors

PAGE = Path(__file__).resolve().parents[2] / "docs" / "errors.md"
ROW = re.compile(r"^\| (?:&nbsp;)*`(\w+)` \| .+ \| (\d+) \| (\d+) \|$", re.MULTILINE)


def test_the_page_lists_every_error_with_its_codes() -> None:
    listed = {name: (int(code), int(status)) for name, code, status in ROW.findall(PAGE.read_text(encoding="utf-8"))}
    coded = {name: (getattr(errors, name).exit_code, getattr(errors, name).http_status) for name in errors.__all__}
    assert listed == coded


def test_the_page_shows_who_descends_from_whom() -> None:
    above: list[str] = []
    shown: dict[str, str | None] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if found := re.match(r"\| ((?:&nbsp;)*)`(\w+)` \|", line):
            depth, name = found[1].count("&nbsp;") // 4, found[2]
            del above[depth:]
            shown[name] = above[-1] if above else None
            above.append(name)
    descends = {name: [each.__name__ for each in getattr(errors, name).__mro__[1:]] for name in errors.__all__}
    assert shown == {
        name: next((each for each in before if each in descends), None) for name, before in descends.items()
    }
