"""What is stored of remote delivery, as the next start would put it in force.

For who looks while nothing runs: what is stored is read and verified anew, the way `RemoteLoader.restore` does it, and
nothing is fetched, registered, imported or written.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from oneiric.core.errors import FetchError, ManifestError
from oneiric.core.resolution import Candidate
from oneiric.remote._sync_delivery import OWN, Delivery, Receiving, restored
from oneiric.remote._sync_options import LoaderOptions
from oneiric.remote._sync_places import LocalPlace
from oneiric.remote._sync_staging import Stager, Staging
from oneiric.remote._sync_store import RemoteStore
from oneiric.remote._sync_values import Verdict
from oneiric.remote.trust import TrustedManifests, TrustRoot

__all__ = ["Stored", "read_packed", "read_stored"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What a start would put in force before it touches the network.

    Attributes:
        manifest: Product, channel, version, digest, signature and signers; None when what was stored is lost.
        candidates: What would be registered, in order; what each of them says of its manifest is marked ``stored``.
        refused: Entries that would not be.
        problems: What of the stored state is lost or left out, as sentences.
    """

    manifest: Mapping[str, Any] | None = None
    candidates: tuple[Candidate, ...] = ()
    refused: tuple[Verdict, ...] = ()
    problems: tuple[str, ...] = ()


async def read_stored(
    *,
    root: TrustRoot | None,
    cache_dir: str | os.PathLike[str],
    options: LoaderOptions,
    clock: Callable[[], float] = time.time,
) -> Stored | None:
    """Return what is stored, verified anew; None when nothing is, or nobody is trusted.

    Args:
        root: Where trust starts.
        cache_dir: Where a `RemoteLoader` keeps its state.
        options: Its options.
        clock: Seconds since the epoch.

    Raises:
        ManifestError: What is stored is not what was committed to, or its keys no longer count; or the root is another
            product's.
        FetchError: A stored artifact is gone; a sync brings it back.
    """
    if root is None:
        return None
    store = RemoteStore(cache_dir)
    stager = _stager(cache_dir, options)
    while True:
        state = await asyncio.to_thread(store.load)
        trusted = TrustedManifests(root, options.client, state=state, now=clock())
        if OWN not in trusted.state.manifests:
            return Stored(problems=trusted.problems) if trusted.problems else None
        try:
            delivery = await asyncio.to_thread(restored, trusted, store.get_manifest)
            return _stored(*await stager.stage(delivery, None, {}))
        except (ManifestError, FetchError):
            # A sync of another process may have replaced what was named a moment ago; it is not held up for a look.
            if await asyncio.to_thread(store.load) == state:
                raise


async def read_packed(
    manifest: str | os.PathLike[str],
    *,
    root: TrustRoot | None,
    cache_dir: str | os.PathLike[str],
    options: LoaderOptions,
    verify_signature: bool = True,
    clock: Callable[[], float] = time.time,
) -> Stored:
    """Return what is packed with the application, verified as its next start does it; nothing is written.

    Args:
        manifest: Its path.
        root: Where trust starts.
        cache_dir: Where a `RemoteLoader` keeps its state; artifacts that lie there are not read a second time.
        options: Its options.
        verify_signature: False takes one that is not signed at all; what is signed is verified anyway.
        clock: Seconds since the epoch.

    Raises:
        ManifestError: It is not to be used, or nobody is trusted.
        FetchError: A part of it is not there.
    """
    now, place = clock(), LocalPlace(os.fspath(manifest))
    trusted = None if root is None else TrustedManifests(root, options.client, now=now)
    receiving = Receiving(
        place=place, trusted=trusted, held={}, embedded=options.embedded, unsigned=not verify_signature, now=now
    )
    return _stored(*await _stager(cache_dir, options, keeps=False).stage(await receiving.receive(), place, {}))


def _stager(cache_dir: str | os.PathLike[str], options: LoaderOptions, *, keeps: bool = True) -> Stager:
    artifacts = RemoteStore(cache_dir).artifacts
    return Stager(artifacts, options.factories, options.limits, installed_only=options.installed_only, keeps=keeps)


def _stored(delivery: Delivery, staging: Staging) -> Stored:
    return Stored(
        manifest=delivery.about(),
        candidates=tuple(map(_marked, staging.flat)),
        refused=staging.refused,
        problems=delivery.problems,
    )


def _marked(candidate: Candidate) -> Candidate:
    metadata = candidate.metadata
    return candidate.replace(metadata={**metadata, "manifest": {**metadata["manifest"], "stored": True}})
