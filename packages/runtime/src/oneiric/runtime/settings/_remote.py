"""The section of remote delivery: which manifest, how it is fetched, and what is believed."""

import re
from pathlib import Path
from typing import Final

from pydantic import Field

from oneiric.core import Secret
from oneiric.runtime.settings._section import Section, seconds

__all__ = ["DEFAULT_CACHE_DIR", "RemoteAuthSettings", "RemoteSettings"]

DEFAULT_CACHE_DIR: Final = Path(".oneiric_cache")
#: As in `oneiric.remote.loader.is_network`, which may not be installed.
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class RemoteAuthSettings(Section):
    """The credential sent to the manifest's own origin, and to no other."""

    header_name: str = Field(default="Authorization", min_length=1, description="The header that carries it.")
    secret_id: str | None = Field(default=None, description="Id of the secret that is the header's whole value.")
    token: Secret | None = Field(
        default=None, repr=False, description="The header's whole value itself; secret_id is stronger."
    )


class RemoteSettings(Section):
    """Signed manifests from elsewhere."""

    enabled: bool = Field(default=False, description="Apply remote manifests.")
    manifest_url: str | None = Field(default=None, description="https URL of the manifest, or a local file.")
    cache_dir: Path = Field(
        default=DEFAULT_CACHE_DIR,
        description="Directory of manifests and artifacts; also of state, unless runtime_paths.cache_dir is set.",
    )
    verify_tls: bool = Field(default=True, description="Verify the server's certificate.")
    auth: RemoteAuthSettings = RemoteAuthSettings()
    ca_path: Path | None = Field(
        default=None,
        description="Certificates of the authorities that vouch for servers; the system's when not set.",
    )
    allowed_hosts: tuple[str, ...] = Field(
        default=(), description="Hosts that may be fetched from beside the manifest's own, such as that of artifacts."
    )
    http_hosts: tuple[str, ...] = Field(
        default=(), description="Hosts that may be asked without TLS. What they give is verified all the same."
    )
    ports: tuple[int, ...] = Field(default=(), description="Ports that may be asked beside 443 and the manifest's own.")
    private_networks: tuple[str, ...] = Field(
        default=(), description="Networks that may be reached although they are not public, such as 10.0.0.0/8."
    )
    product: str | None = Field(default=None, description="The product a manifest must be of; any when not set.")
    channel: str | None = Field(default=None, description="The channel a manifest must be of; stable when not set.")
    root_path: Path | None = Field(
        default=None, description="The pinned root document, which names the keys that are trusted."
    )
    root_sha256: str | None = Field(default=None, description="The digest that the pinned root document must have.")
    audience: str | None = Field(
        default=None, description="Who this system is, for manifests that name who they are for."
    )
    factories: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="Domain → modules that its remote factories may come from; "
        "ONEIRIC_FACTORY_ALLOWLIST says it for domains that are not listed.",
    )
    installed_modules_only: bool = Field(
        default=True,
        description="An entry without an artifact must name a module as its distribution installed it.",
    )
    probation_seconds: float = seconds(
        5, "How long new instances are watched before a manifest is committed to.", at_least=0
    )
    signature_required: bool = Field(
        default=False,
        description="Refuse an unsigned manifest even in a local file. Over the network one is always refused.",
    )
    signature_threshold: int = Field(default=1, ge=1, description="Distinct trusted keys that must have signed.")
    signature_max_age_seconds: float | None = seconds(None, "Oldest signature that is accepted; any when not set.")
    signature_require_expiry: bool = Field(default=False, description="Refuse a manifest that never expires.")
    accept_embedded_signatures: bool = Field(
        default=False, description="Accept signatures inside v1 and v2 documents, as earlier releases wrote them."
    )
    refresh_interval: float | None = seconds(
        300, "How often the manifest is fetched again; only at start when not set.", at_least=1
    )
    max_retries: int = Field(default=3, ge=0, description="Further attempts after a fetch that failed.")
    retry_base_delay: float = seconds(1, "The first pause between attempts, doubled each time.", at_least=0)
    retry_max_delay: float = seconds(30, "The longest pause between attempts.", at_least=0)
    retry_jitter: float = Field(
        default=1.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Share of a pause that is left to chance; with all of it, clients do not come back together.",
    )
    circuit_breaker_threshold: int = Field(
        default=5, ge=1, description="Failures in a row after which fetching is given up for a while."
    )
    circuit_breaker_reset: float = seconds(60, "How long it is given up.", at_least=0)
    lock_seconds: float = seconds(
        30, "How long to wait for another process that syncs into the same cache directory.", at_least=0
    )
    allow_file_uris: bool = Field(default=False, description="Take artifacts from file:// URIs.")
    allowed_file_uri_roots: tuple[Path, ...] = Field(
        default=(), description="Directories that file:// URIs must lie in; none when empty."
    )
    latency_budget_ms: int = Field(
        default=5000, ge=0, description="Milliseconds a sync may take before it is logged as slow; 0 never does."
    )

    @property
    def is_on_network(self) -> bool:
        """Whether the manifest that is named is not a local file."""
        url = self.manifest_url or ""
        return bool(_SCHEME.match(url)) and not url.lower().startswith("file://")

    @property
    def shown_manifest_url(self) -> str | None:
        """The manifest's URL without user, password and query: those may be secrets."""
        scheme, separator, rest = (self.manifest_url or "").partition("://")
        if not separator:
            return self.manifest_url
        authority, slash, path = re.split("[?#]", rest, maxsplit=1)[0].partition("/")
        return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
