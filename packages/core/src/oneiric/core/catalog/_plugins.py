"""Plugins written as code: loaded under guard, in a thread, with a deadline."""

from collections.abc import Iterable, Iterator, Mapping
from threading import Thread
from typing import Any, Final

from oneiric.core._candidate import Candidate, CandidateSource
from oneiric.core.catalog._entry_points import EntryPoint
from oneiric.core.catalog._metadata import ActionMetadata, AdapterMetadata
from oneiric.core.errors import CatalogError, DeadlineError, OneiricError
from oneiric.core.security import load_factory

__all__ = ["load_plugin"]

MAX_CANDIDATES: Final = 10_000
MAX_DEPTH: Final = 8
#: How many things a plugin may offer, those that are nothing included: an endless generator of them ends too.
MAX_OFFERS: Final = 100_000


def load_plugin(entry_point: EntryPoint, deadline_seconds: float) -> tuple[Candidate, ...]:
    """Import a plugin, call it, and return the candidates it offers.

    Whatever it does (raise, hang, call ``sys.exit``, recurse without end) stays in its thread. A thread that
    hangs cannot be ended; it is a daemon, and what it returns later is dropped.

    Raises:
        OneiricError: It could not be loaded, failed, hung, or offered something else.
    """
    outcome: list[tuple[Candidate, ...] | BaseException] = []

    def work() -> None:
        try:
            outcome.append(_offered(entry_point))
        except BaseException as error:  # noqa: BLE001 - foreign code: its sys.exit must not end anything but itself
            outcome.append(error)

    thread = Thread(target=work, name=f"oneiric-plugin-{entry_point.name}", daemon=True)
    thread.start()
    thread.join(deadline_seconds)
    if not outcome:
        raise DeadlineError(f"loading {entry_point.value!r}", deadline_seconds)
    result = outcome[0]
    if isinstance(result, OneiricError):
        raise result
    if isinstance(result, BaseException):
        raise CatalogError(f"{entry_point.value!r} failed: {_described(result)}") from result
    return result


def _described(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it called sys.exit({error.code!r})"
    return f"{type(error).__name__}: {str(error)[:200]}" if str(error) else type(error).__name__


def _offered(entry_point: EntryPoint) -> tuple[Candidate, ...]:
    plugin = load_factory(entry_point.value)
    if not callable(plugin):
        raise CatalogError(f"{entry_point.value!r} is {type(plugin).__name__}, not a callable without arguments")
    found: list[Candidate] = []
    _collect(plugin(), found, entry_point.value, MAX_DEPTH, iter(range(MAX_OFFERS)))
    return tuple(
        candidate.replace(source=CandidateSource.ENTRY_POINT, origin=entry_point.distribution) for candidate in found
    )


def _collect(offer: Any, found: list[Candidate], plugin: str, depth: int, left: Iterator[int]) -> None:
    """Append the candidates of an offer: one, metadata of one, nothing, or an iterable of offers, counted by *left*."""
    if next(left, None) is None:
        raise CatalogError(f"{plugin!r} offers more than {MAX_OFFERS} things")
    if len(found) >= MAX_CANDIDATES:
        raise CatalogError(f"{plugin!r} offers more than {MAX_CANDIDATES} candidates")
    if isinstance(offer, Candidate):
        found.append(offer)
    elif isinstance(offer, AdapterMetadata | ActionMetadata):
        found.append(offer.to_candidate())
    elif isinstance(offer, Iterable) and not isinstance(offer, str | bytes | Mapping):
        if depth == 0:
            raise CatalogError(f"{plugin!r} nests its candidates more than {MAX_DEPTH} deep")
        for each in offer:
            _collect(each, found, plugin, depth - 1, left)
    elif offer is not None:
        kind = type(offer).__name__
        raise CatalogError(f"{plugin!r} offers {kind}; it must return Candidate, AdapterMetadata or ActionMetadata")
