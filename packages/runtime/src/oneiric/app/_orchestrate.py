"""orchestrate: run an application as a process of its own."""

import asyncio
import os
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from oneiric.app._ending import LEAST_SECONDS
from oneiric.app._running import OrchestrateOptions, RunningSystem
from oneiric.runtime._signals import LastResort
from oneiric.runtime.settings import LoadedSettings, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from oneiric.app._app import App

__all__ = ["orchestrate"]


def orchestrate(
    path: str | os.PathLike[str] | None = None,
    *,
    profile: str | None = None,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    environ: Mapping[str, str] | None = None,
    options: OrchestrateOptions | None = None,
) -> int:
    """Read the settings and run the application until SIGTERM or SIGINT.

    State files are kept in the state directory (``runtime_paths.cache_dir``, by default ``.oneiric_cache``), where
    commands find the running system.

    Args:
        path: A settings file or directory; by default what ``ONEIRIC_CONFIG`` names, else none.
        profile: The profile's name, stronger than any configured.
        overrides: ``"http.port=8081"`` texts, or a mapping of dotted keys to values.
        environ: Environment variables; by default those of the process.
        options: What the settings do not say.

    Returns:
        What the process should exit with: 0 after an orderly stop, 128 plus the signal's number after a forced one.

    Raises:
        ConfigurationError: The settings cannot be read or are not valid.
        LifecycleError: A part did not start or broke down, or another orchestrator runs on the state directory.
    """
    if not isinstance(overrides, Mapping):
        overrides = tuple(overrides)  # read again by every reload
    load = partial(load_settings, path, environ=environ, overrides=overrides, profile=profile)
    loaded = load()
    beside = options is not None and options.beside
    running = RunningSystem(loaded, partial(_made, loaded, load, beside=beside), keep_state=not beside, options=options)
    runner = asyncio.Runner()
    code = 1
    try:
        code = runner.run(running.run())
    finally:
        # A task that ignores its cancellation, or a thread that does not end, would hold the loop open.
        left = ", ".join(sorted(task.get_name() for task in asyncio.all_tasks(runner.get_loop()))) or "none"
        last = LastResort(f"a thread of a component, or a task of it ({left}),")
        last.end_in(max(LEAST_SECONDS, running.remaining_seconds), code or 1)
        runner.close()
        last.cancel()
    return code


def _made(loaded: LoadedSettings, load: "Callable[[], LoadedSettings]", *, beside: bool) -> "App":
    from oneiric.app._app import App  # noqa: PLC0415 - heavy: loaded once probes are answered

    return App(loaded, load=load, keep_state=True, beside=beside)
