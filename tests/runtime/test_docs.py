"""The documentation is true: its snippets print what it says, and its settings load."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from oneiric.runtime.settings import load_settings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "packages/runtime/README.md", ROOT / "docs/reload.md", ROOT / "docs/configuration.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_snippets_print_what_the_page_says(page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert snippets
    (tmp_path / "snippets.py").write_text("\n".join(snippets))
    done = subprocess.run([sys.executable, "snippets.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(re.findall(r"```text\n(.*?)```", text, re.DOTALL))


def test_the_documented_configuration_is_accepted(tmp_path: Path) -> None:
    text = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert blocks
    for number, block in enumerate(blocks):
        (tmp_path / f"{number}.yml").write_text(block)
        loaded = load_settings(tmp_path / f"{number}.yml", environ={"ONEIRIC_SECRET_REDIS": "x"})
        assert loaded.origins
