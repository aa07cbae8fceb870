"""A publisher in memory, honest or not: what the tests of a client of manifests need, without network or disk.

`RepositorySimulator` keeps keys and publishes what a real publisher would; `fetch` returns the bytes a client would
download. Each attack is one call or one assignment: rotate a role, lose a key, replay what is old, tamper with bytes::

    repository = RepositorySimulator(product="acme", now=clock)
    repository.publish([{"domain": "adapter", "key": "cache", "provider": "acme", "factory": "acme.cache:Cache"}])
    trusted = TrustedManifests(TrustRoot.pinned(repository.roots[0]), now=clock())
    trusted.update_freshness(repository.freshness)
    trusted.update_manifest(repository.manifest)
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import rfc8785

from oneiric.remote._timestamps import format_time
from oneiric.remote.envelope import FRESHNESS_TYPE, MANIFEST_TYPE, ROOT_TYPE, Envelope, sign
from oneiric.remote.keys import SigningKey

__all__ = ["PublishedManifest", "RepositorySimulator", "tampered"]

_DAY: Final = 86_400.0
_ROLES: Final = ("root", "manifest", "freshness")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedManifest:
    """A manifest that was published once; whoever keeps it can replay it.

    Attributes:
        version: Its version.
        envelope: Its bytes.
    """

    version: int
    envelope: bytes


def tampered(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Return an envelope whose payload was changed after it was signed."""
    honest = Envelope.parse(data)
    return Envelope(
        payload=change(honest.payload), payload_type=honest.payload_type, signatures=honest.signatures
    ).to_bytes()


