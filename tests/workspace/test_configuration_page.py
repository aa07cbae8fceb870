"""The page of settings is written from the models, and is up to date."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from scripts.configuration_page import ALIKE, PAGE, tables

from oneiric.runtime.settings import setting_fields

if TYPE_CHECKING:
    from pathlib import Path


def test_the_page_is_up_to_date() -> None:
    assert PAGE.update(["--check"]) == 0


def test_a_page_that_fell_behind_is_told_and_then_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = replace(PAGE, path=tmp_path / "configuration.md")
    page.path.write_text(f"before\n{page.begin}\nold\n{page.end}\nafter\n")
    assert page.update(["--check"]) == 1
    assert "is behind the models. Try: python -m scripts.configuration_page" in capsys.readouterr().err
    assert "old" in page.path.read_text()
    assert page.update([]) == 0
    assert page.update(["--check"]) == 0
    assert page.path.read_text().startswith("before\n")
    assert page.path.read_text().endswith("after\n")


def test_a_page_without_its_markers_is_left_alone() -> None:
    with pytest.raises(ValueError, match="has lost its markers"):
        PAGE.written("nothing here\n")


def test_every_field_has_a_sentence_a_type_and_a_place_in_the_tables() -> None:
    text = tables()
    for field in setting_fields():
        assert field.description.endswith("."), field.key
        assert field.type, field.key
        assert f"| `{field.key}` |" in text or field.path[0] in ALIKE[1:]
