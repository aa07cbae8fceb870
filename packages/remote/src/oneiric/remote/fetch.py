"""Getting bytes from somewhere that may be hostile, slow or broken: `SafeFetcher`.

It owns where requests may go, what an answer may cost, and when to ask again. It trusts nothing that it returns: a
digest makes sure that bytes are those that were meant, and an entity tag is only a hint. There are no redirects, no
cookies, no content encodings and no connections that are kept for later.

::

    fetcher = SafeFetcher(FetchPolicy(hosts=("updates.example.org",)))
    fetched = await fetcher.fetch("https://updates.example.org/manifest.json", max_bytes=1 << 20)
"""

import asyncio
import random
import re
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, overload

from oneiric.core.errors import (
    FetchError,
    FetchRefusedError,
    FetchStatusError,
    FetchTimeoutError,
    ManifestError,
    OneiricError,
)
from oneiric.remote._fetch_answer import is_etag
from oneiric.remote._fetch_body import Body
from oneiric.remote._fetch_files import local_path, read_local
from oneiric.remote._fetch_http import HttpSource
from oneiric.remote._fetch_network import Lookup, look_up
from oneiric.remote._fetch_policy import Credential, FetchLimits, FetchPolicy, place
from oneiric.remote._fetch_retry import Hosts, RetryBudget, is_transient, pause_before
from oneiric.remote._fetch_values import Fetched, FetchFinished, NotModified, Progress, Receiver, Wanted

__all__ = [
    "Credential",
    "FetchFinished",
    "FetchLimits",
    "FetchPolicy",
    "Fetched",
    "Lookup",
    "NotModified",
    "Progress",
    "Receiver",
    "SafeFetcher",
]


_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_FED: Final = 1 << 18


def _nobody(_event: FetchFinished) -> None:
    pass


@dataclass(slots=True, kw_only=True)
class _Run:
    """One call of `SafeFetcher.fetch`, as far as it has come."""

    wanted: Wanted
    sources: tuple[str, ...]
    began: float
    deadline: float
    attempts: int = 0
    left_alone: set[str] = field(default_factory=set)
    failures: dict[str, OneiricError] = field(default_factory=dict)


