"""Queues for Oneiric: SQLite, Redis Streams and NATS JetStream behind one Protocol."""

__all__: list[str] = []
