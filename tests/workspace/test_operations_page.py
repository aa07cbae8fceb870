"""The operations page says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from oneiric.runtime.telemetry import METRICS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")


def test_the_page_lists_every_metric_with_its_kind_and_meaning() -> None:
    listed = {
        name: (kind, meaning) for name, kind, meaning in re.findall(r"^\| `(\w+)` \| (\w+) \| (.+) \|$", PAGE, re.M)
    }
    assert listed == dict(METRICS)
