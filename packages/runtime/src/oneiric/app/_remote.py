"""Remote delivery of an application: the loader its settings describe, and the part that keeps it current.

`oneiric.remote` is a distribution of its own, and imported only where somebody asks for it.
"""

import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from oneiric.core import Secret
from oneiric.core.errors import ConfigurationError, MissingExtraError, OneiricError
from oneiric.core.security import FactoryAllowList
from oneiric.runtime._telemetry_metrics import metrics
from oneiric.runtime.logging import get_logger
from oneiric.runtime.settings import OneiricSettings, RemoteSettings, resolve_secrets
from oneiric.runtime.telemetry import count, measure, span

if TYPE_CHECKING:
    import ssl

    from oneiric.app._app import App
    from oneiric.remote.fetch import FetchPolicy, SafeFetcher
    from oneiric.remote.loader import LoaderOptions, SyncFailed, SyncReport
    from oneiric.remote.refresh import RemoteRefresh
    from oneiric.remote.trust import TrustRoot
    from oneiric.runtime.state_files import HealthFile

__all__ = ["Remote", "is_wanted", "remote_part", "restore_beside"]

_DISTRIBUTION: Final = "oneiric-remote"
#: No fetch waits for nothing, whatever the settings say.
_LEAST_SECONDS: Final = 0.001


def is_wanted(settings: OneiricSettings) -> bool:
    """Tell whether the settings ask for manifests to be applied."""
    return settings.remote.enabled and settings.remote.manifest_url is not None


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
        if find_spec("oneiric.remote") is None:
            raise MissingExtraError("remote delivery", _DISTRIBUTION, "oneiric.remote")
        from oneiric.remote.loader import RemoteLoader  # noqa: PLC0415 - a distribution of its own

        settings = app.settings.remote
        self._app = app
        root = _root(settings)
        self._trusts_somebody = root is not None
        self._fetching = _Fetching(app)
        self.loader: RemoteLoader = RemoteLoader(
            app.resolver,
            app.lifecycle,
            root=root,
            fetcher=None if app.settings.profile.inline_manifest_only else self._fetching,
            cache_dir=app.settings.state_dir,
            options=_options(settings),
            trace=lambda: span("remote.sync"),
        )
        self.loader.observe(_log)

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
        from oneiric.remote.loader import is_network  # noqa: PLC0415 - a distribution of its own

        settings = self._app.settings
        by_rule = settings.remote.signature_required or settings.profile.name == "serverless"
        return is_network(url) or by_rule or (self._trusts_somebody and url == settings.remote.manifest_url)

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

    def _named(self, manifest_url: str | None) -> str:
        """Return the manifest to sync; the host of one that was named by hand may be asked."""
        if manifest_url is not None:
            self._fetching.allow(manifest_url)
        return manifest_url or self.url

    async def restore(self) -> "SyncReport | None":
        """Put in force again what was committed to last; see `RemoteLoader.restore`."""
        return await self.loader.restore()

    def watch(self) -> Callable[[], None]:
        """Offer whether what is in force has expired, as a gauge; return the call that ends that."""
        found = metrics()
        if found is None:
            return lambda: None
        return found.watch("oneiric_remote_stale", lambda: float(self.loader.status_document()["stale"]))

    def status(self) -> dict[str, Any]:
        """Return what ``remote_status.json`` holds, as of now."""
        return {"manifest_url": self._app.settings.remote.manifest_url, **self.loader.status_document()}


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


