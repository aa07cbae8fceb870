"""Hot reads: ``get``, a bound view and ``resolve``, against a dictionary and the peers' lookups."""

import random
import sys
from typing import Any

from benchmarks import _peers
from benchmarks._timing import Contest, Figure
from oneiric.core.resolution import Candidate, Policy, Resolver

ROUNDS = 400
DOMAIN = "service"
#: Keys read in one run of a statement, so that no single key's luck in the hash table decides.
READ = 32


def make(key: str) -> object:
    """Stand for a factory."""
    return key


def filled(keys: int, candidates: int = 1) -> Resolver:
    """Return a resolver with that many keys, and that many candidates on each."""
    resolver = Resolver(Policy())
    resolver.apply(
        add=[
            Candidate(domain=DOMAIN, key=f"key-{number}", provider=f"provider-{rank}", factory=make, stack_level=rank)
            for number in range(keys)
            for rank in range(candidates)
        ]
    )
    return resolver


def _case(contest: Contest, name: str, call: str, names: dict[str, Any], keys: list[str], **more: Any) -> None:
    """Add a read of each of the keys; *call* says ``K`` where the key goes."""
    statement = "; ".join(call.replace("K", f"k{place}") for place in range(len(keys)))
    locals_ = {**names, "d": DOMAIN, **{f"k{place}": key for place, key in enumerate(keys)}}
    contest.add(name, statement, locals_, operations=len(keys), label=more.pop("label", call), **more)


def measure(rounds: int) -> list[Figure]:
    """Measure the group."""
    contest = Contest("resolve", rounds)
    draw = random.Random(1)  # noqa: S311 - which keys are read, nothing secret
    for suffix, count, candidates in (("", 10_000, 1), ("_10", 10, 1), ("_crowded", 10, 100)):
        keys = [sys.intern(f"key-{number}") for number in draw.choices(range(count), k=READ)]
        floor = f"floor{suffix}"
        where = f"{count:,} keys" + (f" of {candidates} candidates" if candidates > 1 else "")
        resolver = filled(count, candidates)
        table = {(DOMAIN, f"key-{number}"): make for number in range(count)}
        _case(contest, floor, "D[d, K]", {"D": table}, keys, who="floor", floor=floor, label=f"D[a, b], {where}")
        names = {"get": resolver.get, "view": resolver.view(DOMAIN), "resolve": resolver.resolve}
        _case(contest, f"get{suffix}", "get(d, K)", names, keys, floor=floor, label=f"get(a, b), {where}")
        _case(contest, f"view{suffix}", "view[K]", names, keys, floor=floor, label=f"view(a)[b], {where}")
        call = "resolve(d, K, provider=None, capabilities=())"
        label = f"resolve(a, b, provider=None, …), {where}"
        _case(contest, f"resolve{suffix}", call, names, keys, floor=floor, label=label)
    names = {"resolve": resolver.resolve, "fresh_view": resolver.view}
    _case(contest, "resolve_plain", "resolve(d, K)", names, keys, floor=floor, label="resolve(a, b)")
    _case(contest, "view_made", "fresh_view(d)[K]", names, keys, floor=floor, label="view(a)[b], made each time")
    for peer in _peers.lookups():
        contest.add(peer.name, peer.statement, peer.names, who="peer", floor="floor_10", label=peer.label)
    contest.run()
    figures = contest.figures()
    figures.append(contest.quotient("flat", "get: 10,000 keys over 10 keys", "get", "get_10"))
    by_name = {figure.name: figure for figure in figures}
    for read in ("get", "view", "resolve"):
        value = by_name[f"resolve.{read}_crowded"].value / by_name[f"resolve.{read}_10"].value
        label = f"{read}: 100 candidates over 1, both as ratios"
        figures.append(Figure(name=f"resolve.{read}_crowding", label=label, who="ours", value=value))
    if "resolve.dependency_injector_keyed" in by_name:
        label = "get over dependency-injector's keyed route"
        figures.append(contest.quotient("get_over_keyed", label, "get_10", "dependency_injector_keyed"))
    contest.close()
    return figures
