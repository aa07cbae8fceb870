"""The same bytes again: each document costs one check of its signature, and nothing else is done."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.remote.delivering import URL, Client, Publisher

from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Resolver
from oneiric.remote import artifacts
from oneiric.remote._manifest_body import parse_manifest
from oneiric.remote._trust_state import TrustedState
from oneiric.remote.artifacts import ArtifactStore
from oneiric.remote.keys import PublicKey
from oneiric.remote.trust import VerifiedManifest

if TYPE_CHECKING:
    from types import CodeType

#: What a sync of something new does, beside checking signatures.
WORK: dict[str, Callable[..., Any]] = {
    "a manifest was parsed": parse_manifest,
    "candidates were made": VerifiedManifest.candidates,
    "an artifact was read": ArtifactStore.get,
    "an artifact was opened": artifacts.open_artifact,
    "an artifact was made importable": artifacts.stage,
    "the registry was changed": Resolver.apply,
    "something was swapped": LifecycleManager.renew,
    "the trusted state was written": TrustedState.save,
}


@contextmanager
def counted(functions: dict[str, Callable[..., Any]]) -> Iterator[Counter[str]]:
    """Count how often functions are called, in all threads: the interpreter tells, and nothing is replaced."""
    names = {function.__code__: name for name, function in functions.items()}
    calls: Counter[str] = Counter()
    watching, tool, begins = sys.monitoring, sys.monitoring.PROFILER_ID, sys.monitoring.events.PY_START

    def note(code: CodeType, _offset: int) -> None:
        calls[names[code]] += 1

    watching.use_tool_id(tool, "counted")
    try:
        watching.register_callback(tool, begins, note)
        for code in names:
            watching.set_local_events(tool, code, begins)
        yield calls
    finally:
        for code in names:
            watching.set_local_events(tool, code, 0)
        watching.free_tool_id(tool)


async def test_the_same_bytes_cost_one_signature_check_for_each_document_and_nothing_else(
    publisher: Publisher, client: Client
) -> None:
    publisher.repository.delegate("plugins", ("adapter", "plugin"))
    publisher.repository.rotate()
    publisher.publish("1.0")
    publisher.repository.publish_for("plugins", [publisher.entry("plugin", "1.0")])
    with counted(WORK) as done:
        await client.loader.sync(URL)
        await client.version("cache")
        publisher.publish("2.0")
        await client.loader.sync(URL)
    assert set(done) == set(WORK)
    revision = client.resolver.revision
    publisher.fetcher.asked.clear()

    with counted({**WORK, "a signature was checked": PublicKey.verifies}) as done:
        report = await client.loader.sync(URL)

    assert report.outcome == "unchanged"
    assert {each.outcome for each in report.plan.verdicts} == {"unchanged"}
    assert (report.registered, report.swapped, report.digest_checks) == (3, (), 0)
    # What is current, the product's manifest, and that of its publisher.
    assert done == {"a signature was checked": 3}
    assert client.resolver.revision == revision
    assert publisher.fetcher.asked == ["root/3", "freshness"]


async def test_an_entry_that_was_refused_is_looked_at_again(publisher: Publisher, client: Client) -> None:
    publisher.repository.publish([publisher.entry("cache", "1.0"), {**publisher.entry("queue", "1.0"), "domain": "?"}])
    await client.loader.sync(URL)

    with counted(WORK) as done:
        report = await client.loader.sync(URL)

    assert (report.outcome, report.skipped) == ("unchanged", 1)
    assert done["candidates were made"] == 1
