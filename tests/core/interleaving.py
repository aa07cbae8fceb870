"""What tests of interleavings share: offers that are made when a test lets them, and a world of them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from oneiric.core.lifecycle import LifecycleManager, LifecycleTimeouts
from oneiric.core.resolution import Candidate, Policy, Resolver, Selection

A = ("service", "a")


class Part:
    """An instance whose cleanup ends when a test lets it."""

    def __init__(self, name: str, may_close: asyncio.Event) -> None:
        self.name = name
        self.closing = asyncio.Event()
        self.is_closed = False
        self._may_close = may_close

    async def cleanup(self) -> None:
        self.closing.set()
        await self._may_close.wait()
        self.is_closed = True


class Offer:
    """A candidate whose instances start and stop when a test lets them."""

    def __init__(self, provider: str, *, key: str = "a", **facts: Any) -> None:
        self.begun, self.go, self.may_close = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.go.set()
        self.may_close.set()
        self.made: list[Part] = []
        self.candidate = Candidate(domain="service", key=key, provider=provider, factory=self._make, **facts)

    async def _make(self) -> Part:
        self.begun.set()
        await self.go.wait()
        self.made.append(Part(self.candidate.provider, self.may_close))
        return self.made[-1]

    @property
    def open(self) -> int:
        return sum(not part.is_closed for part in self.made)


class World:
    def __init__(self, *offers: Offer, timeouts: LifecycleTimeouts | None = None) -> None:
        self.resolver = Resolver(Policy())
        self.resolver.apply(add=[offer.candidate for offer in offers])
        self.lifecycle = LifecycleManager(self.resolver, timeouts=timeouts)

    def select(self, *, tenant: str | None = None, **providers: str) -> None:
        chosen = {"service": {key: Selection(provider, "test") for key, provider in providers.items()}}
        policy = Policy()
        self.resolver.apply(
            policy=replace(policy, selections=chosen) if tenant is None else replace(policy, tenants={tenant: chosen})
        )

    def serving(self, key: str = "a", tenant: str | None = None) -> str | None:
        return self.lifecycle.get_status("service", key, tenant=tenant).current_provider


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
