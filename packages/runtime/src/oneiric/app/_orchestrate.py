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
        LifecycleError: A part did not start or broke down, a task of a component called ``sys.exit``, or another
            orchestrator runs on the state directory.
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
        code = _run(runner, running, options or OrchestrateOptions())
    finally:
        # A task that ignores its cancellation, or a thread that does not end, would hold the loop open.
        left = ", ".join(sorted(task.get_name() for task in asyncio.all_tasks(runner.get_loop()))) or "none"
        last = LastResort(f"a thread of a component, or a task of it ({left}),")
        last.end_in(max(LEAST_SECONDS, running.remaining_seconds), code or 1)
        runner.close()
        last.cancel()
    return code


def _run(runner: asyncio.Runner, running: RunningSystem, options: OrchestrateOptions) -> int:
    """Run the system to its end, also where a task of a component tears the event loop down.

    asyncio lets `SystemExit` and `KeyboardInterrupt` of any task out of the loop, and cannot say whose task it was. The
    loop is gone on with, and the system told to stop: leases drain and instances are cleaned up as in any stop.
    """
    loop = runner.get_loop()
    met: list[BaseException] = []
    loop.set_exception_handler(
        lambda loop, context: None if context.get("exception") in met else loop.default_exception_handler(context)
    )
    task: asyncio.Task[int] | None = None

    async def run() -> int:
        nonlocal task
        task = asyncio.current_task()
        return await running.run()

    # Where the signals are not ours, an interrupt is a person's.
    ours = (SystemExit, KeyboardInterrupt) if options.handle_signals else SystemExit
    try:
        return runner.run(run())
    except ours as error:
        failure = error
    while task is not None and not task.done():
        met.append(failure)  # told here; nobody looks at that task
        running.fail(_said(failure))
        try:
            return loop.run_until_complete(task)
        except ours as error:
            failure = error
    raise failure


def _said(error: BaseException) -> str:
    what = f"called sys.exit({error.code!r})" if isinstance(error, SystemExit) else f"raised {type(error).__name__}"
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None:
        return f"a task {what}"
    code = place.tb_frame.f_code
    return f"a task {what} in {code.co_name}, {code.co_filename}:{place.tb_lineno}"


def _made(loaded: LoadedSettings, load: "Callable[[], LoadedSettings]", *, beside: bool) -> "App":
    from oneiric.app._app import App  # noqa: PLC0415 - heavy: loaded once probes are answered

    return App(loaded, load=load, keep_state=True, beside=beside)
