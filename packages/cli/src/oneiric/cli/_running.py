"""The running system, if there is one: found by the control socket in the state directory of the settings.

A command that reports or changes a running system comes here first. Whether nothing running is an error or a reason
to look at the stores is the command's own decision; a system that is there and does not answer is an error for all.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oneiric.cli._view import is_configured
from oneiric.core.errors import ConfigurationError, InactiveError, LifecycleError, UnavailableError

if TYPE_CHECKING:
    from oneiric.cli._options import RootOptions
    from oneiric.runtime.control import ControlClient
    from oneiric.runtime.settings import LoadedSettings

__all__ = ["Place", "caller", "place_of", "running_place"]

#: A swap may wait for an activation, a health check, hooks and a drain, each with its own deadline in the system.
_LONGEST_SECONDS: Final = 300.0
#: Variables that name a configuration or choose its defaults.
_NAMING: Final = frozenset(("ONEIRIC_CONFIG", "ONEIRIC_PROFILE"))
#: The state directory that nobody configured: `oneiric.runtime.settings`, which is slow to load, knows it too.
_USUAL_STATE_DIR: Final = ".oneiric_cache"
#: What connecting to a socket says where nobody listens; anything else is a system that is there and does not answer.
_NOBODY: Final = (FileNotFoundError, ConnectionRefusedError, NotADirectoryError)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a system of these settings runs, if it does.

    Attributes:
        loaded: The settings.
        notes: What is worth knowing about them.
    """

    loaded: "LoadedSettings"
    notes: tuple[str, ...] = ()

    @property
    def state_dir(self) -> Path:
        """Its state directory; need not exist."""
        return self.loaded.settings.state_dir

    def client(self) -> "ControlClient":
        """Return what calls it."""
        from oneiric.runtime.control import ControlClient, control_socket_path  # noqa: PLC0415 - only who asks

        return ControlClient(control_socket_path(self.state_dir), timeout_seconds=_LONGEST_SECONDS)

    def ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        """Return the running system's answer.

        Raises:
            InactiveError: Nothing runs there.
            OneiricError: What the running system answered, or that it does not.
        """
        answer = self.ask_if_running(operation, **fields)
        if answer is None:
            raise self.nothing()
        return answer

    def ask_if_running(self, operation: str, **fields: Any) -> dict[str, Any] | None:
        """Return the running system's answer; None when nothing runs.

        Raises:
            OneiricError: What the running system answered, or that it does not.
        """
        try:
            return self.client().call(operation, **fields)
        except (InactiveError, UnavailableError) as error:
            if isinstance(error.__cause__, _NOBODY):
                return None
            if isinstance(error, InactiveError):  # of a key: what it would exit with says that nothing runs
                raise LifecycleError(error.message, error.hint) from error
            raise
        except ConfigurationError as error:
            if error.hint is None or not error.hint.startswith("GET /api"):
                raise
            raise ConfigurationError(error.message, "the same command with --help") from error

    def nothing(self) -> InactiveError:
        """Return the error that nothing runs here."""
        return InactiveError(f"nothing is running: nobody listens in {self.state_dir}", "oneiric orchestrate")


def place_of(options: "RootOptions", *, only_looks: bool = False) -> Place:
    """Return where a system of the settings that a command was given would run.

    Args:
        options: The root options.
        only_looks: The command changes nothing. Settings that cannot be read then do not hide a system that runs where
            it would by default: that is when somebody wants to see it.

    Raises:
        ConfigurationError: The settings are wrong.
    """
    from oneiric.runtime.settings import load_settings  # noqa: PLC0415 - loads pydantic

    _keep_logs_back(options)
    try:
        return Place(load_settings(options.config, profile=options.profile))
    except ConfigurationError as error:
        place = _usual_place(error) if only_looks else None
        if place is None or place.ask_if_running("health") is None:
            raise
        return place


def running_place(options: "RootOptions") -> Place | None:
    """Return where a system runs; None where none does, found out without loading settings that nobody made.

    Raises:
        ConfigurationError: The settings are wrong, and no system runs where one would by default.
    """
    if not is_configured(options, os.environ) and not Path(_USUAL_STATE_DIR).is_dir():
        return None
    place = place_of(options, only_looks=True)
    return None if place.ask_if_running("health") is None else place


def _usual_place(error: ConfigurationError) -> Place | None:
    """Return where a system runs that nobody configured; None where the environment is wrong too."""
    from oneiric.runtime.settings import load_settings  # noqa: PLC0415 - loaded by now

    environ = {name: value for name, value in os.environ.items() if name not in _NAMING}
    try:
        loaded = load_settings(None, environ=environ)
    except ConfigurationError:
        return None
    note = f"the settings given here are wrong, and this is the system in {loaded.settings.state_dir}: {error.message}"
    return Place(loaded, (note,))


def caller() -> str:
    """Return who changes something, for the journal and the store: the user's name."""
    import getpass  # noqa: PLC0415 - only who changes something

    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without an entry
        return f"uid {os.getuid()}"


def _keep_logs_back(options: "RootOptions") -> None:
    """Leave it to the command to say what went wrong: a store's warnings would stand beside the same sentence."""
    import logging  # noqa: PLC0415 - the settings have loaded it

    log = logging.getLogger("oneiric")
    if not (options.verbose or options.debug or log.handlers):
        log.addHandler(logging.NullHandler())
