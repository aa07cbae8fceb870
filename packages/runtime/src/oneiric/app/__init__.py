"""The application: settings, discovery, resolver, lifecycle and bridges, put together, and run as a process.

The one part that knows all others. `App` needs no command line and no event loop of its own: it is opened inside
whatever runs one, a script, a test fixture or the lifespan of a web framework. `orchestrate` makes a process of it.
"""

from oneiric.app._app import App
from oneiric.app._orchestrate import orchestrate
from oneiric.app._running import OrchestrateOptions, PlannedPart, RunningSystem

__all__ = ["App", "OrchestrateOptions", "PlannedPart", "RunningSystem", "orchestrate"]
