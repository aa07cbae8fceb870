"""No flag, variable or profile has a manifest from the network taken unverified, or an unsigned one unnoticed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.publishing import WebPublisher, web_publisher

from oneiric.remote.testing import tampered

type Run = Callable[..., Any]

UNSIGNED = "entries: [{domain: adapter, key: cache, provider: evil, factory: 'acme.cache:Cache'}]\n"

#: Whatever sounds as if it could turn verification off.
VARIABLES: dict[str, dict[str, str]] = {
    "signatures not required": {"ONEIRIC_REMOTE__SIGNATURE_REQUIRED": "false"},
    "embedded signatures": {"ONEIRIC_REMOTE__ACCEPT_EMBEDDED_SIGNATURES": "true"},
    "a threshold of one": {"ONEIRIC_REMOTE__SIGNATURE_THRESHOLD": "1"},
    "no expiry": {"ONEIRIC_REMOTE__SIGNATURE_REQUIRE_EXPIRY": "false"},
    "any file": {"ONEIRIC_REMOTE__ALLOW_FILE_URIS": "true", "ONEIRIC_REMOTE__ALLOWED_FILE_URI_ROOTS": '["/"]'},
    "a trusted key of nobody": {"ONEIRIC_TRUSTED_PUBLIC_KEYS": ""},
    "everything installed": {"ONEIRIC_REMOTE__INSTALLED_MODULES_ONLY": "false"},
    "all modules": {"ONEIRIC_FACTORY_ALLOWLIST": "acme"},
    "the serverless profile": {"ONEIRIC_PROFILE": "serverless"},
}


@pytest.fixture
def publisher() -> Iterator[WebPublisher]:
    """Give a publisher whose server gives out what was changed after it was signed."""
    with web_publisher(Path.cwd()) as found:
        found.publish(found.entry("1.0"))
        honest = found.repository.manifest
        found.repository.manifest = tampered(honest, lambda body: body.replace(b'"1.0"', b'"6.6"'))
        found.repository.refresh()
        found.give_out()
        yield found


def error_of(done: Any) -> str:
    kind: str = json.loads(done.out)["error"]["type"]
    return kind


@pytest.mark.parametrize("variables", VARIABLES)
def test_no_variable_has_a_changed_manifest_taken_from_the_network(
    publisher: WebPublisher, oneiric: Run, monkeypatch: pytest.MonkeyPatch, variables: str
) -> None:
    for name, value in VARIABLES[variables].items():
        monkeypatch.setenv(name, value)

    done = oneiric("--config", "settings.yml", "remote-sync", "--json")

    assert done.code != 0
    assert error_of(done) in {"SignatureError", "FetchRefusedError"}  # serverless asks no network at all
    assert json.loads(oneiric("--config", "settings.yml", "list", "--json").out)["stored"] is None


@pytest.mark.parametrize("variables", VARIABLES)
def test_no_variable_has_an_unsigned_document_taken_from_the_network(
    publisher: WebPublisher, oneiric: Run, monkeypatch: pytest.MonkeyPatch, variables: str
) -> None:
    for name, value in VARIABLES[variables].items():
        monkeypatch.setenv(name, value)
    publisher.give_out_instead(UNSIGNED.encode())

    done = oneiric("--config", "settings.yml", "remote-sync", "--json")
    named = oneiric("--config", "settings.yml", "remote-sync", "--manifest", publisher.url, "--json")

    assert (done.code != 0, named.code != 0) == (True, True)


def test_without_anybody_to_trust_nothing_is_taken_from_the_network(publisher: WebPublisher, oneiric: Run) -> None:
    settings = Path("settings.yml")
    settings.write_text(settings.read_text().replace("  root_path: root.json\n", ""))
    for content in (publisher.repository.history[0].envelope, UNSIGNED.encode()):
        publisher.give_out_instead(content)
        done = oneiric("--config", "settings.yml", "remote-sync", "--json")
        assert (done.code, error_of(done)) == (5, "SignatureError")


def test_tls_that_is_not_to_be_verified_is_refused_and_not_heeded(
    publisher: WebPublisher, oneiric: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEIRIC_REMOTE__VERIFY_TLS", "false")

    done = oneiric("--config", "settings.yml", "remote-sync", "--json")

    assert (done.code, error_of(done)) == (2, "ConfigurationError")
    assert publisher.asked == []


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (["--profile", "serverless"], {}),
        ([], {"ONEIRIC_PROFILE": "serverless"}),
        ([], {"ONEIRIC_REMOTE__SIGNATURE_REQUIRED": "true"}),
        (["--profile", "serverless"], {"ONEIRIC_REMOTE__SIGNATURE_REQUIRED": "false"}),
    ],
    ids=["profile", "profile in the environment", "required", "required by the profile all the same"],
)
def test_an_unsigned_file_named_by_hand_is_refused_where_signatures_are_required(
    publisher: WebPublisher,
    oneiric: Run,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    variables: dict[str, str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    Path("unsigned.yaml").write_text(UNSIGNED)

    done = oneiric("--config", "settings.yml", *arguments, "remote-sync", "--manifest", "unsigned.yaml", "--json")

    assert (done.code, error_of(done)) == (5, "SignatureError")


def test_an_unsigned_file_named_by_hand_is_called_unsigned_wherever_it_is_told(
    publisher: WebPublisher, oneiric: Run
) -> None:
    Path("unsigned.yaml").write_text(UNSIGNED)

    done = oneiric("--config", "settings.yml", "remote-sync", "--manifest", "unsigned.yaml")
    status = oneiric("--config", "settings.yml", "remote-status", "--json")

    assert done.code == 0
    assert "UNSIGNED" in done.err
    assert "unsigned" in done.out
    assert json.loads(status.out)["status"]["manifest"]["signature"] == "unsigned"
    assert "UNSIGNED" in oneiric("--config", "settings.yml", "remote-status").out
    assert json.loads(oneiric("--config", "settings.yml", "list", "--json").out)["stored"] is None
