"""The peers: installed beside the checkout's environment, never into it."""

import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import Batch

__all__ = ["install", "keyed_routes"]

HERE = Path(__file__).parent
TARGET = HERE / ".peers"


def install() -> str | None:
    """Make the peers importable; return why that failed, or None."""
    wanted = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    stamp = TARGET / ".installed"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != repr(wanted):
        command = ["uv", "pip", "install", "--quiet", "--python", sys.executable, "--target", str(TARGET), *wanted]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            return str(error)
        if done.returncode:
            return done.stderr.strip().splitlines()[-1]
        stamp.write_text(repr(wanted), encoding="utf-8")
    sys.path.append(str(TARGET))
    return None


class Service:
    """What every peer provides."""


def keyed_routes() -> dict[str, Batch]:
    """Return, per peer that is there, a batch that looks a singleton up the way the peer does it."""
    routes: dict[str, Batch] = {}
    for make in (_svcs, _pluggy, _dependency_injector, _dishka, _wireup, _that_depends):
        try:
            name, look_up = make()
        except Exception as error:  # noqa: BLE001 - a peer that changed or is absent is left out, and said so
            print(f"  left out: {make.__name__[1:]}: {type(error).__name__}: {error}", file=sys.stderr)
        else:
            routes[name] = _batch(look_up)
    return routes


def _batch(look_up: Callable[[], object]) -> Batch:
    def batch(size: int) -> None:
        for _ in range(size):
            look_up()

    return batch


def _svcs() -> tuple[str, Callable[[], Any]]:
    import svcs

    registry = svcs.Registry()
    registry.register_value(Service, Service())
    container = svcs.Container(registry)
    return "svcs container.get", lambda: container.get(Service)


def _pluggy() -> tuple[str, Callable[[], Any]]:
    import pluggy

    manager = pluggy.PluginManager("bench")
    manager.register(Service(), "service")
    return "pluggy get_plugin", lambda: manager.get_plugin("service")


def _dependency_injector() -> tuple[str, Callable[[], Any]]:
    from dependency_injector import containers, providers

    container = containers.DynamicContainer()
    container.service = providers.Singleton(Service)
    by_key = container.providers

    def look_up() -> Any:
        return by_key["service"]()

    return "dependency-injector providers[key]()", look_up


def _dishka() -> tuple[str, Callable[[], Any]]:
    from dishka import Provider, Scope, make_container

    provider = Provider(scope=Scope.APP)
    provider.provide(Service)
    container = make_container(provider)
    return "dishka container.get", lambda: container.get(Service)


def _wireup() -> tuple[str, Callable[[], Any]]:
    import wireup

    container = wireup.create_sync_container(injectables=[wireup.injectable(Service)])
    return "wireup container.get", lambda: container.get(Service)


def _that_depends() -> tuple[str, Callable[[], Any]]:
    from that_depends import providers

    singleton = providers.Singleton(Service)
    return "that-depends resolve_sync", singleton.resolve_sync
