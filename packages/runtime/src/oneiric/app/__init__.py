"""The application: settings, discovery, resolver, lifecycle and bridges, put together, and run as a process.

The one part that knows all others. `App` needs no command line and no event loop of its own: it is opened inside
whatever runs one, a script, a test fixture or the lifespan of a web framework. `orchestrate` makes a process of it.
Names are loaded when they are first touched, so that a process answers its probes before the rest of it is loaded.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from oneiric.app._app import App
    from oneiric.app._ending import leave
    from oneiric.app._orchestrate import orchestrate
    from oneiric.app._reloads import Follower
    from oneiric.app._remote import stored_delivery
    from oneiric.app._running import OrchestrateOptions, PlannedPart, RunningSystem

__all__ = [
    "App",
    "Follower",
    "OrchestrateOptions",
    "PlannedPart",
    "RunningSystem",
    "leave",
    "orchestrate",
    "stored_delivery",
]

_HOMES: Final = {
    "App": "_app",
    "Follower": "_reloads",
    "OrchestrateOptions": "_running",
    "PlannedPart": "_running",
    "RunningSystem": "_running",
    "leave": "_ending",
    "orchestrate": "_orchestrate",
    "stored_delivery": "_remote",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'oneiric.app' has no attribute {name!r}")
    value = getattr(import_module(f"oneiric.app.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
