"""An application in this process, with the stores of the state directory, for as long as a command runs."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from oneiric.app import App
from oneiric.cli._options import RootOptions
from oneiric.cli._view import load_extras

__all__ = ["app_here", "done_here"]


def app_here(options: RootOptions, overrides: Mapping[str, Any] | None = None) -> App:
    """Return an application that keeps its state where the system of these settings does, and disturbs none of its own.

    Args:
        options: The root options.
        overrides: Settings that the command line says.

    Raises:
        ConfigurationError: The settings are wrong.
        LoadError: A module cannot be imported.
    """
    level = "DEBUG" if options.debug else "INFO" if options.verbose else "CRITICAL"
    app = App.open(
        options.config,
        profile=options.profile,
        overrides={"logging.level": level, **(overrides or {})},
        keep_state=True,
        beside=True,
    )
    load_extras(options, app.resolver)
    return app


def done_here[T](app: App, work: Callable[[App], Awaitable[T]]) -> T:
    """Enter the application, do the work, and clean up; SIGTERM is heeded as Ctrl-C is.

    Raises:
        OneiricError: What the work raised.
        KeyboardInterrupt: It was interrupted; all is cleaned up.
    """

    async def do() -> T:
        mine = asyncio.current_task()
        if mine is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, mine.cancel)
        async with app:
            return await work(app)

    try:
        return asyncio.run(do())
    except asyncio.CancelledError as error:
        raise KeyboardInterrupt from error
