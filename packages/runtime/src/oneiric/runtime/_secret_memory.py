"""What the hook remembers: values for as long as they may be used, and of all it gave out a digest that tells a change.

A digest is keyed with bytes of this process, so that nobody who reads memory learns a short value from it.
"""

import hmac
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from oneiric.core import Secret

__all__ = ["SecretMemory"]


class _Entry(NamedTuple):
    secret: Secret
    fetched_at: float


class SecretMemory:
    """Fetched secrets, for a while.

    Args:
        ttl_seconds: How long one is used, counted from before it was fetched; 0 keeps nothing.
        clock: Seconds that only go forward.
    """

    def __init__(self, ttl_seconds: float, clock: Callable[[], float]) -> None:
        self.ttl_seconds = ttl_seconds
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._key = os.urandom(32)
        #: Of every id the digest of what was given out last, and of which ids something else may still be in use.
        self._given: dict[str, bytes] = {}
        self._mixed: set[str] = set()

    def get(self, secret_id: str) -> Secret | None:
        """Return a secret that may still be used."""
        entry = self._entries.get(secret_id)
        if entry is None:
            return None
        if self._clock() - entry.fetched_at >= self.ttl_seconds:
            del self._entries[secret_id]
            return None
        return entry.secret

    def put(self, secret_id: str, secret: Secret, fetched_at: float) -> None:
        """Keep a secret that was asked for at *fetched_at*."""
        if self.ttl_seconds > 0:
            self._entries[secret_id] = _Entry(secret, fetched_at)

    def drop(self, ids: Collection[str] | None) -> int:
        """Forget values, not what was given out; return how many there were."""
        found = [one for one in tuple(self._entries if ids is None else ids) if self.get(one) is not None]
        if ids is None:
            self._entries.clear()
        for one in found:
            self._entries.pop(one, None)
        return len(found)

    def ages(self) -> dict[str, float]:
        """Return the seconds since each value that may still be used was fetched."""
        now = self._clock()
        return {
            one: now - entry.fetched_at
            for one, entry in sorted(self._entries.items())
            if now - entry.fetched_at < self.ttl_seconds
        }

    @property
    def known(self) -> frozenset[str]:
        """Every id of which a value was given out."""
        return frozenset(self._given)

    def give(self, secret_id: str, secret: Secret) -> None:
        """Note that somebody has this value now; who got another before may still use that."""
        digest, before = self._digest(secret), self._given.get(secret_id)
        if before is not None and not hmac.compare_digest(before, digest):
            self._mixed.add(secret_id)
        self._given[secret_id] = digest

    def changed(self, fresh: Mapping[str, Secret]) -> frozenset[str]:
        """Return the ids of which somebody may use another value than the fresh one; of one never given out, nobody."""
        return frozenset(
            one
            for one, secret in fresh.items()
            if one in self._mixed
            or (one in self._given and not hmac.compare_digest(self._given[one], self._digest(secret)))
        )

    def settle(self, fresh: Mapping[str, Secret], fetched_at: float) -> None:
        """Note that nobody uses another value than the fresh ones any more, and keep those."""
        for one, secret in fresh.items():
            if one in self._given:
                self._given[one] = self._digest(secret)
            self._mixed.discard(one)
            self.put(one, secret, fetched_at)

    def forget(self, ids: Iterable[str]) -> None:
        """Forget *ids* altogether: they are gone, and nobody uses them."""
        for one in ids:
            self._given.pop(one, None)
            self._entries.pop(one, None)
            self._mixed.discard(one)

    def _digest(self, secret: Secret) -> bytes:
        return hmac.digest(self._key, secret.reveal().encode("utf-8", "surrogatepass"), "sha256")
