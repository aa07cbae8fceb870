"""What an application fetches manifests with: the one fetcher its settings describe, with its credential."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from oneiric.core import Secret
from oneiric.core.errors import ConfigurationError
from oneiric.runtime.settings import OneiricSettings, RemoteSettings, resolve_secrets

if TYPE_CHECKING:
    import ssl

    from oneiric.app._app import App
    from oneiric.remote.fetch import FetchPolicy, SafeFetcher

__all__ = ["Fetching"]

#: No fetch waits for nothing, whatever the settings say.
_LEAST_SECONDS: Final = 0.001


class Fetching:
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
        """Fetch with what the settings say now; see `SafeFetcher.fetch`."""
        return await (await self._fetcher()).fetch(url, **wanted)

    async def _fetcher(self) -> "SafeFetcher":
        settings = self._app.settings.remote
        secret = await self._credential(settings)
        value = None if secret is None else secret.reveal()
        if self._made is None or self._made[0] != value:
            self._made = (value, _safe_fetcher(self._app.settings, secret, self._also))
        return self._made[1]

    async def _credential(self, settings: RemoteSettings) -> Secret | None:
        if settings.auth.secret_id is not None:
            return await self._app.secrets.get(settings.auth.secret_id)
        resolved = await resolve_secrets(self._app.loaded, settings, self._app.secrets)
        return resolved.auth.token


def _safe_fetcher(of: OneiricSettings, secret: Secret | None, also: tuple[str, ...]) -> "SafeFetcher":
    from oneiric.remote.fetch import Credential, FetchLimits, SafeFetcher  # noqa: PLC0415 - a distribution of its own

    settings = of.remote
    policy = _fetch_policy(settings, also, network=of.profile.remote_enabled)
    url = settings.manifest_url or ""
    credentials: Sequence[Credential] = ()
    if secret is not None and url.startswith("https://"):
        credentials = (Credential(origin=url, value=secret, header=settings.auth.header_name),)
    limits = FetchLimits(
        attempts=settings.max_retries + 1,
        backoff_seconds=max(settings.retry_base_delay, _LEAST_SECONDS),
        backoff_cap_seconds=max(settings.retry_max_delay, _LEAST_SECONDS),
        jitter=settings.retry_jitter,
        failures_to_open=settings.circuit_breaker_threshold,
        open_seconds=max(settings.circuit_breaker_reset, _LEAST_SECONDS),
    )
    return SafeFetcher(policy, limits, credentials=credentials, tls=_tls(settings))


def _fetch_policy(settings: RemoteSettings, also: tuple[str, ...], *, network: bool) -> "FetchPolicy":
    from oneiric.remote.fetch import FetchPolicy  # noqa: PLC0415 - a distribution of its own

    roots = settings.allowed_file_uri_roots if settings.allow_file_uris else ()
    if not network:
        return FetchPolicy(hosts=(), roots=roots)
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
        roots=roots,
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
