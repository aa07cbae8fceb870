"""The contract every queue keeps, as tests that any provider can inherit.

::

    from oneiric.adapters.queue.testing import QueueContract

    class TestMyQueue(QueueContract):
        async def make(self, **settings): ...   # a new, initialised and empty queue, with these settings
        async def another(self, queue): ...     # a further, initialised instance that shares its messages

Each test runs in an event loop of its own, by the provider's real clock: it waits for a message, never for a time.
No pytest plugin is needed; the extra ``testing`` brings pytest.
"""

from oneiric.adapters.queue._contract import QueueInstance
from oneiric.adapters.queue._contract_messages import MessageContract
from oneiric.adapters.queue._contract_settling import SettlingContract

__all__ = ["QueueContract", "QueueInstance"]


class QueueContract(MessageContract, SettlingContract):
    """What holds for every queue. Inherit, and say how to make one."""
