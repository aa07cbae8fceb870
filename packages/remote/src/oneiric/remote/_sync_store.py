"""What is kept between two runs: trusted state, the envelopes in force, artifacts.

``trusted_state.json`` is the commit: it names the manifests that are in force, by digest. Everything else in the
directory is a copy to save a download, stored before the commit and verified again when it is read.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from oneiric.core.errors import StoreError
from oneiric.remote.artifacts import ArtifactStore
from oneiric.remote.trust import Accepted, ClientPolicy, TrustedManifests, TrustedState, TrustRoot, VerifiedManifest

__all__ = ["STATE_FILE", "RemoteStore", "TrustMemory"]

STATE_FILE: Final = "trusted_state.json"
_DIRECTORY: Final = "remote"


class RemoteStore:
    """Keep what a client must remember, and what saves it a download.

    Args:
        directory: The cache directory; nothing is made before something is written.

    Attributes:
        artifacts: Artifacts by digest.
        manifests: Envelopes of manifests by digest.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = Path(directory)
        self.state_path = self._directory / STATE_FILE
        self.artifacts = ArtifactStore(self._directory / _DIRECTORY / "artifacts")
        self.manifests = ArtifactStore(self._directory / _DIRECTORY / "manifests")

    def load(self) -> TrustedState:
        """Read the trusted state; one that is not there is empty, one that is broken says so."""
        return TrustedState.load(self.state_path)

    def put_manifests(self, held: Iterable[bytes]) -> None:
        """Store envelopes, so that they are on the disk before they are committed to.

        Raises:
            StoreError: They cannot be written.
        """
        for data in held:
            self.manifests.put(data, sha256=hashlib.sha256(data).hexdigest(), size=len(data))

    def get_manifest(self, accepted: Accepted) -> bytes | None:
        """Return an envelope that was committed to, its digest checked; None when it is not here."""
        return self.manifests.get(accepted.sha256, size=accepted.length)

    def commit(self, state: TrustedState) -> None:
        """Replace the trusted state: from here on a restart starts from it.

        Raises:
            StoreError: It cannot be written; the old one stands.
        """
        try:
            state.save(self.state_path)
        except (OSError, ValueError) as error:
            raise StoreError(f"{self.state_path} cannot be written: {error}", "space and permissions there") from error

    def keep(self, manifests: Iterable[str], artifacts: Iterable[str]) -> None:
        """Remove all but these; what cannot be removed waits for the next time."""
        with contextlib.suppress(OSError):
            self.manifests.keep(frozenset(manifests))
            self.artifacts.keep(frozenset(artifacts))


class TrustMemory:
    """What is trusted from one sync to the next, and what of it is on the disk.

    Args:
        store: Where it is kept.
        root: Where trust starts; None trusts nobody.
        client: What the client is.
    """

    def __init__(self, store: RemoteStore, root: TrustRoot | None, client: ClientPolicy) -> None:
        self._store = store
        self._root = root
        self._client = client
        self._saved = TrustedState()
        self._trusted: TrustedManifests | None = None

    @property
    def committed(self) -> Mapping[str, Accepted]:
        """Publisher → the manifest that was committed to."""
        return self._saved.manifests

    def open(self, now: float) -> TrustedManifests | None:
        """Return what is trusted at *now*, to be moved by one sync; None when nobody is.

        The first time it is read from the disk, and verified anew.

        Raises:
            SchemaError: The root is another product's.
        """
        if self._root is None:
            return None
        if self._trusted is None:
            self._saved = self._store.load()
            self._trusted = TrustedManifests(self._root, self._client, state=self._saved, now=now)
        return self._trusted.at(now)

    def commit(
        self, trusted: TrustedManifests, manifests: Mapping[str, VerifiedManifest], held: Iterable[bytes]
    ) -> None:
        """Remember what is trusted and which manifests are in force; a restart starts from it.

        Raises:
            StoreError: It cannot be written; what was committed before stands.
        """
        after = trusted.state
        accepted: dict[str, Accepted] = {}
        for publisher, manifest in manifests.items():
            for known in (after.manifests.get(publisher), self.committed.get(publisher)):
                if known is not None and known.sha256 == manifest.digest:
                    accepted[publisher] = known
        is_new = accepted != self.committed
        if is_new:
            self._store.put_manifests(held)
        self._save(trusted, TrustedState(roots=after.roots, freshness=after.freshness, manifests=accepted))
        if is_new:
            self._store.keep([each.sha256 for each in accepted.values()], _artifacts(manifests.values()))

    def remember(self, trusted: TrustedManifests) -> None:
        """Remember roots and what is current, although no manifest came of them.

        Raises:
            StoreError: It cannot be written.
        """
        after = trusted.state
        self._save(trusted, TrustedState(roots=after.roots, freshness=after.freshness, manifests=self.committed))

    def _save(self, trusted: TrustedManifests, state: TrustedState) -> None:
        if (state.roots, state.freshness, state.manifests) != (
            self._saved.roots,
            self._saved.freshness,
            self._saved.manifests,
        ):
            self._store.commit(state)
        if trusted.state.manifests != state.manifests:
            # What was accepted and is not in force must not stand in the way of what is.
            assert self._root is not None  # noqa: S101 - somebody is trusted
            trusted = TrustedManifests(self._root, self._client, state=state, now=trusted.now)
        self._saved, self._trusted = state, trusted


def _artifacts(manifests: Iterable[VerifiedManifest]) -> set[str]:
    """Return the digests of the artifacts that the entries of manifests name."""
    rows = (row for manifest in manifests for row in manifest.entries)
    return {str(row["sha256"]).lower() for row in rows if isinstance(row, dict) and row.get("sha256")}
