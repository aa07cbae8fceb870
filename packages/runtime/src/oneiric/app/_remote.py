"""Remote delivery of an application: the loader its settings describe, and the part that keeps it current.

`oneiric.remote` is a distribution of its own, and imported only where somebody asks for it.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oneiric.app._remote_fetching import Fetching
from oneiric.core.errors import ConfigurationError, FetchRefusedError, MissingExtraError, OneiricError
from oneiric.core.security import FactoryAllowList
from oneiric.runtime._telemetry_metrics import metrics
from oneiric.runtime.logging import get_logger
from oneiric.runtime.settings import OneiricSettings, RemoteSettings
from oneiric.runtime.telemetry import count, measure, span

if TYPE_CHECKING:
    from oneiric.app._app import App
    from oneiric.remote.loader import Downloading, LoaderOptions, SyncFailed, SyncReport
    from oneiric.remote.refresh import RemoteRefresh
    from oneiric.remote.stored import Stored
    from oneiric.remote.trust import TrustRoot
    from oneiric.runtime.state_files import HealthFile

__all__ = ["Remote", "is_wanted", "remote_part", "restore_beside", "stored_delivery"]

_DISTRIBUTION: Final = "oneiric-remote"


def is_wanted(settings: OneiricSettings) -> bool:
    """Tell whether the settings ask for manifests to be applied."""
    return settings.remote.manifest_url is not None and settings.why_remote_is_off is None


class Remote:
    """Remote delivery of an application, as its settings describe it.

    Args:
        app: The application.

    Attributes:
        loader: Does the work.

    Raises:
        MissingExtraError: The distribution is not installed.
        ConfigurationError: A key, the root or a certificate cannot be read, or TLS is not to be verified.
        ManifestError: The root document is not to be used.
    """

    def __init__(self, app: "App") -> None:
        _require_distribution()
        from oneiric.remote.loader import RemoteLoader  # noqa: PLC0415 - a distribution of its own

        settings = app.settings.remote
        self._app = app
        root = _root(settings)
        self._trusts_somebody = root is not None
        self._fetching = Fetching(app)
        self._downloads: list[Downloading] = []
        self.loader: RemoteLoader = RemoteLoader(
            app.resolver,
            app.lifecycle,
            root=root,
            fetcher=None if app.settings.profile.inline_manifest_only else self._fetching,
            cache_dir=app.settings.state_dir,
            options=_options(app.settings, self._tell_download),
            trace=lambda: span("remote.sync"),
        )
        self.loader.observe(_log)
        self.loader.observe(self._warn_of_revoked)

    @property
    def url(self) -> str:
        """The manifest that the settings name.

        Raises:
            ConfigurationError: They name none.
        """
        url = self._app.settings.remote.manifest_url
        if url is None:
            raise ConfigurationError("no manifest is named", "remote.manifest_url")
        return url

    def must_verify(self, url: str) -> bool:
        """Tell whether a manifest must be signed.

        Always, but for a local file: one that was named by hand, or one that the settings name where they name nobody
        to trust. Where they do, whoever can write to the file is not to decide that it needs no signature.
        """
        return _must_verify(self._app.settings, url, trusts_somebody=self._trusts_somebody)

    async def sync(self, manifest_url: str | None = None, *, apply: bool = True) -> "SyncReport":
        """Put in force what is current; see `RemoteLoader.sync`.

        Args:
            manifest_url: By default the one that the settings name.
            apply: False only verifies and stores.
        """
        url = self._named(manifest_url)
        return await self.loader.sync(url, verify_signature=self.must_verify(url), apply=apply)

    async def plan(self, manifest_url: str | None = None) -> Any:
        """Return what a sync would change; see `RemoteLoader.plan`."""
        url = self._named(manifest_url)
        return await self.loader.plan(url, verify_signature=self.must_verify(url))

    def check(self, url: str) -> None:
        """Refuse a manifest that the profile does not let be fetched.

        Raises:
            FetchRefusedError: It is on the network, and nothing is fetched from there.
        """
        from oneiric.remote.loader import is_network  # noqa: PLC0415 - a distribution of its own

        profile = self._app.settings.profile
        if not is_network(url):
            return
        obstacle = "remote_enabled is false" if not profile.remote_enabled else "inline_manifest_only is true"
        if not profile.remote_enabled or profile.inline_manifest_only:
            raise FetchRefusedError(
                f"the manifest is on the network, and profile.{obstacle}", "a manifest packed with the application"
            )

    def _named(self, manifest_url: str | None) -> str:
        """Return the manifest to sync; the host of one that was named by hand may be asked."""
        url = manifest_url or self.url
        self.check(url)
        if manifest_url is not None:
            self._fetching.allow(manifest_url)
        return url

    async def restore(self) -> "SyncReport | None":
        """Put in force again what was committed to last; see `RemoteLoader.restore`."""
        return await self.loader.restore()

    def watch_downloads(self, watcher: "Downloading") -> Callable[[], None]:
        """Have *watcher* told name, bytes so far and signed bytes of each download; return the call that ends it."""
        self._downloads.append(watcher)

        def stop() -> None:
            with suppress(ValueError):
                self._downloads.remove(watcher)

        return stop

    def _tell_download(self, name: str, received_bytes: int, signed_bytes: int) -> None:
        for watcher in self._downloads:
            watcher(name, received_bytes, signed_bytes)

    def watch(self) -> Callable[[], None]:
        """Offer as gauges whether what is in force has expired, and how much revoked serves; return what ends that."""
        found = metrics()
        if found is None:
            return lambda: None
        stops = (
            found.watch("oneiric_remote_stale", lambda: float(self.loader.status_document()["stale"])),
            found.watch("oneiric_remote_revoked_in_use", lambda: float(len(self.revoked()))),
        )

        def stop() -> None:
            for each in stops:
                each()

        return stop

    def revoked(self) -> list[dict[str, Any]]:
        """Return what serves on although its artifact was revoked: slot, provider, digest and a sentence each."""
        found: list[dict[str, Any]] = self.loader.status_document()["revoked"]
        return found

    def _warn_of_revoked(self, _ended: object) -> None:
        for each in self.revoked():
            get_logger("oneiric.remote").warning("remote-revoked-in-use", **each)

    def status(self) -> dict[str, Any]:
        """Return what ``remote_status.json`` holds, as of now."""
        return {"manifest_url": self._app.settings.remote.shown_manifest_url, **self.loader.status_document()}


def remote_part(app: "App", health: "HealthFile | None") -> "RemoteRefresh":
    """Return the part that keeps an application current, and the health file told.

    Raises:
        OneiricError: As `Remote`.
    """
    remote = app.remote
    from oneiric.remote.refresh import RemoteRefresh  # noqa: PLC0415 - a distribution of its own

    if health is not None:
        remote.loader.observe(lambda ended: _tell(health, ended))
    settings = app.settings
    return RemoteRefresh(
        remote.loader,
        remote.url,
        verify_signature=remote.must_verify(remote.url),
        interval_seconds=settings.remote.refresh_interval,
    )


async def restore_beside(app: "App") -> None:
    """Put in force what the system that an application runs beside was delivered last; nothing is fetched.

    What cannot be restored is logged: whatever needs it fails with it.
    """
    if not (app.beside and app.state_dir is not None and is_wanted(app.settings)):
        return
    try:
        await app.remote.restore()
    except OneiricError as error:
        get_logger("oneiric.remote").warning("remote-not-restored", reason=str(error))
    except BaseException:
        await app.aclose()  # it was being entered: nobody else leaves it
        raise


async def stored_delivery(settings: OneiricSettings) -> "Stored | None":
    """Return what a start would put in force before it touches the network; nothing is registered or written.

    Returns:
        What is stored, verified anew; None where the settings ask for no manifests, or none is stored.

    Raises:
        OneiricError: As `Remote`; or what is stored is not to be used.
    """
    if not is_wanted(settings):
        return None
    _require_distribution()
    from oneiric.remote.stored import read_packed, read_stored  # noqa: PLC0415 - a distribution of its own

    root, cache_dir, options = _root(settings.remote), settings.state_dir, _options(settings)
    if settings.profile.inline_manifest_only:
        path = str(settings.remote.manifest_url)
        verify = _must_verify(settings, path, trusts_somebody=root is not None)
        return await read_packed(path, root=root, cache_dir=cache_dir, options=options, verify_signature=verify)
    return await read_stored(root=root, cache_dir=cache_dir, options=options)


def _must_verify(settings: OneiricSettings, url: str, *, trusts_somebody: bool) -> bool:
    from oneiric.remote.loader import is_network  # noqa: PLC0415 - a distribution of its own

    by_rule = settings.remote.signature_required or settings.profile.name == "serverless"
    return is_network(url) or by_rule or (trusts_somebody and url == settings.remote.manifest_url)


def _require_distribution() -> None:
    if find_spec("oneiric.remote") is None:
        raise MissingExtraError("remote delivery", _DISTRIBUTION, "oneiric.remote")


def _root(settings: RemoteSettings) -> "TrustRoot | None":
    """Return where trust starts: the pinned document, else the keys of the environment, else nowhere."""
    from oneiric.remote.keys import trusted_keys  # noqa: PLC0415 - a distribution of its own
    from oneiric.remote.trust import TrustRoot  # noqa: PLC0415 - as above

    if settings.root_path is not None:
        return TrustRoot.pinned(_read(settings.root_path), sha256=settings.root_sha256, what=str(settings.root_path))
    keys = trusted_keys(os.environ)
    if not keys:
        return None
    return TrustRoot.from_keys(keys, threshold=settings.signature_threshold, product=settings.product)


def _read(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise ConfigurationError(f"remote.root_path {str(path)!r} is no file", "the root document")
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"remote.root_path {str(path)!r} cannot be read: {error.strerror or error}") from error


def _options(of: OneiricSettings, on_download: "Downloading | None" = None) -> "LoaderOptions":
    from oneiric.remote.apply import Probation  # noqa: PLC0415 - a distribution of its own
    from oneiric.remote.loader import LoaderOptions  # noqa: PLC0415 - as above
    from oneiric.remote.manifest import FactoryPolicy  # noqa: PLC0415 - as above
    from oneiric.remote.trust import ClientPolicy, EmbeddedPolicy  # noqa: PLC0415 - as above

    settings = of.remote
    return LoaderOptions(
        client=ClientPolicy(
            product=settings.product,
            channel=settings.channel or "stable",
            audience=settings.audience,
            is_packed=of.profile.inline_manifest_only,
        ),
        factories=FactoryPolicy(
            domains={domain: FactoryAllowList(modules) for domain, modules in settings.factories.items()},
            general=FactoryAllowList.from_environ(os.environ),
        ),
        embedded=EmbeddedPolicy(
            accept=settings.accept_embedded_signatures,
            threshold=settings.signature_threshold,
            max_age_seconds=settings.signature_max_age_seconds,
            require_expiry=settings.signature_require_expiry,
        ),
        probation=Probation(seconds=settings.probation_seconds),
        installed_only=settings.installed_modules_only,
        lock_seconds=settings.lock_seconds,
        latency_budget_ms=settings.latency_budget_ms,
        on_download=on_download,
    )


def _log(ended: "SyncReport | SyncFailed") -> None:
    """Log and count how a sync ended."""
    from oneiric.remote.loader import SyncFailed  # noqa: PLC0415 - a distribution of its own

    log = get_logger("oneiric.remote")
    measure("oneiric_remote_sync_duration_ms", ended.duration_ms)
    if isinstance(ended, SyncFailed):
        log.error("remote-refused", source=ended.source, step=ended.step, error=ended.error, reason=ended.reason)
        count("oneiric_remote_sync_failure_total", url=ended.source, error=ended.error)
        return
    about, plan = ended.plan.manifest, ended.plan
    level = log.debug if ended.outcome == "unchanged" else log.info
    level(f"remote-{ended.outcome}", source=plan.source, version=about.get("version"), swapped=len(ended.swapped))
    if plan.signature == "unsigned":
        log.warning("remote-unsigned", source=plan.source, reason="nobody signed this manifest")
    for problem in plan.problems:
        log.warning("remote-problem", reason=problem)
    count("oneiric_remote_sync_success_total", source=about.get("product") or "remote", url=plan.source)
    if ended.outcome != "unchanged":
        count("oneiric_remote_candidates_registered_total", ended.registered)
    if ended.digest_checks:
        count("oneiric_remote_digest_checks_total", ended.digest_checks)


def _tell(health: "HealthFile", ended: "SyncReport | SyncFailed") -> None:
    from oneiric.remote.loader import SyncFailed  # noqa: PLC0415 - a distribution of its own

    if isinstance(ended, SyncFailed):
        health.remote_synced(duration_ms=ended.duration_ms, error=ended.reason)
        return
    health.remote_synced(
        duration_ms=ended.duration_ms,
        registered=ended.registered,
        skipped=ended.skipped,
        per_domain=ended.per_domain,
    )
