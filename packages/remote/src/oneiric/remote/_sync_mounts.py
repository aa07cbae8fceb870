"""Which artifacts are importable: those of candidates that are registered, or of which something still serves."""

from collections.abc import Iterable
from typing import Final
from weakref import WeakSet

from oneiric.core.lifecycle import LifecycleManager, LifecycleStatus
from oneiric.core.resolution import Candidate
from oneiric.remote._artifact_import import unmount
from oneiric.remote._sync_values import RevokedInUse

__all__ = ["Mounts"]


#: Artifact → who still has a use for it: what is importable belongs to the process, and it may have several loaders.
_owners: "Final[dict[str, WeakSet[Mounts]]]" = {}


class Mounts:
    """Forget an artifact's modules once nothing made of them serves.

    Args:
        lifecycle: Knows what serves; None when nothing does.
    """

    def __init__(self, lifecycle: LifecycleManager | None) -> None:
        self._lifecycle = lifecycle
        #: Artifact → the (domain, key, provider) that were made of it.
        self._users: dict[str, set[tuple[str, str, str]]] = {}

    def staged(self, candidate: Candidate) -> None:
        """Note what was mounted for a candidate."""
        if (digest := _artifact(candidate)) is not None:
            self._users.setdefault(digest, set()).add((candidate.domain, candidate.key, candidate.provider))
            _owners.setdefault(digest, WeakSet()).add(self)

    def release(self, in_force: Iterable[Candidate]) -> None:
        """Unmount what is neither registered nor serves nor drains."""
        wanted = {_artifact(each) for each in in_force}
        for digest in [digest for digest in self._users if digest not in wanted]:
            if self._serves(self._users[digest]):
                continue
            del self._users[digest]
            _owners[digest].discard(self)
            if not _owners[digest]:
                del _owners[digest]
                unmount(digest)

    def revoked(self, digests: frozenset[str]) -> tuple[RevokedInUse, ...]:
        """Return what serves on although its artifact is among *digests*: nothing that may be used replaces it."""
        return tuple(
            RevokedInUse(
                domain=status.domain,
                key=status.key,
                tenant=status.tenant,
                provider=status.current_provider,
                sha256=digest,
            )
            for digest in sorted(digests & self._users.keys())
            for status in self._statuses()
            if status.current_provider is not None and _is_made_of(status, self._users[digest])
        )

    def _serves(self, users: set[tuple[str, str, str]]) -> bool:
        keys = {(domain, key) for domain, key, _ in users}
        return any(
            (status.domain, status.key) in keys and (status.draining or _is_made_of(status, users))
            for status in self._statuses()
        )

    def _statuses(self) -> tuple[LifecycleStatus, ...]:
        return () if self._lifecycle is None else self._lifecycle.all_statuses()


def _is_made_of(status: LifecycleStatus, users: set[tuple[str, str, str]]) -> bool:
    """Tell whether what serves is no longer on offer, and was made of the artifact that has these users."""
    return status.withdrawn and (status.domain, status.key, status.current_provider) in users


def _artifact(candidate: Candidate) -> str | None:
    """Return the digest of the artifact that a candidate's factory lies in, None when it has none."""
    digest = candidate.metadata.get("sha256")
    return str(digest).lower() if "artifact_path" in candidate.metadata else None
