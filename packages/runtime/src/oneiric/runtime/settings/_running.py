"""Sections of the parts that run beside an application: secrets, supervision, HTTP, schedules, workflows."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from oneiric.core import Secret
from oneiric.runtime.settings._section import Section, broken, seconds

__all__ = [
    "EngineSettings",
    "HttpAuthSettings",
    "HttpSettings",
    "SchedulerSettings",
    "SecretsSettings",
    "SupervisorSettings",
]


class SecretsSettings(Section):
    """Where ${secret:ID} comes from: what is written here first, then the provider."""

    domain: str = Field(default="adapter", description="Domain of the provider.")
    key: str = Field(default="secrets", description="Key of the provider.")
    provider: str | None = Field(
        default=None, description="Provider to fetch from; when not set, the one that resolution ranks first."
    )
    inline: dict[str, Secret] = Field(
        default={}, repr=False, description="ID → secret, for development and tests; never asked of a provider."
    )
    cache_ttl_seconds: float = seconds(600, "How long a fetched secret is used; 0 fetches every time.", at_least=0)
    refresh_interval: float | None = seconds(
        None, "How often all secrets in use are fetched anew; never when not set.", at_least=1
    )


class SupervisorSettings(Section):
    """What happens to a service that fails.

    Source: the restart strategies and intensity of Erlang/OTP's supervisors.
    """

    enabled: bool = Field(default=True, description="Supervise services.")
    poll_interval: float = seconds(
        2.0, "How often health is checked and the activity store is read again.", at_least=0.1
    )
    strategy: Literal["one_for_one", "one_for_all", "rest_for_one"] = Field(
        default="one_for_one",
        description="What restarts with a failed service: nothing else, every service, or those started after it.",
    )
    max_restarts: int = Field(
        default=3, ge=0, description="Restarts within restart_window_seconds before the supervisor gives up."
    )
    restart_window_seconds: float = seconds(30, "The window that max_restarts counts in.")
    shutdown_grace_seconds: float = seconds(30, "How long stopping everything may take.", at_least=0)


class HttpAuthSettings(Section):
    """Who may ask over TCP. The Unix socket needs none of it: only its owner can open it."""

    kind: Literal["none", "hmac", "oidc"] = Field(
        default="none", description="hmac: signed requests. oidc: bearer tokens of an issuer. none: loopback only."
    )
    hmac_keys: dict[str, Secret] = Field(
        default={}, repr=False, description="Key id → the shared secret; for hmac, at least one."
    )
    oidc_issuer: str | None = Field(default=None, description="The iss that a token must carry; for oidc.")
    oidc_audience: str | None = Field(default=None, description="The aud that a token must carry; for oidc.")
    oidc_algorithms: tuple[
        Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"], ...
    ] = Field(default=("RS256", "ES256"), min_length=1, description="Signature algorithms of tokens; asymmetric ones.")
    oidc_subjects: tuple[str, ...] = Field(
        default=(),
        description="The sub or verified email of those who may ask; when empty, whoever holds a token for us.",
    )
    oidc_jwks_url: str | None = Field(
        default=None, description="Where the issuer's keys are; when not set, what its discovery document says."
    )
    clock_skew_seconds: float = seconds(300, "How far a timestamp may be from the clock here.", at_least=0)

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Self:
        if self.kind == "hmac" and not self.hmac_keys:
            raise broken("needs at least one of hmac_keys, since its kind is hmac")
        if self.kind == "oidc" and not (self.oidc_issuer and self.oidc_audience):
            raise broken("needs oidc_issuer and oidc_audience, since its kind is oidc")
        return self


class HttpSettings(Section):
    """The HTTP server: health, metrics, deliveries and the control API."""

    enabled: bool = Field(default=True, description="Listen on TCP. The control socket is there either way.")
    host: str = Field(default="127.0.0.1", description="Address to bind to; any but a loopback one demands http.auth.")
    port: int = Field(default=8080, ge=0, le=65535, description="Port to bind to, also PORT; 0 takes a free one.")
    auth: HttpAuthSettings = HttpAuthSettings()
    max_body_bytes: int = Field(default=1 << 20, ge=1, description="Largest body of a request, in bytes.")
    max_header_bytes: int = Field(default=16 << 10, ge=1, description="Largest head of a request, in bytes.")
    max_headers: int = Field(default=100, ge=1, description="Most headers of a request.")
    receive_seconds: float = seconds(15, "How long a request may take to arrive.")
    max_connections: int = Field(default=512, ge=1, description="Most connections at a time.")
    allowed_hosts: tuple[str, ...] = Field(
        default=(), description="Host names that requests may be addressed to, beside the loopback ones."
    )


class SchedulerSettings(Section):
    """Cron and interval schedules."""

    enabled: bool = Field(default=True, description="Fire the schedules of this process.")
    store_path: Path | None = Field(
        default=None, description="SQLite file of the slots that fired; in the state directory when not set."
    )
    catch_up_seconds: float = seconds(
        3600, "How late a slot that was missed may still fire; older ones are skipped.", at_least=0
    )
    poll_seconds: float = seconds(1, "How often changes that another process made to the store are looked for.")


class EngineSettings(Section):
    """What runs workflows."""

    name: str = Field(default="local", description="local, or a provider of the workflow family.")
    max_parallel_nodes: int = Field(default=16, ge=1, description="Most nodes of all runs that run at a time.")
    durability: Literal["group", "strict"] = Field(
        default="group",
        description="group: nodes that finish together share one commit. strict: each node has its own.",
    )
