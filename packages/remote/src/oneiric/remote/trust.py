"""Trust: which bytes may be used, decided by a state machine that knows neither network nor disk.

A client starts from a pinned root (`TrustRoot`), takes the roots that follow it, then what is current, then the
manifest that is pinned there, then those of delegated publishers::

    trusted = TrustedManifests(TrustRoot.pinned(data), ClientPolicy(product="acme"), state=state, now=time.time())
    trusted.update_root(newer)            # as often as there is one
    trusted.update_freshness(current)
    manifest = trusted.update_manifest(envelope)
    trusted.state.save("trusted_state.json")

What is refused changes nothing. What is accepted is in ``state``, from which the next run starts; it is verified again
then.

Source: The Update Framework, version 1.0.34, section 5.3 to 5.6, with one manifest in place of snapshot and targets.
"""

from oneiric.remote._trust_checks import ClientPolicy
from oneiric.remote._trust_documents import FreshnessBody, KeySet, Pin, Role, RootBody, TrustRoot
from oneiric.remote._trust_manifests import EmbeddedPolicy, VerifiedManifest, read_embedded, read_unsigned
from oneiric.remote._trust_state import Accepted, TrustedState
from oneiric.remote._trusted_manifests import TrustedManifests

__all__ = [
    "Accepted",
    "ClientPolicy",
    "EmbeddedPolicy",
    "FreshnessBody",
    "KeySet",
    "Pin",
    "Role",
    "RootBody",
    "TrustRoot",
    "TrustedManifests",
    "TrustedState",
    "VerifiedManifest",
    "read_embedded",
    "read_unsigned",
]
