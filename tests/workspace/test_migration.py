"""The right-hand column of the migration page exists."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "migration.md"
ROWS = re.findall(r"^\| `[\w.]+` \| `([\w.]+)` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_page_has_its_rows() -> None:
    assert len(ROWS) > 20


@pytest.mark.parametrize("name", ROWS)
def test_what_the_page_names_can_be_imported(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(module), attribute)