class _Fetching:
    """A fetcher whose credential is read when it is needed, and read again when it was rotated."""

    def __init__(self, app: "App") -> None:
        self._app = app
        self._made: tuple[str | None, SafeFetcher] | None = None
        self._also: tuple[str, ...] = ()

    def allow(self, url: str) -> None:
        """Let the host of a URL be asked beside those of the settings."""
        if url not in self._also:
            self._also, self._made = (*self._also, url), None

    async def fetch(self, url: str, **wanted: Any) -> Any:
        return await (await self._fetcher()).fetch(url, **wanted)

    async def _fetcher(self) -> "SafeFetcher":
        settings = self._app.settings.remote
        secret = await self._credential(settings)
        value = None if secret is None else secret.reveal()
        if self._made is None or self._made[0] != value:
            self._made = (value, _safe_fetcher(settings, secret, self._also))
        return self._made[1]

    async def _credential(self, settings: RemoteSettings) -> Secret | None:
        if settings.auth.secret_id is not None:
            return await self._app.secrets.get(settings.auth.secret_id)
        resolved = await resolve_secrets(self._app.loaded, settings, self._app.secrets)
        return resolved.auth.token


def _safe_fetcher(settings: RemoteSettings, secret: Secret | None, also: tuple[str, ...]) -> "SafeFetcher":
    from oneiric.remote.fetch import Credential, FetchLimits, SafeFetcher  # noqa: PLC0415 - a distribution of its own

    url = settings.manifest_url or ""
    credentials: Sequence[Credential] = ()
    if secret is not None and url.startswith("https://"):
        credentials = (Credential(origin=url, value=secret, header=settings.auth.header_name),)
    limits = FetchLimits(
        attempts=settings.max_retries + 1,
        backoff_seconds=max(settings.retry_base_delay, _LEAST_SECONDS),
        backoff_cap_seconds=max(settings.retry_max_delay, _LEAST_SECONDS),
        failures_to_open=settings.circuit_breaker_threshold,
        open_seconds=max(settings.circuit_breaker_reset, _LEAST_SECONDS),
    )
    return SafeFetcher(_fetch_policy(settings, also), limits, credentials=credentials, tls=_tls(settings))


def _fetch_policy(settings: RemoteSettings, also: tuple[str, ...]) -> "FetchPolicy":
    from oneiric.remote.fetch import FetchPolicy  # noqa: PLC0415 - a distribution of its own

    try:
        named = [urlsplit(url) for url in (settings.manifest_url or "", *also)]
        hosts = [parts.hostname for parts in named if parts.hostname]
        ports = [parts.port for parts in named if parts.port is not None]
    except ValueError as error:
        raise ConfigurationError(f"the manifest's URL is none: {error}", "remote.manifest_url") from error
    return FetchPolicy(
        hosts=(*hosts, *settings.allowed_hosts),
        http_hosts=settings.http_hosts,
        ports=(*ports, *settings.ports),
        private_networks=settings.private_networks,
        roots=settings.allowed_file_uri_roots if settings.allow_file_uris else (),
    )


def _tls(settings: RemoteSettings) -> "ssl.SSLContext | None":
    if not settings.verify_tls:
        raise ConfigurationError(
            "remote.verify_tls = false is not supported: a server that nobody verified could hold updates back",
            "remote.ca_path = the certificate of its authority",
        )
    if settings.ca_path is None:
        return None
    import ssl  # noqa: PLC0415 - only where a certificate is named

    try:
        return ssl.create_default_context(cafile=settings.ca_path)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"remote.ca_path {str(settings.ca_path)!r} cannot be read: {error}") from error


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
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"remote.root_path {str(path)!r} cannot be read: {error.strerror or error}") from error


def _options(settings: RemoteSettings) -> "LoaderOptions":
    from oneiric.remote.apply import Probation  # noqa: PLC0415 - a distribution of its own
    from oneiric.remote.loader import LoaderOptions  # noqa: PLC0415 - as above
    from oneiric.remote.manifest import FactoryPolicy  # noqa: PLC0415 - as above
    from oneiric.remote.trust import ClientPolicy, EmbeddedPolicy  # noqa: PLC0415 - as above

    return LoaderOptions(
        client=ClientPolicy(product=settings.product, channel=settings.channel or "stable", audience=settings.audience),
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
        latency_budget_ms=settings.latency_budget_ms,
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
