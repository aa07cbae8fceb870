"""The page of settings is written from the models, and is up to date."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "configuration_page.py"


@pytest.fixture
def script() -> Any:
    spec = importlib.util.spec_from_file_location("configuration_page", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(script: Any) -> None:
    assert script.main(["--check"]) == 0, f"{Path(sys.executable).name} scripts/configuration_page.py writes it"


def test_a_page_that_fell_behind_is_told_and_then_written(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "configuration.md"
    page.write_text(f"before\n{script.BEGIN}\nold\n{script.END}\nafter\n")
    monkeypatch.setattr(script, "PAGE", page)
    assert script.main(["--check"]) == 1
    assert "is behind the models" in capsys.readouterr().err
    assert "old" in page.read_text()
    assert script.main([]) == 0
    assert script.main(["--check"]) == 0
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("after\n")


def test_a_page_without_its_markers_is_left_alone(script: Any) -> None:
    with pytest.raises(ValueError, match="has lost its markers"):
        script.written("nothing here\n")


def test_every_field_has_a_sentence_a_type_and_a_place_in_the_tables(script: Any) -> None:
    tables = script.tables()
    for field in script.setting_fields():
        assert field.description.endswith("."), field.key
        assert field.type, field.key
        assert f"| `{field.key}` |" in tables or field.path[0] in script.ALIKE[1:]
