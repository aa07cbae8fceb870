"""A signed manifest, from its bytes to registered candidates, against a bare verify and a dictionary of its entries."""

import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

from nacl.signing import SigningKey, VerifyKey

from benchmarks import _peers
from benchmarks._timing import Contest, Figure
from oneiric.core.resolution import Policy, Resolver
from oneiric.core.security import FactoryAllowList
from oneiric.remote.envelope import Envelope
from oneiric.remote.manifest import FactoryPolicy
from oneiric.remote.testing import RepositorySimulator
from oneiric.remote.trust import TrustedManifests, TrustRoot, VerifiedManifest

ROUNDS = 15
SIZES = (1_000, 10_000)
NOW = 1_795_000_000.0
POLICY = FactoryPolicy(general=FactoryAllowList(("shop",)))


def rows(count: int) -> list[dict[str, Any]]:
    """Return entries as published ones are: about 360 bytes each."""
    return [
        {
            "domain": "adapter",
            "key": f"key-{number}",
            "provider": "acme",
            "factory": f"shop.adapters.cache{number}:Cache",
            "uri": f"https://cdn.example/{number}/cache.whl",
            "sha256": hashlib.sha256(b"%d" % number).hexdigest(),
            "size": 1000 + number,
            "version": "1.2.3",
            "stack_level": 1,
            "priority": 10,
            "capabilities": ["kv", "ttl"],
            "owner": "platform",
            "requires_secrets": False,
            "metadata": {"tier": "gold"},
        }
        for number in range(count)
    ]


def refusing(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object, unless it states a name twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def tabled(payload: bytes, signature: bytes, key: VerifyKey) -> dict[tuple[str, str, str], Any]:
    """Do what code that checks nothing but the signature and duplicate names would."""
    key.verify(payload, signature)
    entries = json.loads(payload, object_pairs_hook=refusing)["entries"]
    return {(each["domain"], each["key"], each["provider"]): each for each in entries}


def verified(trusted: TrustedManifests, envelope: bytes) -> VerifiedManifest:
    """Verify and parse, for the first time: bytes that were read before are not parsed again."""
    trusted._reader._last.clear()
    return trusted.update_manifest(envelope)


def registered(trusted: TrustedManifests, envelope: bytes) -> Resolver:
    """Verify, parse, validate and register."""
    resolver = Resolver(Policy())
    resolver.apply(add=verified(trusted, envelope).candidates(POLICY).candidates)
    return resolver


def measure(rounds: int) -> list[Figure]:
    """Measure the group."""
    contest = Contest("manifest", rounds)
    peers = [(count, peer) for count in SIZES for peer in _add_size(contest, count)]
    figures = contest.run().figures()
    for count, peer in peers:
        label = f"the whole over {peer}'s, {count:,} entries"
        figures.append(contest.quotient(f"over_{peer}_{count}", label, f"whole_{count}", f"{peer}_{count}"))
    return figures


def _add_size(contest: Contest, count: int) -> list[str]:
    """Add the cases of one size, and return the names of the peers among them."""
    repository = RepositorySimulator(now=lambda: NOW)
    entries = rows(count)
    repository.publish(entries)
    trusted = TrustedManifests(TrustRoot.pinned(repository.roots[0]), now=NOW)
    trusted.update_freshness(repository.freshness)
    envelope = repository.manifest
    payload = Envelope.parse(envelope).payload
    key = SigningKey(bytes(32))
    signature, verify_key = key.sign(payload).signature, key.verify_key
    manifest = trusted.update_manifest(envelope)
    offered = manifest.candidates(POLICY).candidates
    if len(offered) != len(tabled(payload, signature, verify_key)) or len(offered) != count:
        raise AssertionError("ours and the floor no longer hold the same entries")
    floor = f"floor_{count}"

    def add(name: str, label: str, function: Callable[[], object], who: str = "ours") -> None:
        run = _timed(function)
        contest.add_timed(name, run, label=label, who=who, floor=floor, operations=count, number=1)  # type: ignore[arg-type]  # one of the three words

    what = f"{count:,} entries"
    label = f"pynacl verify, json.loads without duplicates, a dictionary: {what}"
    add(floor, label, lambda: tabled(payload, signature, verify_key), "floor")
    add(f"whole_{count}", f"verify, parse, validate, register: {what}", lambda: registered(trusted, envelope))
    add(f"verify_{count}", "of it: verify and parse", lambda: verified(trusted, envelope))
    add(f"validate_{count}", "of it: candidates", lambda: manifest.candidates(POLICY))
    add(f"register_{count}", "of it: register", lambda: Resolver(Policy()).apply(add=offered))
    bare = f"bare_{count}"
    contest.add_timed(
        bare,
        _timed(lambda: verify_key.verify(payload, signature)),
        label=f"pynacl verify: {what}",
        who="floor",
        floor=bare,
        operations=count,
        number=1,
    )
    again = TrustedManifests(TrustRoot.pinned(repository.roots[0]), state=trusted.state, now=NOW)
    again.update_manifest(envelope)
    run = _timed(lambda: again.at(NOW).update_manifest(envelope))
    label = f"the same manifest again: {what}"
    contest.add_timed(f"unchanged_{count}", run, label=label, floor=bare, operations=count, number=1)
    peers = _peers.manifests(entries)
    for peer in peers:
        add(f"{peer.name}_{count}", f"{peer.label}: {what}", peer.names["run"], "peer")
    return [peer.name for peer in peers]


def _timed(function: Callable[[], object]) -> Callable[[int], float]:
    def run(number: int) -> float:
        started = time.perf_counter()
        for _ in range(number):
            function()
        return time.perf_counter() - started

    return run
