"""What the family's catalogue makes of itself: who serves, and why."""

from oneiric.adapters.queue import QUEUE
from oneiric.core.catalog import discover
from oneiric.core.resolution import Policy, Resolver


def test_sqlite_serves_unless_told_otherwise() -> None:
    resolver = Resolver(Policy())
    report = discover(resolver)

    assert [error for error in report.errors if "queue" in str(error)] == []
    assert resolver.resolve(QUEUE).provider == "sqlite"
