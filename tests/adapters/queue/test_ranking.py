"""What the family's catalogue makes of itself: who serves, and why."""

from oneiric.adapters.queue import QUEUE
from oneiric.core.catalog import discover
from oneiric.core.resolution import Policy, Resolver


def test_sqlite_serves_unless_told_otherwise_and_the_others_wait_to_be_selected() -> None:
    resolver = Resolver(Policy())
    report = discover(resolver)

    assert [error for error in report.errors if "queue" in str(error)] == []
    assert resolver.resolve(QUEUE).provider == "sqlite"
    ours = resolver.explain("adapter", "queue").filtered
    waiting = {row.provider for row in ours if "oneiric.adapters.queue" in str(row.candidate.factory)}
    assert waiting == {"nats", "redis-streams"}
    assert resolver.resolve(QUEUE, provider="nats").provider == "nats"
