"""Queues behind one Protocol: ``sqlite`` needs nothing else, ``redis-streams`` and ``nats`` a server and their extra.

Importing this package imports no provider and no SDK; each lives in a module of its own.
"""

from oneiric.adapters.queue._protocol import QUEUE, DeadLetter, Delivery, Depth, ManagedQueue, Queue

__all__ = ["QUEUE", "DeadLetter", "Delivery", "Depth", "ManagedQueue", "Queue"]
