"""Which implementation is active for a key, why that one, and how to change it without dropping a call.

The names below are loaded when they are first touched: ``import oneiric.core`` alone costs almost nothing, and
resolving never loads asyncio.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from oneiric.core._key import Key as Key
    from oneiric.core._secret import Secret as Secret
    from oneiric.core.errors import OneiricError as OneiricError
    from oneiric.core.lifecycle import LifecycleHooks as LifecycleHooks
    from oneiric.core.lifecycle import LifecycleManager as LifecycleManager
    from oneiric.core.lifecycle import LifecycleStatus as LifecycleStatus
    from oneiric.core.lifecycle import LifecycleTimeouts as LifecycleTimeouts
    from oneiric.core.resolution import Candidate as Candidate
    from oneiric.core.resolution import CandidateSource as CandidateSource
    from oneiric.core.resolution import Environment as Environment
    from oneiric.core.resolution import Explanation as Explanation
    from oneiric.core.resolution import Policy as Policy
    from oneiric.core.resolution import Resolver as Resolver
    from oneiric.core.resolution import Selection as Selection

_HOMES: Final = {
    "Candidate": "resolution",
    "CandidateSource": "resolution",
    "Environment": "resolution",
    "Explanation": "resolution",
    "Key": "_key",
    "LifecycleHooks": "lifecycle",
    "LifecycleManager": "lifecycle",
    "LifecycleStatus": "lifecycle",
    "LifecycleTimeouts": "lifecycle",
    "OneiricError": "errors",
    "Policy": "resolution",
    "Resolver": "resolution",
    "Secret": "_secret",
    "Selection": "resolution",
}

__all__ = [
    "Candidate",
    "CandidateSource",
    "Environment",
    "Explanation",
    "Key",
    "LifecycleHooks",
    "LifecycleManager",
    "LifecycleStatus",
    "LifecycleTimeouts",
    "OneiricError",
    "Policy",
    "Resolver",
    "Secret",
    "Selection",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'oneiric.core' has no attribute {name!r}")
    value = getattr(import_module(f"oneiric.core.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
