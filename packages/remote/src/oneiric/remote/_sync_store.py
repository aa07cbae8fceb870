"""What is kept between two runs: trusted state, the envelopes in force, artifacts.

``trusted_state.json`` is the commit: it names the manifests that are in force, by digest. Everything else in the
directory is a copy to save a download, stored before the commit and verified again when it is read.
"""

import contextlib
import hashlib
import os
import stat
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

    def stamp(self) -> tuple[int, int, int] | None:
        """Return what tells one state file from the next, None where there is none."""
        try:
            found = self.state_path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def load(self) -> TrustedState:
        """Read the trusted state; one that was never there is empty, one that is lost or another's says so."""
        if (problem := _in_foreign_hands(self.state_path)) is not None:
            return TrustedState(problem=problem)
        state = TrustedState.load(self.state_path)
        if state == TrustedState() and self.manifests.holds_any() and not self.state_path.exists():
            return TrustedState(problem=f"the trusted state is gone: {self.state_path} is not there, and manifests are")
        return state

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
        """Remove all but these, and what a killed process left of a write; what cannot be removed waits.

        Whoever calls it holds the directory: nobody else writes.
        """
        with contextlib.suppress(OSError):
            for path in self._directory.glob(f".{STATE_FILE}.*"):
                path.unlink()
            self.manifests.keep(frozenset(manifests), is_alone=True)
            self.artifacts.keep(frozenset(artifacts), is_alone=True)


def _in_foreign_hands(path: Path) -> str | None:
    """Return why a file is not to be believed: somebody else could have written it."""
    try:
        file, directory = path.lstat(), path.parent.stat()
    except OSError:
        return None  # there is none, or reading it says why not
    if stat.S_ISLNK(file.st_mode):
        return None  # it is not followed
    if file.st_uid not in {os.geteuid(), 0}:
        return f"the trusted state is not believed: {path} belongs to another user ({file.st_uid})"
    open_to_all = directory.st_mode & stat.S_IWOTH and not directory.st_mode & stat.S_ISVTX
    if file.st_mode & stat.S_IWOTH or open_to_all:
        return f"the trusted state is not believed: everybody may write {path if not open_to_all else path.parent}"
    return None


class TrustMemory:
    """What is trusted from one sync to the next, and what of it is on the disk.

    Of packed manifests nothing is kept: each start finds its own, and what was fetched before is left as it is.

    Whoever writes it holds the directory's lock: another process may have moved on meanwhile.

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
        self._stamp: tuple[int, int, int] | None = None
        self._is_tidy = False

    @property
    def committed(self) -> Mapping[str, Accepted]:
        """Publisher → the manifest that was committed to."""
        return self._saved.manifests

    def open(self, now: float) -> TrustedManifests | None:
        """Return what is trusted at *now*, to be moved by one sync; None when nobody is.

        It is read from the disk, and verified anew, the first time and where another process has written it since.

        Raises:
            SchemaError: The root is another product's.
        """
        if self._root is None:
            return None
        if self._client.is_packed:
            self._trusted = self._trusted or TrustedManifests(self._root, self._client, now=now)
            return self._trusted.at(now)
        stamp = self._store.stamp()
        if self._trusted is None or stamp != self._stamp:
            saved, self._stamp = self._store.load(), stamp
            found = TrustedManifests(self._root, self._client, state=saved, now=now)
            if self._trusted is None or _position(found) >= _position(self._trusted):
                self._saved, self._trusted = saved, found
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
        is_new = accepted != self.committed and not self._client.is_packed
        if is_new:
            self._store.put_manifests(held)
        self._save(trusted, TrustedState(roots=after.roots, freshness=after.freshness, manifests=accepted))
        for each in (trusted, self._trusted):
            if each is not None:
                each.problems = ()  # what was lost is replaced
        if is_new or not (self._is_tidy or self._client.is_packed):
            # The first time in any case: the process before may have been killed before it came to this.
            self._is_tidy = True
            self._store.keep([each.sha256 for each in accepted.values()], _artifacts(manifests.values()))

    def remember(self, trusted: TrustedManifests) -> None:
        """Remember roots and what is current, although no manifest came of them.

        Raises:
            StoreError: It cannot be written.
        """
        after = trusted.state
        self._save(trusted, TrustedState(roots=after.roots, freshness=after.freshness, manifests=self.committed))

    def _save(self, trusted: TrustedManifests, state: TrustedState) -> None:
        before = (self._saved.roots, self._saved.freshness, self._saved.manifests)
        if (state.roots, state.freshness, state.manifests) != before and not self._client.is_packed:
            self._store.commit(state)
            self._stamp = self._store.stamp()
        if trusted.state.manifests != state.manifests:
            # What was accepted and is not in force must not stand in the way of what is.
            assert self._root is not None  # noqa: S101 - somebody is trusted
            lost = trusted.problems
            trusted = TrustedManifests(self._root, self._client, state=state, now=trusted.now)
            trusted.problems = lost  # still to be told
        self._saved, self._trusted = state, trusted


def _position(trusted: TrustedManifests) -> tuple[int, int, int]:
    """Return how far trust has come: a root may begin the others anew."""
    own = trusted.state.manifests.get("")
    freshness = trusted.freshness
    return (
        trusted.root.version,
        0 if freshness is None else freshness.version,
        0 if own is None else own.version,
    )


def _artifacts(manifests: Iterable[VerifiedManifest]) -> set[str]:
    """Return the digests of the artifacts that the entries of manifests name."""
    rows = (row for manifest in manifests for row in manifest.entries)
    return {str(row["sha256"]).lower() for row in rows if isinstance(row, dict) and row.get("sha256")}
