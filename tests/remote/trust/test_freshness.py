"""Trust: publishers that are frozen, and wall clocks that are wrong (T08, T19, T20)."""

from __future__ import annotations

import pytest
from tests.remote.conftest import NOW, entry
from tests.remote.trust.clients import DAY, Client, Clock, refused, refused_after_freshness

from oneiric.core.errors import DigestError, ExpiredError, SchemaError, SignatureError
from oneiric.remote.testing import RepositorySimulator
from oneiric.remote.trust import ClientPolicy, TrustRoot


def test_t08_what_is_current_expires_within_a_day(
    client: Client, repository: RepositorySimulator, clock: Clock
) -> None:
    clock.now += DAY
    with refused(client, ExpiredError, "freshness document expired"):
        client.sync()
    repository.refresh()
    client.sync()


def test_t08_nothing_is_current_for_longer_than_a_day(client: Client, repository: RepositorySimulator) -> None:
    repository.refresh(lifetime_seconds=DAY + 1)
    with refused(client, SchemaError, "more than 1 days"):
        client.sync()


def test_t19_an_expired_manifest_is_refused_however_fresh_it_is_said_to_be(
    client: Client, repository: RepositorySimulator, clock: Clock
) -> None:
    clock.now += 30 * DAY
    repository.refresh()
    with refused_after_freshness(client, ExpiredError, "manifest expired"):
        client.sync()
    repository.publish([entry()])
    client.sync()


def test_t19_nothing_is_taken_under_an_expired_root(
    client: Client, repository: RepositorySimulator, clock: Clock
) -> None:
    clock.now += 365 * DAY
    repository.publish([entry()])
    with refused(client, ExpiredError, "root version 1 expired"):
        client.sync()
    repository.rotate()
    client.sync()


def test_a_packed_manifest_is_not_held_to_what_was_current_before(
    client: Client, repository: RepositorySimulator
) -> None:
    client.sync()
    repository.publish([entry(version="2")])
    client.policy = ClientPolicy(is_packed=True)

    trusted = client.start()

    assert trusted.update_manifest(repository.manifest).entries[0]["version"] == "2"
    assert trusted.state.freshness == client.state.freshness  # not lost to whom it concerns


def test_a_root_is_valid_for_a_year_at_most(repository: RepositorySimulator) -> None:
    repository.rotate(lifetime_seconds=367 * DAY)
    with pytest.raises(SchemaError, match="366 days"):
        TrustRoot.pinned(repository.roots[-1])


def test_the_manifest_that_served_yesterday_may_serve_on_after_a_restart(
    client: Client, repository: RepositorySimulator, clock: Clock
) -> None:
    clock.now += 60 * DAY
    trusted = client.start()
    with pytest.raises(ExpiredError):
        trusted.update_manifest(repository.manifest)
    assert trusted.restore_manifest(repository.manifest).entries == [entry()]
    repository.publish([entry(provider="other")])
    with pytest.raises(DigestError, match="not the one that was accepted"):
        trusted.restore_manifest(repository.manifest)


def test_what_serves_on_must_still_be_signed_by_keys_that_count(
    client: Client, repository: RepositorySimulator
) -> None:
    repository.rotate("manifest")
    trusted = client.start()
    trusted.update_root(repository.roots[-1])
    with pytest.raises(SignatureError):
        trusted.restore_manifest(repository.manifest)


def test_t20_a_clock_far_ahead_refuses_and_poisons_nothing(
    client: Client, repository: RepositorySimulator, clock: Clock
) -> None:
    published = clock.now
    clock.now = published + 20 * 365 * DAY
    with refused(client, ExpiredError, "expired"):
        client.sync()
    clock.now = published
    client.sync()


def test_t20_a_clock_set_back_does_not_bring_back_what_expired(
    client: Client, repository: RepositorySimulator, clock: Clock
) -> None:
    old = repository.freshness
    clock.now += 2 * DAY
    repository.publish([entry()])
    client.sync()
    clock.now -= 2 * DAY
    state, trusted = client.state, client.start()
    assert trusted.now >= NOW + 2 * DAY - 1
    with pytest.raises(ExpiredError, match="expired"):
        trusted.update_freshness(old)
    assert trusted.state.as_dict() == state.as_dict()


def test_t20_what_was_signed_in_the_future_is_refused(
    client: Client, repository: RepositorySimulator, clock: Clock
) -> None:
    clock.now += DAY / 2
    repository.publish([entry()])
    clock.now -= DAY / 2
    with refused(client, ExpiredError, "in the future .* set the clock"):
        client.sync()


def test_t20_clocks_may_differ_by_five_minutes_and_no_more(
    client: Client, repository: RepositorySimulator, clock: Clock
) -> None:
    clock.now += 301
    repository.publish([entry()])
    clock.now -= 301
    with refused(client, ExpiredError, "in the future"):
        client.sync()
    clock.now += 1

    body = client.sync().manifests[""].body
    assert body is not None
    assert body.version == 2
