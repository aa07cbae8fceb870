"""Trust: changed bytes, two readings of one text, endless documents, captive portals (T15)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.remote.trust.clients import Client, Clock, refused, refused_after_freshness

from oneiric.core.errors import DigestError, SchemaError, SignatureError
from oneiric.remote.envelope import MANIFEST_TYPE, sign
from oneiric.remote.testing import RepositorySimulator, tampered
from oneiric.remote.trust import ClientPolicy


@pytest.mark.parametrize(
    "change",
    [
        lambda payload: payload.replace(b"acme.cache", b"evil.cache"),
        lambda payload: payload + b" ",
        lambda payload: payload[:-1],
        lambda payload: b"",
        lambda payload: payload.replace(b'"version":1', b'"version":9'),
        lambda payload: payload.upper(),
    ],
)
def test_tampered_payloads_are_refused_with_and_without_a_pin(
    client: Client, repository: RepositorySimulator, change: Callable[[bytes], bytes]
) -> None:
    repository.manifest = tampered(repository.manifest, change)
    with refused_after_freshness(client, DigestError, "current is"):
        client.sync()
    repository.refresh()
    with refused_after_freshness(client, SignatureError, "signed by 0"):
        client.sync()


@pytest.mark.parametrize(
    "payload",
    [
        b'{"version":1,"version":2}',
        b'{"product":"acme","product":"evil"}',
        b'{"version":NaN}',
        b'{"version":1e3}',
        b'{"version":2.0}',
        b"[" * 1000,
        b"\xff\xfe",
        b"",
        b"null",
        b'{"version":99999999999999999999}',
    ],
    ids=lambda payload: repr(payload[:24]),
)
def test_even_what_was_signed_must_have_one_reading(
    client: Client, repository: RepositorySimulator, payload: bytes
) -> None:
    repository.manifest = sign(payload, MANIFEST_TYPE, repository.keys["manifest"]).to_bytes()
    repository.refresh(manifest={**repository._pin("manifest", repository.manifest), "version": 2})
    with refused_after_freshness(client, SchemaError, "manifest"):
        client.sync()


def test_an_endless_manifest_is_refused_by_its_length(client: Client, repository: RepositorySimulator) -> None:
    repository.manifest = b"x" * (len(repository.manifest) * 1000)
    with refused_after_freshness(client, DigestError, "bytes of digest"):
        client.sync()


def test_a_manifest_beyond_the_clients_cap_is_refused_unread(repository: RepositorySimulator, clock: Clock) -> None:
    with pytest.raises(SchemaError, match="100 is the most"):
        Client(repository, clock, ClientPolicy(max_bytes=100)).sync()


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><html>", b"", b"\x1f\x8b\x08\x00", b"%PDF", b"\x00" * 64])
def test_t15_a_captive_portals_page_is_a_schema_error(
    client: Client, repository: RepositorySimulator, page: bytes
) -> None:
    repository.freshness = page
    with refused(client, SchemaError, "freshness document is not JSON"):
        client.sync()
