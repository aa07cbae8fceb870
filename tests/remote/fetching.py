"""Fetchers and certificates for tests against servers on loopback."""

from __future__ import annotations

import ssl
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import trustme

from oneiric.remote.fetch import FetchLimits, FetchPolicy, SafeFetcher

if TYPE_CHECKING:
    from oneiric.remote.testing_http import MisbehavingServer

#: The limits of the product, with pauses that a test can wait for.
QUICK = FetchLimits(
    connect_seconds=0.3,
    total_seconds=0.3,
    minimum_rate_bytes=10_000,
    rate_window_seconds=0.15,
    max_bytes=1 << 20,
    attempts=1,
    backoff_seconds=0.002,
    backoff_cap_seconds=0.002,
    open_seconds=0.02,
)
#: For what is meant to succeed, however busy the machine is.
PATIENT = replace(QUICK, connect_seconds=20.0, total_seconds=20.0, rate_window_seconds=20.0)


def fetcher(server: MisbehavingServer, limits: FetchLimits = PATIENT, **options: Any) -> SafeFetcher:
    """Return one that may ask *server*, without TLS too."""
    policy = FetchPolicy(
        http_hosts=("127.0.0.1", "updates.test"), ports=(server.port,), private_networks=("127.0.0.0/8",)
    )
    return SafeFetcher(options.pop("policy", policy), limits, **options)


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """Return a client's context that trusts *authority* alone."""
    return ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())


def serving(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """Return a server's context."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context
