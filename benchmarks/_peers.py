"""The peers' nearest thing to a lookup. They are imported by name: the development environment does not hold them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

__all__ = ["PEERS", "Peer", "lookups", "manifests", "missing", "swaps"]

PEERS: Final = ("svcs", "dishka", "dependency-injector", "wireup", "that-depends", "pluggy", "watchfiles", "tuf")


class Service:
    """What a peer hands out."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One statement of a peer's.

    Attributes:
        name: The case's name.
        statement: What is timed.
        names: Its variables.
        label: What to print.
    """

    name: str
    statement: str
    names: dict[str, Any]
    label: str


def missing() -> list[str]:
    """Return the peers that this environment does not hold."""
    found = []
    for peer in PEERS:
        try:
            version(peer)
        except PackageNotFoundError:
            found.append(peer)
    return found


def lookups() -> list[Peer]:
    """Return each installed peer's lookup of a singleton that exists already."""
    return _installed(_pluggy, _dependency_injector, _svcs, _dishka, _wireup, _that_depends)


def swaps() -> list[Peer]:
    """Return what comes nearest to a swap: replacing what a provider gives. No peer checks health or cleans up."""
    return _installed(_override)


def manifests(rows: Sequence[Mapping[str, Any]]) -> list[Peer]:
    """Return each installed peer's verification of signed metadata that says the same; none registers anything.

    Args:
        rows: The entries. An entry is a target there: what the format has no field for stands in ``custom``.
    """
    return _installed(lambda: _tuf(rows))


def _installed(*makers: Callable[[], list[Peer]]) -> list[Peer]:
    found: list[Peer] = []
    for maker in makers:
        try:
            found += maker()
        except ModuleNotFoundError:
            continue  # `missing` reports it
    return found


def _pluggy() -> list[Peer]:
    manager = import_module("pluggy").PluginManager("benchmarks")
    manager.register(Service(), name="key-3")
    return [Peer("pluggy", "get(k)", {"get": manager.get_plugin, "k": "key-3"}, "pluggy get_plugin(key)")]


def _dependency_injector() -> list[Peer]:
    containers = import_module("dependency_injector.containers")
    providers = import_module("dependency_injector.providers")
    container = containers.DynamicContainer()
    for number in range(10):
        container.set_provider(f"key_{number}", providers.Singleton(Service))
    names = {"providers": container.providers, "k": "key_3"}
    provider = container.providers["key_3"]
    return [
        Peer("dependency_injector_keyed", "providers[k]()", names, "dependency-injector providers[key]()"),
        Peer("dependency_injector", "provider()", {"provider": provider}, "dependency-injector provider()"),
    ]


def _override() -> list[Peer]:
    providers = import_module("dependency_injector.providers")
    provider = providers.Singleton(Service)
    names = {"provider": provider, "Object": providers.Object, "Service": Service}
    statement = "provider.reset_last_overriding(); provider.override(Object(Service()))"
    provider.override(providers.Object(Service()))
    return [Peer("dependency_injector", statement, names, "dependency-injector override()")]


def _svcs() -> list[Peer]:
    svcs = import_module("svcs")
    registry = svcs.Registry()
    registry.register_factory(Service, Service)
    container = svcs.Container(registry)
    container.get(Service)
    return [Peer("svcs", "get(Service)", {"get": container.get, "Service": Service}, "svcs container.get(Service)")]


def _dishka() -> list[Peer]:
    dishka = import_module("dishka")
    provider = dishka.Provider(scope=dishka.Scope.APP)
    provider.provide(Service)
    container = dishka.make_container(provider)
    container.get(Service)
    return [Peer("dishka", "get(Service)", {"get": container.get, "Service": Service}, "dishka container.get(Service)")]


def _wireup() -> list[Peer]:
    wireup = import_module("wireup")
    container = wireup.create_sync_container(injectables=[wireup.injectable(Service)])
    container.get(Service)
    return [Peer("wireup", "get(Service)", {"get": container.get, "Service": Service}, "wireup container.get(Service)")]


def _that_depends() -> list[Peer]:
    provider = import_module("that_depends.providers").Singleton(Service)
    provider.resolve_sync()
    names = {"resolve": provider.resolve, "resolve_sync": provider.resolve_sync}
    return [
        Peer("that_depends", "resolve_sync()", names, "that-depends resolve_sync()"),
        Peer("that_depends_awaited", "await resolve()", names, "that-depends await resolve()"),
    ]


def _tuf(rows: Sequence[Mapping[str, Any]]) -> list[Peer]:
    api, signer = import_module("tuf.api.metadata"), import_module("securesystemslib.signer")
    key = signer.CryptoSigner.generate_ed25519()
    targets = api.Targets()
    for row in rows:
        path = row["uri"].removeprefix("https://cdn.example/")
        custom = {name: value for name, value in row.items() if name not in {"sha256", "size", "uri"}}
        targets.targets[path] = api.TargetFile(row["size"], {"sha256": row["sha256"]}, path, {"custom": custom})
    root = api.Root()
    root.add_key(key.public_key, "targets")
    metadata = api.Metadata(targets)
    metadata.sign(key)
    data = metadata.to_bytes()

    def run() -> object:
        loaded = api.Metadata.from_bytes(data)
        root.verify_delegate("targets", loaded.signed_bytes, loaded.signatures)
        return loaded.signed.targets

    return [Peer("tuf", "run()", {"run": run}, "python-tuf, verify and parse targets metadata")]
