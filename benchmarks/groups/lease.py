"""What a caller pays for the promise that its instance is not cleaned up under it."""

from typing import Any

from benchmarks import _peers
from benchmarks._timing import Contest, Figure
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Policy, Resolver

ROUNDS = 400
DOMAIN, KEY = "service", "key-3"
#: Keys the floor reads in one run of its statement: no single key's luck in the hash table decides.
READ = 8


class Component:
    """Answers at once."""

    async def answer(self) -> int:
        return 42


def measure(rounds: int) -> list[Figure]:
    """Measure the group."""
    contest = Contest("lease", rounds)
    resolver = Resolver(Policy())
    resolver.apply(add=[Candidate(domain=DOMAIN, key=f"key-{n}", provider="one", factory=Component) for n in range(10)])
    manager = LifecycleManager(resolver)
    handle = contest.setup(manager.handle(DOMAIN, KEY))
    instance = handle.instance
    names: dict[str, Any] = {"D": {(DOMAIN, f"key-{n}"): instance for n in range(10)}, "a": DOMAIN}
    names |= {f"b{n}": f"key-{n}" for n in range(READ)}
    reads = "; ".join(f"D[a, b{n}]" for n in range(READ))
    contest.add("floor", reads, names, who="floor", label="D[a, b]", operations=READ)
    names = {"acquire": handle.acquire, "release": handle.release}
    contest.add("handle", "release(acquire())", names, label="handle.acquire(), handle.release()")
    contest.add("borrowed", "handle.instance", {"handle": handle})
    names = {"lease": manager.lease, "d": DOMAIN, "k": KEY}
    contest.add("lease", "async with lease(d, k): pass", names)
    contest.add("await", "await answer()", {"answer": instance.answer}, who="floor", floor="await", label="a bare call")
    contest.add("live", "await live.answer()", {"live": manager.live(DOMAIN, KEY)}, label="a live call")
    for peer in _peers.lookups():
        if peer.name in {"dependency_injector", "that_depends_awaited"}:
            contest.add(peer.name, peer.statement, peer.names, who="peer", label=f"{peer.label}, no lease")
    contest.run()
    contest.setup(manager.aclose())
    contest.close()
    return contest.figures()
