"""The guide to remote delivery is followed to the letter: every command of it, in its order."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def pages() -> Any:
    spec = importlib.util.spec_from_file_location("pages_of_guide", ROOT / "tests/workspace/pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_command_of_the_guide_and_its_runbooks_runs(tmp_path: Path) -> None:
    page, reader = ROOT / "docs/remote.md", pages()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ONEIRIC_")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    for block in reader.blocks(page):
        if block.title:
            (tmp_path / block.title).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / block.title).write_text(block.body)
    script = "\n".join(block.body for block in reader.blocks(page) if block.language == "sh" and block.is_run)

    done = subprocess.run(
        ["/bin/sh", "-ex"],
        input=script,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "acme version 2 from site/manifest.json" in done.stdout
    assert done.stdout.count("stored  acme") >= 5
    assert "succeeded" in done.stdout
