"""Caches behind one Protocol: ``memory`` and ``sqlite`` need nothing else, ``redis`` a server and its extra.

Importing this package imports no provider and no SDK; each lives in the module that bears its name.
"""

from oneiric.adapters.cache._protocol import CACHE, Cache, Value

__all__ = ["CACHE", "Cache", "Value"]
