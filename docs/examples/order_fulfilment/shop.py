"""Order fulfilment: an event asks for a workflow, a worker runs it, and a crash in the middle costs nothing.

Each task writes its effect down under the idempotency key it is handed: a shop's real tasks hand that key to the bank
and to the carrier, which remember it.
"""

import os
from pathlib import Path
from typing import Any

from oneiric.core import Candidate
from oneiric.core.resolution import Key, Resolver
from oneiric.runtime.events import EventEnvelope
from oneiric.runtime.worker import workflow_message

EFFECTS = Path(".state/effects.log")
CRASH = Path(".state/crash-once")

FULFIL = {
    "nodes": [
        {"id": "reserve", "task": "reserve", "payload": {"order": "${context.order}", "items": "${context.items}"}},
        {
            "id": "charge",
            "task": "charge",
            "depends_on": ["reserve"],
            "payload": {"order": "${context.order}", "amount": "${nodes.reserve.output.amount}"},
            "retry_policy": {"attempts": 3, "base_delay": 0.1},
        },
        {"id": "ship", "task": "ship", "depends_on": ["charge"], "payload": {"order": "${context.order}"}},
    ]
}


def effect(what: str, key: str) -> None:
    """Have an effect on the world, once for each key: the world remembers it."""
    line = f"{what} {key[:12]}\n"
    if not EFFECTS.exists() or line not in EFFECTS.read_text():
        with EFFECTS.open("a") as log:
            log.write(line)


class Reserve:
    """Put the goods aside."""

    async def run(self, payload: dict[str, Any], *, idempotency_key: str) -> dict[str, Any]:
        effect(f"reserved {payload['order']}", idempotency_key)
        return {"amount": 10 * len(payload["items"])}


class Charge:
    """Take the money. The first time, where it is asked for, the process dies right after."""

    async def run(self, payload: dict[str, Any], *, idempotency_key: str) -> dict[str, Any]:
        effect(f"charged {payload['order']} {payload['amount']}", idempotency_key)
        if CRASH.exists():
            CRASH.unlink()
            os._exit(9)
        return {"receipt": idempotency_key[:12]}


class Ship:
    """Send the goods."""

    async def run(self, payload: dict[str, Any], *, idempotency_key: str) -> None:
        effect(f"shipped {payload['order']}", idempotency_key)


class OrderCreated:
    """Have an order fulfilled: whoever works off the queue does it."""

    def __init__(self, *, queue: Any) -> None:
        self.queue = queue

    async def handle(self, envelope: EventEnvelope) -> str:
        order = envelope.payload["order"]
        message = workflow_message("fulfil", run_id=order, context=envelope.payload)
        stored: str = await self.queue.enqueue(message, dedup_id=order)
        return stored


def register(resolver: Resolver) -> None:
    """Offer what the shop is made of; ``plugins.imports`` in the settings names this module."""
    for task in (Reserve, Charge, Ship):
        resolver.register(Candidate(domain="task", key=task.__name__.lower(), provider="shop", factory=task))
    resolver.register(
        Candidate(domain="workflow", key="fulfil", provider="shop", factory=dict, metadata={"dag": FULFIL})
    )
    resolver.register(
        Candidate(
            domain="event",
            key="order-created",
            provider="shop",
            factory=OrderCreated,
            needs={"queue": Key("adapter", "queue")},
            metadata={"topics": ["orders.created"]},
        )
    )
