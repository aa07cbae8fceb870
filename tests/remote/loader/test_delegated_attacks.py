"""A delegated publisher who signs what it likes: whatever that is, the product's own updates go on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.remote.archives import packed
from tests.remote.delivering import ALLOWED, AT_ONCE, URL, Client, Publisher, SimulatedFetcher, nothing

from oneiric.core.errors import FetchError, SwapError, UnhealthyError
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Resolver
from oneiric.remote.apply import Probation
from oneiric.remote.artifacts import ArtifactLimits
from oneiric.remote.fetch import Fetched, NotModified, SafeFetcher
from oneiric.remote.loader import LoaderOptions, RemoteLoader
from oneiric.remote.trust import TrustRoot

HOSTILE: dict[str, dict[str, Any]] = {
    "a URI that no parser takes": {"uri": "//[x.zip"},
    "an address without its end": {"uri": "https://[::1/x.zip"},
    "a URI with a NUL": {"uri": "acme\x00.zip"},
    "a port that is none": {"uri": "https://updates.example:99999999/x.zip"},
    "a size beyond all memory": {"size": 2**53 - 1},
    "another digest": {"sha256": "0" * 64},
    "a module that the artifact lacks": {"factory": "acme.nothing:Part"},
    "a version of ten thousand digits": {"requires_python": ">=" + "9" * 1000},
    "a link to another place": {"uri": "../../../etc/passwd"},
    "a device": {"uri": "/dev/zero"},
}


@pytest.fixture
def delegating(publisher: Publisher) -> Publisher:
    """Return a publisher who delegated ``adapter:plugin``, before anybody pinned the root."""
    publisher.repository.delegate("plugins", ("adapter", "plugin"))
    publisher.repository.rotate()
    return publisher


@pytest.mark.parametrize("attack", HOSTILE)
async def test_whatever_it_offers_the_product_is_updated(delegating: Publisher, client: Client, attack: str) -> None:
    delegating.publish("1.0")
    plugin = delegating.entry("plugin", "1.0")
    delegating.repository.publish_for("plugins", [plugin])
    await client.loader.sync(URL)
    delegating.publish("2.0")
    delegating.repository.publish_for("plugins", [{**plugin, **HOSTILE[attack]}])

    report = await client.loader.sync(URL)

    assert report.outcome == "applied"
    assert client.offered("cache") == "2.0"
    assert all("plugins" in problem for problem in report.plan.problems)


class Silent(SimulatedFetcher):
    """Answers as it should, but never for what lies at ``silent``."""

    async def fetch(self, url: str, **wanted: Any) -> Fetched | NotModified:
        if "silent" in url:
            await asyncio.Event().wait()
        return await super().fetch(url, **wanted)


async def test_artifacts_that_never_arrive_hold_the_product_up_for_a_bounded_time(
    delegating: Publisher, tmp_path: Path
) -> None:
    delegating.fetcher = Silent(delegating.repository)
    client = Client(delegating, tmp_path, limits=ArtifactLimits(publisher_seconds=0.05))
    delegating.publish("1.0")
    delegating.repository.publish_for("plugins", [{**delegating.entry("plugin", "1.0"), "uri": "/silent.zip"}])

    report = await client.loader.sync(URL)

    assert client.offered("cache") == "1.0"
    assert "did not arrive within 0.05 s" in report.plan.problems[0]
    await client.aclose()


async def test_it_takes_no_more_memory_than_a_manifest_may_whatever_it_packs(
    delegating: Publisher, tmp_path: Path
) -> None:
    client = Client(delegating, tmp_path, limits=ArtifactLimits(manifest_bytes=100_000))
    delegating.publish("1.0")
    stated, zeros = delegating.entry("plugin", "1.0", size=200_000), bytes(60_000)
    delegating.repository.publish_for("plugins", [stated])
    delegating.fetcher.asked.clear()
    assert "bytes together" in (await client.loader.sync(URL)).plan.problems[0]
    assert not any(stated["sha256"] in each for each in delegating.fetcher.asked)  # what is stated is believed at once

    bombs = []
    for number in range(3):
        archive = packed([(f"acme/plugin{number}.py", f"class Part: {number}"), ("acme/zeros.txt", zeros)])
        about = delegating.repository.add_artifact(archive)
        bombs.append({**stated, **about, "provider": f"p{number}", "factory": f"acme.plugin{number}:Part"})
    delegating.repository.publish_for("plugins", bombs)
    assert "bytes together" in (await client.loader.sync(URL)).plan.problems[0]
    delegating.repository.publish_for("plugins", bombs[:1])
    assert (await client.loader.sync(URL)).plan.problems == ()
    assert client.offered("cache") == "1.0"
    await client.aclose()


async def test_what_is_lost_of_its_last_good_manifest_is_its_own_trouble_too(
    delegating: Publisher, client: Client, tmp_path: Path
) -> None:
    plugin = delegating.entry("plugin", "1.0")
    delegating.publish("1.0")
    delegating.repository.publish_for("plugins", [plugin])
    await client.loader.sync(URL)
    (tmp_path / f"cache/remote/artifacts/sha256/{plugin['sha256']}").unlink()
    delegating.publish("2.0")
    delegating.repository.publish_for("plugins", [{**delegating.entry("plugin", "2.0"), "sha256": "0" * 64}])

    report = await client.loader.sync(URL)

    assert (client.offered("cache"), client.offered("plugin")) == ("2.0", None)
    assert "not stored here" in report.plan.problems[1]


FAILING: dict[str, dict[str, Any]] = {
    "one that does not start": {"init": "raise OSError('not today')"},
    "one that is unwell at once": {"health": "False"},
    "one that falls ill in its probation": {
        "health": "not hasattr(self, 'asked') and setattr(self, 'asked', 1) is None"
    },
}


@pytest.mark.parametrize("failing", FAILING)
async def test_a_component_of_its_that_does_not_start_is_put_back_alone(
    delegating: Publisher, tmp_path: Path, failing: str
) -> None:
    client = Client(delegating, tmp_path, probation=Probation(seconds=3, sleep=nothing))
    delegating.publish("1.0")
    delegating.repository.publish_for("plugins", [delegating.entry("plugin", "1.0")])
    await client.loader.sync(URL)
    assert [await client.version(key) for key in ("cache", "queue", "plugin")] == ["1.0"] * 3
    delegating.publish("2.0")
    delegating.repository.publish_for("plugins", [delegating.entry("plugin", "2.0", **FAILING[failing])])

    report = await client.loader.sync(URL)

    assert report.outcome == "applied"
    assert [await client.version(key) for key in ("cache", "queue", "plugin")] == ["2.0", "2.0", "1.0"]
    assert "publisher 'plugins': adapter:plugin" in report.plan.problems[0]
    failed = client.lifecycle.get_status("adapter", "plugin").failed_swaps
    by_the_clock = await client.loader.sync(URL, again=False)
    assert (by_the_clock.outcome, len(by_the_clock.plan.problems)) == ("unchanged", 1)
    assert client.lifecycle.get_status("adapter", "plugin").failed_swaps == failed  # left in peace
    again = client.again()
    await again.loader.restore()
    assert [again.offered(key) for key in ("cache", "plugin")] == ["2.0", "1.0"]
    delegating.repository.publish_for("plugins", [delegating.entry("plugin", "3.0")])
    assert (await client.loader.sync(URL, again=False)).plan.problems == ()
    assert [await client.version(key) for key in ("cache", "plugin")] == ["2.0", "3.0"]
    await client.aclose()


async def test_where_the_products_own_component_does_not_start_everything_is_put_back(
    delegating: Publisher, client: Client
) -> None:
    delegating.publish("1.0")
    delegating.repository.publish_for("plugins", [delegating.entry("plugin", "1.0")])
    await client.loader.sync(URL)
    assert [await client.version(key) for key in ("cache", "plugin")] == ["1.0"] * 2
    delegating.publish("2.0", init="raise OSError('not today')")
    delegating.repository.publish_for("plugins", [delegating.entry("plugin", "2.0")])

    with pytest.raises(SwapError, match="adapter:cache"):
        await client.loader.sync(URL)

    assert [await client.version(key) for key in ("cache", "plugin")] == ["1.0"] * 2
    with pytest.raises(UnhealthyError, match="put back before"):
        await client.loader.sync(URL, again=False)


async def test_two_publishers_that_fail_are_put_back_and_a_third_is_not(publisher: Publisher, tmp_path: Path) -> None:
    names = ("one", "two", "three")
    for name in names:
        publisher.repository.delegate(name, ("adapter", name))
    publisher.repository.rotate()
    client = Client(publisher, tmp_path)
    publisher.publish("1.0")
    for name in names:
        publisher.repository.publish_for(name, [publisher.entry(name, "1.0")])
    await client.loader.sync(URL)
    assert [await client.version(name) for name in names] == ["1.0"] * 3
    publisher.publish("2.0")
    for name in names:
        broken = {} if name == "three" else {"init": "raise OSError('not today')"}
        publisher.repository.publish_for(name, [publisher.entry(name, "2.0", **broken)])

    report = await client.loader.sync(URL)

    assert len(report.plan.problems) == 2
    assert client.offered("cache") == "2.0"
    assert [await client.version(name) for name in names] == ["1.0", "1.0", "2.0"]
    await client.aclose()


@pytest.mark.parametrize("attack", HOSTILE)
async def test_from_a_local_directory_too(delegating: Publisher, tmp_path: Path, attack: str) -> None:
    mirror = tmp_path / "mirror"
    delegating.publish("1.0")
    plugin = delegating.entry("plugin", "1.0")
    delegating.repository.publish_for("plugins", [{**plugin, "uri": "plugin.zip", **HOSTILE[attack]}])
    own = [{**delegating.entry(key, "1.0"), "uri": f"{key}.zip"} for key in delegating.keys]
    delegating.repository.publish(own)
    files: dict[str, bytes] = {
        "manifest.json": delegating.repository.manifest,
        "freshness.json": delegating.repository.freshness,
        "publisher/plugins.json": delegating.repository.publishers["plugins"],
        "root/2.json": delegating.repository.roots[1],
        "plugin.zip": delegating.repository.artifacts[plugin["sha256"]],
        **{each["uri"]: delegating.repository.artifacts[each["sha256"]] for each in own},
    }
    for name, content in files.items():
        (mirror / name).parent.mkdir(parents=True, exist_ok=True)
        (mirror / name).write_bytes(content)
    resolver = Resolver()
    async with LifecycleManager(resolver) as lifecycle:
        loader = RemoteLoader(
            resolver,
            lifecycle,
            root=TrustRoot.pinned(delegating.repository.roots[0]),
            fetcher=SafeFetcher(),
            cache_dir=tmp_path / "cache",
            options=LoaderOptions(factories=ALLOWED, probation=AT_ONCE, on_download=lambda *_: None),
            clock=delegating.clock,
        )

        report = await loader.sync(str(mirror / "manifest.json"))

    assert report.outcome == "applied"
    assert resolver.get("adapter", "cache") is not None
    assert all("plugins" in problem for problem in report.plan.problems)


BAD_URLS = ["https://[x/manifest.json", "\x00", "", "file://host/manifest.json", "file:///\x00", "file://[x/manifest"]


@pytest.mark.parametrize("url", BAD_URLS)
async def test_a_manifest_that_lies_nowhere_is_an_error_of_ours(client: Client, url: str) -> None:
    with pytest.raises(FetchError):
        await client.loader.sync(url)
