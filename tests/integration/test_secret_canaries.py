"""Secrets planted all over a system appear in nothing that it tells anybody, in whatever form."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus
from uuid import uuid4

import pytest

RUN = Path(__file__).with_name("canary_run.py")
PLACES = ("environment", "file", "inline", "provider_setting", "hmac", "remote", "rotated")
#: At least as long as this is what is left of a secret when its edges are lost in base64.
HEAD = 12


def planted() -> dict[str, str]:
    # One with signs that JSON, URLs and base64 write differently; the others survive a settings file as they are.
    return {place: f"S3CR3T-{uuid4()}{'/+ é&' if place == 'file' else ''}" for place in PLACES}


def forms(value: str) -> dict[str, bytes]:
    """What would betray a secret; written apart from the code that masks, so that they cannot share a mistake."""
    data = value.encode()
    found = {
        "plain": data,
        "without its prefix": data[7:30],
        "json": json.dumps(value)[1:-1].encode(),
        "url": quote(value, safe="").encode(),
        "form": quote_plus(value).encode(),
        "hex": data.hex().encode(),
        "HEX": data.hex().upper().encode(),
        "utf-16": value.encode("utf-16-le"),
    }
    for before in range(3):
        whole = base64.b64encode(b"x" * before + data)
        found[f"base64 at {before}"] = whole[4 : 4 + HEAD]
        found[f"base64url at {before}"] = base64.urlsafe_b64encode(b"x" * before + data)[-4 - HEAD : -4]
    return found


def told(directory: Path, done: subprocess.CompletedProcess[bytes]) -> Iterator[tuple[str, bytes]]:
    yield "stdout", done.stdout
    yield "stderr", done.stderr
    for path in sorted((directory / "told").rglob("*")):
        if path.is_file():
            yield str(path.relative_to(directory)), path.read_bytes()


def run(directory: Path, form: str, *options: str) -> tuple[list[str], dict[str, bytes]]:
    """Return which secrets were found where, and all that was told."""
    canaries = planted()
    (directory / "canaries.json").write_text(json.dumps(canaries))
    done = subprocess.run(
        [sys.executable, "-W", "error", str(RUN), str(directory), form, *options],
        capture_output=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    output = dict(told(directory, done))
    hits = [
        f"{place} as {name} in {where}"
        for where, data in output.items()
        for place, value in canaries.items()
        for name, found in forms(value).items()
        if found in data
    ]
    return hits, output


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_secret_is_told_in_any_form(tmp_path: Path, form: str) -> None:
    hits, output = run(tmp_path, form)

    assert hits == []
    # That it was quiet is not the reason.
    assert b"***" in output["stderr"]
    assert b"withheld" in output["stdout"] or any(b"withheld" in data for data in output.values())
    files = ("lifecycle_status.json", "runtime_health.json", "runtime_telemetry.json", "domain_activity.sqlite")
    assert {f"told/state/{name}" for name in files} <= output.keys()
    assert len(output) > 30
    log = output["told/log.txt"]
    for line in (b"swap-failed", b"a call failed", b"it failed", b"in the message", b"swap-cleanup-failed"):
        assert line in log


def test_without_the_masking_the_same_run_would_tell(tmp_path: Path) -> None:
    hits, _ = run(tmp_path, "json", "--forget")

    places = {hit.split(" as ")[0] for hit in hits}
    assert places >= {"environment", "file", "inline", "provider_setting"}
    assert any("in told/log.txt" in hit for hit in hits)
    assert any("in told/state/" in hit for hit in hits)
    assert any("base64" in hit for hit in hits)
    assert any(" as hex " in hit for hit in hits)
    assert any(" as url " in hit for hit in hits)
