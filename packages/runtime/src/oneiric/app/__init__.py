"""The application: settings, discovery, resolver, lifecycle and bridges, put together.

The one part that knows all others. It needs no command line and no event loop of its own: it is opened
inside whatever runs one, a script, a test fixture or the lifespan of a web framework.
"""

from oneiric.app._app import App

__all__ = ["App"]
