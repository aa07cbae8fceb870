"""A swap that nobody is using, against making an instance and rebinding a name to it."""

from typing import Any

from benchmarks import _peers
from benchmarks._timing import Contest, Figure
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Policy, Resolver

ROUNDS = 300
DOMAIN, KEY = "service", "key-3"


class Plain:
    """An instance with a little state, and without a lifecycle of its own."""

    def __init__(self) -> None:
        self.ready = True


class Careful(Plain):
    """The same with every step: it prepares itself, says that it is well, and cleans up."""

    async def init(self) -> None:
        pass

    async def health(self) -> bool:
        return True

    async def cleanup(self) -> None:
        pass


class Holder:
    """Where the floor binds."""

    def __init__(self, factory: type) -> None:
        self.factory = factory
        self.current = factory()


def managed(factory: type, keys: int) -> LifecycleManager:
    """Return a manager over that many keys with two providers each."""
    resolver = Resolver(Policy())
    resolver.apply(
        add=[
            Candidate(domain=DOMAIN, key=f"key-{number}", provider=provider, factory=factory)
            for number in range(keys)
            for provider in ("one", "two")
        ]
    )
    return LifecycleManager(resolver)


async def _activated(managers: list[LifecycleManager]) -> None:
    for manager in managers:
        await manager.activate(DOMAIN, KEY)


async def _closed(managers: list[LifecycleManager]) -> None:
    for manager in managers:
        await manager.aclose()


def measure(rounds: int) -> list[Figure]:
    """Measure the group."""
    contest = Contest("swap", rounds)
    plain, careful, crowd = managed(Plain, 10), managed(Careful, 10), managed(Plain, 10_000)
    contest.setup(_activated([plain, careful, crowd]))
    holder = Holder(Plain)
    names: dict[str, Any] = {"holder": holder}
    contest.add("floor", "holder.current = holder.factory()", names, who="floor", label="create and rebind")

    def add(name: str, manager: LifecycleManager, statement: str, label: str, operations: int = 1) -> None:
        contest.add(name, statement, {"swap": manager.swap, "d": DOMAIN, "k": KEY}, label=label, operations=operations)

    add("idle", plain, "await swap(d, k)", "swap, nobody using it")
    add("steps", careful, "await swap(d, k)", "the same, with async init, health and cleanup")
    both = "await swap(d, k, 'one'); await swap(d, k, 'two')"
    add("named", plain, both, "swap to the other provider by name, 10 keys", operations=2)
    add("named_crowd", crowd, both, "the same, 10,000 keys in the domain", operations=2)
    for peer in _peers.swaps():
        contest.add(peer.name, peer.statement, peer.names, who="peer", label=peer.label)
    contest.run()
    contest.setup(_closed([plain, careful, crowd]))
    contest.close()
    return contest.figures()
