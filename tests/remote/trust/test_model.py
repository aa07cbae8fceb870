"""A client against a publisher and a thief, in any order: what is accepted was published, and never gets older."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.remote.conftest import NOW, entry

from oneiric.core.errors import ManifestError
from oneiric.remote._timestamps import parse_time
from oneiric.remote.envelope import Envelope
from oneiric.remote.keys import SigningKey
from oneiric.remote.testing import RepositorySimulator, tampered
from oneiric.remote.trust import TrustedManifests, TrustedState, TrustRoot

HOUR = 3600.0
ROLES = st.sampled_from(["root", "manifest", "freshness"])


class ClientModel(RuleBasedStateMachine):
    """The publisher is honest; the network replays, mixes, tampers, and signs with keys that were stolen once."""

    @initialize()
    def begin(self) -> None:
        self.now = NOW
        self.repository = RepositorySimulator(now=lambda: self.now)
        self.published: dict[str, int] = {}
        self.freshnesses: list[bytes] = []
        self.stolen: dict[str, list[SigningKey]] = {}
        self.pinned = self.repository.roots[0]
        self.state = TrustedState()
        self.version = 0
        self.publish(1)

    # The publisher

    @rule(entries=st.integers(0, 3))
    def publish(self, entries: int) -> None:
        data = self.repository.publish([entry(provider=f"p{number}") for number in range(entries)])
        self.published[hashlib.sha256(data).hexdigest()] = self.repository.history[-1].version
        self.freshnesses.append(self.repository.freshness)

    @rule()
    def refresh(self) -> None:
        self.freshnesses.append(self.repository.refresh())

    @rule(roles=st.sets(ROLES))
    def rotate(self, roles: set[str]) -> None:
        for role in roles:
            self.stolen[role] = self.repository.keys[role]
        self.repository.rotate(*sorted(roles))
        self.publish(1)

    @rule(hours=st.integers(1, 48))
    def wait(self, hours: int) -> None:
        self.now += hours * HOUR

    # The client

    def run(self, roots: list[bytes], freshness: bytes, manifest: bytes) -> None:
        trusted = TrustedManifests(TrustRoot.pinned(self.pinned), state=self.state, now=self.now)
        assert trusted.problems == ()
        try:
            for data in roots[trusted.root.version :]:
                trusted.update_root(data)
            trusted.update_freshness(freshness)
            accepted = trusted.update_manifest(manifest)
        finally:
            self.state = trusted.state
        assert accepted.digest in self.published
        assert self.published[accepted.digest] >= self.version
        self.version = self.published[accepted.digest]

    @rule()
    def sync(self) -> None:
        """Whatever happened before, an honest publisher is followed."""
        self.repository.refresh()
        self.freshnesses.append(self.repository.freshness)
        if any(self.now >= _expires(data) for data in (self.repository.manifest, self.repository.roots[-1])):
            self.repository.rotate()
            self.publish(1)
        self.run(self.repository.roots, self.repository.freshness, self.repository.manifest)
        assert self.version == self.repository.history[-1].version

    @rule()
    def restart(self) -> None:
        self.state = TrustedState.from_dict(json.loads(json.dumps(self.state.as_dict())))
        assert self.state.problem is None

    # The network

    @rule(data=st.data())
    def replay_and_mix(self, data: st.DataObject) -> None:
        freshness = data.draw(st.sampled_from(self.freshnesses))
        manifest = data.draw(st.sampled_from(self.repository.history)).envelope
        roots = self.repository.roots[: data.draw(st.integers(1, len(self.repository.roots)))]
        with suppress(ManifestError):
            self.run(roots, freshness, manifest)

    @rule(data=st.data())
    def tamper(self, data: st.DataObject) -> None:
        kind = data.draw(st.sampled_from(["root", "freshness", "manifest"]))
        bodies = {"root": self.repository.roots[-1], "freshness": self.repository.freshness}
        honest = bodies.get(kind, self.repository.manifest)
        place = data.draw(st.integers(0, len(Envelope.parse(honest).payload) - 1))
        evil = tampered(honest, lambda payload: payload[:place] + bytes([payload[place] ^ 1]) + payload[place + 1 :])
        roots = [*self.repository.roots[:-1], evil] if kind == "root" else self.repository.roots
        with suppress(ManifestError):
            self.run(
                roots,
                evil if kind == "freshness" else self.repository.freshness,
                evil if kind == "manifest" else self.repository.manifest,
            )

    @precondition(lambda self: self.stolen)
    @rule(data=st.data(), version=st.integers(1, 2**31 - 1))
    def sign_with_stolen_keys(self, data: st.DataObject, version: int) -> None:
        """Keys that were rotated out sign nothing for a client that has seen the rotation."""
        role = data.draw(st.sampled_from(sorted(self.stolen)))
        thief = RepositorySimulator(now=lambda: self.now)
        thief.keys = {**self.repository.keys, role: self.stolen[role]}
        thief.thresholds = dict(self.repository.thresholds)
        if role == "freshness":
            thief.manifest = self.repository.manifest
            thief._versions = dict(self.repository._versions)
            pin = {"version": version, "sha256": hashlib.sha256(thief.manifest).hexdigest(), "length": 1}
            thief.refresh(manifest=pin, version=version)
        else:
            thief.publish([entry(provider="evil")], version=version)
        freshness = thief.freshness if role == "freshness" else self.repository.freshness
        with suppress(ManifestError):
            self.run(self.repository.roots, freshness, thief.manifest)

    @invariant()
    def what_is_remembered_only_goes_up(self) -> None:
        accepted = getattr(self, "state", TrustedState()).manifests.get("")
        if accepted is not None:
            assert accepted.version == self.version


def _expires(data: bytes) -> float:
    return parse_time(json.loads(Envelope.parse(data).payload)["expires"])


TestClientModel = ClientModel.TestCase
TestClientModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
