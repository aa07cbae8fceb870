"""Typed keys: one value that names a slot and tells type checkers what lives there."""

from dataclasses import dataclass

from oneiric.core._names import check_domain, check_name

__all__ = ["Key"]


@dataclass(frozen=True, slots=True)
class Key[T]:
    """Name a domain and key, and state the Protocol of what serves there.

    ``CACHE: Key[Cache] = Key("adapter", "cache")`` makes ``lifecycle.live(CACHE)`` a ``Cache`` for type checkers.
    Wherever ``domain, key`` is taken, a `Key` is too.

    Raises:
        InvalidCandidateError: A name breaks the grammar of names.
    """

    domain: str
    name: str

    def __post_init__(self) -> None:
        check_domain(self.domain)
        check_name("key", self.name)

    def __str__(self) -> str:
        return f"{self.domain}:{self.name}"