class RepositorySimulator:
    """Publish roots, manifests and what is current, as a publisher would.

    Args:
        product: Whose it is.
        channel: Which line of it.
        now: Returns seconds since the epoch.
        thresholds: Role → how many must sign; each role gets one key more than that.

    Attributes:
        keys: Role or publisher → the keys that sign for it.
        thresholds: Role or publisher → how many must sign.
        delegations: Publisher → its scopes, as documents state them.
        revoked: SHA-256 that the next manifest revokes.
        roots: Envelopes of all roots, the first one is what clients pin.
        manifest: Envelope of the current manifest.
        publishers: Publisher → the envelope of its current manifest.
        freshness: Envelope of what is current.
        history: Every manifest of the product that was ever published.
        artifacts: SHA-256 → bytes.
    """

    def __init__(
        self,
        *,
        product: str = "acme",
        channel: str = "stable",
        now: Callable[[], float],
        thresholds: Mapping[str, int] | None = None,
    ) -> None:
        self.product, self.channel, self._now = product, channel, now
        self.thresholds: dict[str, int] = {"root": 2, "manifest": 1, "freshness": 1, **(thresholds or {})}
        self.keys: dict[str, list[SigningKey]] = {}
        for role in _ROLES:
            self.keys[role] = [SigningKey.generate() for _ in range(self.thresholds[role] + 1)]
        self.delegations: dict[str, list[dict[str, str]]] = {}
        self.revoked: set[str] = set()
        self.roots: list[bytes] = []
        self.manifest = b""
        self.publishers: dict[str, bytes] = {}
        self.freshness = b""
        self.history: list[PublishedManifest] = []
        self.artifacts: dict[str, bytes] = {}
        self._versions: dict[str, int] = {}
        self.rotate()

    # Roots

    def rotate(self, *roles: str, lifetime_seconds: float = 365 * _DAY, **changes: Any) -> bytes:
        """Publish the next root, with new keys for *roles*, signed under the keys before and those after.

        Args:
            roles: Which roles get new keys; none publishes the keys there are.
            lifetime_seconds: How long it is valid.
            changes: Fields of the body to overrule.

        Returns:
            Its envelope.
        """
        before = list(self.keys["root"])
        for role in roles:
            self.keys[role] = [SigningKey.generate() for _ in self.keys[role]]
        body = {
            **self._stated("root", lifetime_seconds),
            "roles": {role: self._role(role) for role in _ROLES},
            "delegations": [self._delegation(name) for name in self.delegations],
            **changes,
        }
        after = [key for key in self.keys["root"] if key not in before]
        envelope = sign(rfc8785.dumps(body), ROOT_TYPE, [*before, *after]).to_bytes()
        self.roots.append(envelope)
        return envelope

    def delegate(self, publisher: str, *scopes: tuple[str, str], threshold: int = 1) -> None:
        """Give a publisher keys and scopes, ``(domain, key prefix)`` each; the next `rotate` says so."""
        self.keys[publisher] = [SigningKey.generate() for _ in range(threshold + 1)]
        self.thresholds[publisher] = threshold
        self.delegations[publisher] = [{"domain": domain, "key_prefix": prefix} for domain, prefix in scopes]

    def _role(self, role: str) -> dict[str, Any]:
        return {"keys": [key.public.base64 for key in self.keys[role]], "threshold": self.thresholds[role]}

    def _delegation(self, publisher: str) -> dict[str, Any]:
        return {"publisher": publisher, **self._role(publisher), "scopes": self.delegations[publisher]}

    # Manifests and what is current

    def publish(
        self,
        entries: Iterable[Mapping[str, Any]],
        *,
        lifetime_seconds: float = 30 * _DAY,
        refresh: bool = True,
        signers: int | None = None,
        **changes: Any,
    ) -> bytes:
        """Publish the product's next manifest, and that it is current.

        Args:
            entries: Its rows.
            lifetime_seconds: How long it is valid.
            refresh: Say that it is current.
            signers: How many keys sign; by default the threshold.
            changes: Fields of the body to overrule.

        Returns:
            Its envelope.
        """
        body = {
            **self._stated("manifest", lifetime_seconds),
            "channel": self.channel,
            "entries": [dict(each) for each in entries],
            "revoked": sorted(self.revoked),
            **changes,
        }
        self.manifest = self._signed(body, MANIFEST_TYPE, "manifest", signers)
        self._versions["manifest"] = int(body["version"])
        self.history.append(PublishedManifest(version=int(body["version"]), envelope=self.manifest))
        if refresh:
            self.refresh()
        return self.manifest

    def publish_for(
        self, publisher: str, entries: Iterable[Mapping[str, Any]], /, *, signers: int | None = None, **changes: Any
    ) -> bytes:
        """Publish a delegated publisher's next manifest, and that it is current; see `publish`."""
        body = {
            **self._stated(publisher, 30 * _DAY),
            "channel": self.channel,
            "publisher": publisher,
            "entries": [dict(each) for each in entries],
            **changes,
        }
        self.publishers[publisher] = self._signed(body, MANIFEST_TYPE, publisher, signers)
        self._versions[publisher] = int(body["version"])
        self.refresh()
        return self.publishers[publisher]

    def refresh(self, *, lifetime_seconds: float = _DAY, signers: int | None = None, **changes: Any) -> bytes:
        """Publish what is current now: the next freshness document.

        Args:
            lifetime_seconds: How long it is valid.
            signers: How many keys sign; by default the threshold.
            changes: Fields of the body to overrule.

        Returns:
            Its envelope.
        """
        body = {
            **self._stated("freshness", lifetime_seconds),
            "channel": self.channel,
            "manifest": self._pin("manifest", self.manifest),
            "publishers": {name: self._pin(name, data) for name, data in self.publishers.items()},
            **changes,
        }
        self._versions["freshness"] = int(body["version"])
        self.freshness = self._signed(body, FRESHNESS_TYPE, "freshness", signers)
        return self.freshness

    def add_artifact(self, content: bytes, name: str = "artifact.zip") -> dict[str, Any]:
        """Keep an artifact, and return what an entry says of it: ``uri``, ``sha256`` and ``size``."""
        digest = hashlib.sha256(content).hexdigest()
        self.artifacts[digest] = content
        return {"uri": f"https://cdn.example/{digest}/{name}", "sha256": digest, "size": len(content)}

    def fetch(self, path: str) -> bytes:
        """Return what a server would: ``root/N``, ``freshness``, ``manifest``, ``publisher/NAME``, ``sha256/HEX``.

        Raises:
            KeyError: There is no such thing.
        """
        kind, _, name = path.partition("/")
        match kind:
            case "root" if name.isdigit() and 0 < int(name) <= len(self.roots):
                return self.roots[int(name) - 1]
            case "freshness":
                return self.freshness
            case "manifest":
                return self.manifest
            case "publisher":
                return self.publishers[name]
            case "sha256":
                return self.artifacts[name]
        raise KeyError(path)

    def _stated(self, role: str, lifetime_seconds: float) -> dict[str, Any]:
        version = len(self.roots) + 1 if role == "root" else self._versions.get(role, 0) + 1
        now = self._now()
        return {
            "product": self.product,
            "version": version,
            "issued": format_time(now),
            "expires": format_time(now + lifetime_seconds),
        }

    def _pin(self, role: str, data: bytes) -> dict[str, Any]:
        return {"version": self._versions[role], "sha256": hashlib.sha256(data).hexdigest(), "length": len(data)}

    def _signed(self, body: Mapping[str, Any], payload_type: str, role: str, signers: int | None) -> bytes:
        keys = self.keys[role][: self.thresholds[role] if signers is None else signers]
        return sign(rfc8785.dumps(dict(body)), payload_type, keys).to_bytes()