class SafeFetcher:
    """Fetch over https, or from local files, within a policy and within limits.

    One fetcher is meant to be kept: it remembers which hosts fail, and how many retries it may still make.

    Args:
        policy: Where it may go; by default any public host over https, and no local file.
        limits: What a fetch may take.
        credentials: Headers, each sent to its own origin and to no mirror elsewhere.
        tls: Verifies servers; by default the authorities that the system trusts.
        lookup: Finds the addresses of a host; by default the system's resolver.
        observe: Told once for each fetch how it ended. What it raises goes to the loop's exception handler.
        clock: Monotonic seconds, for breakers and budgets.
        chance: Returns numbers from 0 to 1, for pauses.

    Raises:
        ConfigurationError: *tls* does not verify certificates and names.
    """

    def __init__(
        self,
        policy: FetchPolicy | None = None,
        limits: FetchLimits | None = None,
        *,
        credentials: Sequence[Credential] = (),
        tls: ssl.SSLContext | None = None,
        lookup: Lookup = look_up,
        observe: Callable[[FetchFinished], object] = _nobody,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._policy = policy or FetchPolicy()
        self._limits = limits or FetchLimits()
        self._http = HttpSource(self._policy, self._limits, lookup=lookup, tls=tls, credentials=credentials)
        self._hosts = Hosts(self._limits, clock, chance)
        self._budget = RetryBudget(clock)
        self._observe = observe
        self._chance = chance

    @overload
    async def fetch(
        self,
        url: str,
        *,
        mirrors: Sequence[str] = ...,
        expected_bytes: int | None = ...,
        max_bytes: int | None = ...,
        sha256: str | None = ...,
        etag: None = ...,
        progress: Progress | None = ...,
        into: Receiver | None = ...,
    ) -> Fetched: ...

    @overload
    async def fetch(
        self,
        url: str,
        *,
        mirrors: Sequence[str] = ...,
        expected_bytes: int | None = ...,
        max_bytes: int | None = ...,
        sha256: str | None = ...,
        etag: str | None = ...,
        progress: Progress | None = ...,
        into: Receiver | None = ...,
    ) -> Fetched | NotModified: ...

    async def fetch(
        self,
        url: str,
        *,
        mirrors: Sequence[str] = (),
        expected_bytes: int | None = None,
        max_bytes: int | None = None,
        sha256: str | None = None,
        etag: str | None = None,
        progress: Progress | None = None,
        into: Receiver | None = None,
    ) -> Fetched | NotModified:
        """Fetch *url*, or the same content from one of its mirrors.

        Sources are tried in the order given, those that failed lately last; all of them, before any is asked again.
        Cancelling closes the connection.

        Args:
            url: ``https://…``, ``file:///…`` or a local path.
            mirrors: Where else the same bytes are; credentials go there only if they belong there.
            expected_bytes: The length it must have, where it is known.
            max_bytes: The most it may have; by default, and at most, the limit of the fetcher.
            sha256: The digest it must have, lower-case hexadecimal, where it is known.
            etag: Of what the caller has; the answer may then be `NotModified`. Local files are always read.
            progress: Called with the bytes so far and in all (None if unknown); starts anew with each attempt.
            into: Takes the body, which is then not kept in memory.

        Returns:
            What was fetched, or that it did not change.

        Raises:
            FetchRefusedError: The URL, an address or the answer is outside the policy, or is too large.
            FetchTimeoutError: It did not come in time, or too slowly.
            FetchStatusError: The server answered with another status.
            FetchError: It could not be had, or the host has failed too often to be asked now.
            DigestError: What came is not what was expected.
        """
        most = self._limits.max_bytes if max_bytes is None else max_bytes
        wanted = self._checked(
            Wanted(
                max_bytes=most, expected_bytes=expected_bytes, sha256=sha256, etag=etag, progress=progress, into=into
            )
        )
        now = asyncio.get_running_loop().time()
        run = _Run(wanted=wanted, sources=(url, *mirrors), began=now, deadline=now + self._limits.total_seconds)
        try:
            result = await self._from_any(run)
        except BaseException as error:
            self._tell(run, None, error)
            raise
        self._tell(run, result, None)
        return result

    def _checked(self, wanted: Wanted) -> Wanted:
        """Hold what a caller asks for against the limits."""
        expected, digest = wanted.expected_bytes, wanted.sha256
        most = min(wanted.max_bytes, self._limits.max_bytes)
        if digest is not None and not _SHA256.match(digest):
            raise FetchRefusedError(f"{digest!r:.80} is not a sha256 in lower-case hexadecimal")
        if expected is not None and expected > most:
            raise FetchRefusedError(f"{expected} bytes are expected: the limit is {most}")
        # A hint that makes no sense is none.
        etag = wanted.etag if wanted.etag is not None and is_etag(wanted.etag) else None
        return replace(wanted, max_bytes=most if expected is None else expected, etag=etag)

    async def _from_any(self, run: _Run) -> Fetched | NotModified:
        """Try every source, and those that may fare better again."""
        self._budget.fetch_started()
        time_now = asyncio.get_running_loop().time
        left = self._ordered(run.sources)
        for attempt in range(1, self._limits.attempts + 1):
            for url in list(left):
                if attempt > 1 and not self._budget.spend():
                    raise self._verdict(run)
                try:
                    return await self._attempt(url, run)
                except (FetchError, ManifestError) as error:
                    run.failures[url] = error
                    if url in run.left_alone or not self._may_try_again(error):
                        left.remove(url)
            pause = self._pause(attempt, [run.failures[url] for url in left])
            if not left or attempt == self._limits.attempts or time_now() + pause >= run.deadline:
                break
            await asyncio.sleep(pause)
        raise self._verdict(run)

    def _ordered(self, urls: Sequence[str]) -> list[str]:
        """Return each URL once, those whose host failed lately last."""
        return sorted(dict.fromkeys(urls), key=lambda url: self._hosts.is_cooling(self._name(url)))

    def _name(self, url: str) -> str:
        try:
            parts = self._policy.check_url(url)
        except FetchRefusedError:
            return url[:300]  # a path, or something that will be refused
        return f"{parts.host}:{parts.port}"

    def _may_try_again(self, error: OneiricError) -> bool:
        wait = error.retry_after_seconds if isinstance(error, FetchStatusError) else None
        return is_transient(error) and (wait is None or wait <= self._limits.retry_after_cap_seconds)

    def _pause(self, attempt: int, failures: Sequence[OneiricError]) -> float:
        asked = [error.retry_after_seconds or 0.0 for error in failures if isinstance(error, FetchStatusError)]
        return max([pause_before(attempt, self._limits, self._chance), *asked])

    def _verdict(self, run: _Run) -> OneiricError:
        """Return the error of the first source, with the others' as notes."""
        first, *others = run.sources
        error = run.failures[first]
        for url in others:
            if url in run.failures and url != first:
                error.add_note(f"mirror: {run.failures[url]}")
        return error

    async def _attempt(self, url: str, run: _Run) -> Fetched | NotModified:
        path = local_path(url)
        if path is not None:
            return await self._from_file(path, url, run)
        parts = self._policy.check_url(url)
        where, host = place(parts), self._hosts.of(f"{parts.host}:{parts.port}")
        if not host.admit():
            run.left_alone.add(url)
            raise FetchError(
                f"{where!r} is not asked: its host failed {host.failures} times in a row",
                f"again in {host.wait_seconds():.1f} s",
            )
        run.attempts += 1
        try:
            async with asyncio.timeout_at(run.deadline):
                body, etag = await self._http.get(parts, run.wanted)
            result = self._result(url, run, where, body, etag)
        except TimeoutError as error:
            host.failed()
            host.cool_down()
            raise self._late(where) from error
        except (FetchError, ManifestError) as error:
            # A refusal or a 404 is an answer: the host is well. It may still be the wrong one to ask first.
            (host.failed if is_transient(error) else host.succeeded)()
            host.cool_down()
            raise
        except BaseException:
            host.released()
            raise
        host.succeeded()
        host.cools_until = 0.0
        return result

    async def _from_file(self, path: Path, url: str, run: _Run) -> Fetched | NotModified:
        run.attempts += 1
        try:
            async with asyncio.timeout_at(run.deadline):
                content = await asyncio.to_thread(read_local, path, self._policy.roots, run.wanted)
        except TimeoutError as error:
            raise self._late(str(path)) from error
        body = Body(run.wanted, repr(str(path)), len(content))
        for start in range(0, len(content), _FED):
            body.add(bytes(content[start : start + _FED]))
        return self._result(url, run, str(path), body, None)

    def _late(self, where: str) -> FetchTimeoutError:
        return FetchTimeoutError(
            f"{where!r} did not arrive within {self._limits.total_seconds:g} s", "a mirror, or later"
        )

    @staticmethod
    def _result(url: str, run: _Run, where: str, body: Body | None, etag: str | None) -> Fetched | NotModified:
        if body is None:
            return NotModified(url=where, etag=etag or "", attempts=run.attempts)
        content, digest = body.finish()
        source: Literal["origin", "mirror", "file"] = "origin" if url == run.sources[0] else "mirror"
        return Fetched(
            url=where,
            content=content,
            length_bytes=body.length_bytes,
            sha256=digest,
            is_verified=run.wanted.sha256 is not None,
            etag=etag,
            source="file" if local_path(url) is not None else source,
            attempts=run.attempts,
        )

    def _tell(self, run: _Run, result: Fetched | NotModified | None, error: BaseException | None) -> None:
        loop = asyncio.get_running_loop()
        fetched = result if isinstance(result, Fetched) else None
        event = FetchFinished(
            url=self._shown(run.sources[0]),
            outcome=_outcome(result, error),
            source=None if fetched is None else fetched.source,
            attempts=run.attempts,
            length_bytes=0 if fetched is None else fetched.length_bytes,
            seconds=loop.time() - run.began,
            error=None if error is None else type(error).__name__,
            reason=str(error) if isinstance(error, OneiricError) else None,
        )
        try:
            self._observe(event)
        except Exception as failure:  # noqa: BLE001 - an observer must never undo what it is told of
            loop.call_exception_handler({"message": "an observer of fetches failed", "exception": failure})

    def _shown(self, url: str) -> str:
        try:
            return place(self._policy.check_url(url))
        except FetchRefusedError:
            # A path, or what was refused; whatever may be secret in a URL stands behind these.
            scheme, colon, rest = url.partition("://")
            return f"{scheme}{colon}{rest.rpartition('@')[2].partition('?')[0]}"[:120]


def _outcome(
    result: Fetched | NotModified | None, error: BaseException | None
) -> Literal["fetched", "not_modified", "failed", "cancelled"]:
    if error is None:
        return "fetched" if isinstance(result, Fetched) else "not_modified"
    return "failed" if isinstance(error, Exception) else "cancelled"
