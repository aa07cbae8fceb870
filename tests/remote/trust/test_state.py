"""What a client remembers: kept whole, verified again, and missed when it is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.remote.conftest import NOW, entry

from oneiric.core.errors import RollbackError, SchemaError
from oneiric.remote.testing import RepositorySimulator
from oneiric.remote.trust import TrustedManifests, TrustedState, TrustRoot


@pytest.fixture(scope="module")
def repository() -> RepositorySimulator:
    made = RepositorySimulator(now=lambda: NOW)
    made.rotate("manifest")
    made.rotate("root")
    made.publish([entry()])
    return made


def start(repository: RepositorySimulator, state: TrustedState, root: int = 0) -> TrustedManifests:
    return TrustedManifests(TrustRoot.pinned(repository.roots[root]), state=state, now=NOW)


@pytest.fixture(scope="module")
def state(repository: RepositorySimulator) -> TrustedState:
    trusted = start(repository, TrustedState())
    for data in repository.roots[1:]:
        trusted.update_root(data)
    trusted.update_freshness(repository.freshness)
    trusted.update_manifest(repository.manifest)
    return trusted.state


def test_the_state_file_is_private_and_comes_back_as_it_was(state: TrustedState, tmp_path: Path) -> None:
    path = tmp_path / "state" / "trusted_state.json"
    state.save(path)

    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert TrustedState.load(path) == state


def test_without_a_file_nothing_is_remembered_and_nothing_is_wrong(tmp_path: Path) -> None:
    assert TrustedState.load(tmp_path / "trusted_state.json") == TrustedState()


def test_what_is_remembered_is_verified_again(repository: RepositorySimulator, state: TrustedState) -> None:
    trusted = start(repository, state)

    assert trusted.problems == ()
    assert trusted.root.version == 3
    assert trusted.freshness is not None
    assert trusted.state == state


def test_a_renewed_pin_covers_the_roots_before_it(repository: RepositorySimulator, state: TrustedState) -> None:
    trusted = start(repository, state, root=2)

    assert (trusted.root.version, trusted.problems, trusted.state.roots) == (3, (), ())
    assert start(repository, trusted.state, root=2).problems == ()


def test_a_root_that_was_slipped_in_is_not_believed(repository: RepositorySimulator, state: TrustedState) -> None:
    stranger = RepositorySimulator(now=lambda: NOW)
    for _ in range(3):
        stranger.rotate()
    for roots in ((stranger.roots[1],), (state.roots[0], stranger.roots[2]), (b"", *state.roots)):
        trusted = start(repository, TrustedState(roots=roots))
        assert "does not follow" in trusted.problems[0]
        assert trusted.root.version < 3


def test_what_was_slipped_in_as_current_is_not_believed(repository: RepositorySimulator, state: TrustedState) -> None:
    stranger = RepositorySimulator(now=lambda: NOW)
    stranger.publish([entry()])
    trusted = start(repository, TrustedState(roots=state.roots, freshness=stranger.freshness))

    assert trusted.freshness is None
    assert "no longer counts" in trusted.problems[0]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"schema":2}',
        b'{"schema":1}',
        b'{"schema":1,"roots":[1],"freshness":null,"manifests":{}}',
    ],
)
def test_a_broken_file_is_a_state_that_was_lost_and_says_so(
    repository: RepositorySimulator, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "trusted_state.json"
    path.write_bytes(content)
    state = TrustedState.load(path)
    trusted = start(repository, state)

    assert "the trusted state cannot be read" in trusted.problems[0]
    assert trusted.root.version == 1


def test_a_link_in_the_place_of_the_file_is_not_followed(state: TrustedState, tmp_path: Path) -> None:
    state.save(tmp_path / "elsewhere.json")
    (tmp_path / "trusted_state.json").symlink_to(tmp_path / "elsewhere.json")

    assert TrustedState.load(tmp_path / "trusted_state.json").problem is not None


@given(
    st.recursive(
        st.none() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["schema", "roots", "freshness", "manifests", "version", "x"]), inner, max_size=5
            )
        ),
        max_leaves=8,
    )
)
def test_any_document_is_a_state_or_one_that_was_lost(document: Any) -> None:
    assert isinstance(TrustedState.from_dict(document), TrustedState)


@pytest.mark.parametrize(
    "wrong", [{"version": "9"}, {"issued": float("inf")}, {"issued": -1.0}, {"length": None}, {"sha256": 1}]
)
def test_a_remembered_manifest_of_the_wrong_kind_is_lost(state: TrustedState, wrong: dict[str, Any]) -> None:
    document = state.as_dict()
    document["manifests"][""] |= wrong

    assert TrustedState.from_dict(document).problem is not None


def test_losing_the_state_falls_back_to_the_pinned_root_and_the_honest_update_works(
    repository: RepositorySimulator,
) -> None:
    trusted = start(repository, TrustedState.from_dict({"schema": "?"}))
    for data in repository.roots[1:]:
        trusted.update_root(data)
    trusted.update_freshness(repository.freshness)

    assert trusted.update_manifest(repository.manifest).entries == [entry()]


def test_the_state_is_json_and_holds_no_secret(repository: RepositorySimulator, state: TrustedState) -> None:
    text = json.dumps(state.as_dict())
    for keys in repository.keys.values():
        for key in keys:
            assert bytes(key._key).hex() not in text


def test_a_refused_update_changes_nothing_that_is_remembered(
    repository: RepositorySimulator, state: TrustedState
) -> None:
    other = RepositorySimulator(now=lambda: NOW)
    other.keys, other.thresholds = dict(repository.keys), dict(repository.thresholds)
    other.publish([entry(provider="x")], version=1)
    trusted = start(repository, state)
    with pytest.raises(RollbackError):
        trusted.update_freshness(other.freshness)
    with pytest.raises(SchemaError):
        trusted.update_root(other.manifest[:-10])

    assert trusted.state == state
