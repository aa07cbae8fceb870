"""Manifests: what a publisher offers, how it is written, and what becomes of it here.

A manifest is authored as YAML or JSON (`read_document`), packed into canonical bytes (`pack`) and signed in an envelope
(`oneiric.remote.envelope`). A client parses exactly the bytes that were signed (`parse_manifest`), and makes candidates
of the entries (`candidates_of`). Nothing here verifies a signature or knows a clock: that is `oneiric.remote.trust`.
"""

from oneiric.remote._manifest_body import (
    MAX_MANIFEST_BYTES,
    MAX_VERSION,
    Delegation,
    ManifestBody,
    Scope,
    manifest_schema,
    parse_manifest,
)
from oneiric.remote._manifest_candidates import Entries, FactoryPolicy, Refusal, candidates_of
from oneiric.remote._manifest_documents import EarlierManifest, pack, parse_earlier, read_document
from oneiric.remote._manifest_entry import (
    CapabilityDescriptor,
    CapabilitySecurity,
    EventFilter,
    ManifestEntry,
    RetryPolicy,
)

__all__ = [
    "MAX_MANIFEST_BYTES",
    "MAX_VERSION",
    "CapabilityDescriptor",
    "CapabilitySecurity",
    "Delegation",
    "EarlierManifest",
    "Entries",
    "EventFilter",
    "FactoryPolicy",
    "ManifestBody",
    "ManifestEntry",
    "Refusal",
    "RetryPolicy",
    "Scope",
    "candidates_of",
    "manifest_schema",
    "pack",
    "parse_earlier",
    "parse_manifest",
    "read_document",
]
