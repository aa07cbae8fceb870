"""A manifest that is shipped with the application: of any age, and verified as every other one is."""
# ruff: noqa: ASYNC240 - files of a few bytes

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.remote.delivering import ALLOWED, AT_ONCE, URL, Client, Publisher

from oneiric.core.errors import (
    ConfigurationError,
    DigestError,
    ExpiredError,
    FetchError,
    FetchRefusedError,
    ManifestError,
    RollbackError,
    SignatureError,
)
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Resolver
from oneiric.remote.loader import LoaderOptions, RemoteLoader
from oneiric.remote.testing import RepositorySimulator, tampered
from oneiric.remote.trust import ClientPolicy, TrustRoot

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = 86_400.0
PACKED = ClientPolicy(is_packed=True)


class Image:
    """What is shipped: a manifest and the roots beside it, in a directory; and who starts from it."""

    def __init__(self, publisher: Publisher, directory: Path) -> None:
        self.publisher, self.directory = publisher, directory
        self.root = TrustRoot.pinned(publisher.repository.roots[0])

    def build(self) -> str:
        """Write what is published now, without what says how current it is; return the manifest's path."""
        repository = self.publisher.repository
        (self.directory / "root").mkdir(parents=True, exist_ok=True)
        for number, root in enumerate(repository.roots, 1):
            (self.directory / f"root/{number}.json").write_bytes(root)
        (self.directory / "manifest.json").write_bytes(repository.manifest)
        return str(self.directory / "manifest.json")

    def start(self, cache: str = "cache") -> RemoteLoader:
        """Return the loader of a process that is started from it."""
        resolver = Resolver()
        options = LoaderOptions(client=PACKED, factories=ALLOWED, probation=AT_ONCE, installed_only=False)
        return RemoteLoader(
            resolver,
            LifecycleManager(resolver),
            root=self.root,
            cache_dir=self.directory.parent / cache,
            options=options,
            clock=self.publisher.clock,
        )


@pytest.fixture
def image(publisher: Publisher, tmp_path: Path) -> Image:
    return Image(publisher, tmp_path / "image")


def listed(version: str, **changes: object) -> dict[str, object]:
    """Return an entry without an artifact: where those lie is no matter here."""
    about = {"domain": "adapter", "key": "cache", "provider": "acme", "factory": "acme.cache:Part"}
    return {**about, "version": version, **changes}


async def test_it_is_taken_weeks_after_it_was_built_though_nobody_says_that_it_is_current(image: Image) -> None:
    image.publisher.repository.publish([listed("1.0")])
    path = image.build()
    image.publisher.clock.now += 20 * DAY

    loader = image.start()
    report = await loader.sync(path)

    assert (report.outcome, report.plan.signature) == ("applied", "envelope")
    assert [each.version for each in loader.candidates] == ["1.0"]
    assert loader.status_document()["stale"] is False


async def test_where_it_is_not_said_to_be_packed_something_must_say_that_it_is_current(
    image: Image, client: Client
) -> None:
    image.publisher.repository.publish([listed("1.0")])

    with pytest.raises(FetchError, match=r"freshness\.json"):
        await client.loader.sync(image.build())


async def test_it_expires_and_so_does_the_root(image: Image) -> None:
    image.publisher.repository.publish([listed("1.0")])
    path = image.build()
    image.publisher.clock.now += 30 * DAY

    with pytest.raises(ExpiredError, match="manifest expired"):
        await image.start().sync(path)

    image.publisher.clock.now += 365 * DAY
    image.publisher.repository.publish([listed("1.1")])
    with pytest.raises(ExpiredError, match="root version 1 expired"):
        await image.start().sync(image.build())


ATTACKS: dict[str, tuple[Callable[[Image, Path], object], type[ManifestError]]] = {
    "a changed manifest": (
        lambda _, path: path.write_bytes(tampered(path.read_bytes(), lambda body: body.replace(b'"1.0"', b'"6.6"'))),
        SignatureError,
    ),
    "a manifest without signature": (lambda _, path: path.write_text('{"entries": []}'), SignatureError),
    "another publisher's manifest": (
        lambda image, path: path.write_bytes(
            RepositorySimulator(product="acme", now=image.publisher.clock).publish([listed("6.6")])
        ),
        SignatureError,
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_whoever_changes_the_image_gets_nothing_past_it(image: Image, attack: str) -> None:
    image.publisher.repository.publish([listed("1.0")])
    path = Path(image.build())
    change, error = ATTACKS[attack]
    change(image, path)

    loader = image.start()
    with pytest.raises(error):
        await loader.sync(str(path))
    assert loader.candidates == ()


async def test_an_artifact_is_taken_from_beside_it_and_a_changed_one_is_refused(
    publisher: Publisher, image: Image
) -> None:
    stated = publisher.entry("cache", "1.0", uri="acme-cache.zip")
    publisher.repository.publish([stated])
    path = image.build()
    artifact = image.directory / stated["uri"]
    content = publisher.repository.artifacts[stated["sha256"]]

    artifact.write_bytes(content[:-1] + b"x")
    with pytest.raises(DigestError):
        await image.start().sync(path)

    artifact.write_bytes(content)
    assert (await image.start("another").sync(path)).digest_checks == 1


async def test_what_others_fetch_lies_beside_it_under_its_digest(publisher: Publisher, image: Image) -> None:
    stated = publisher.entry("cache", "1.0")
    assert stated["uri"].startswith("https://")
    publisher.repository.publish([stated])
    path = image.build()
    content = publisher.repository.artifacts[stated["sha256"]]
    artifact = image.directory / "sha256" / stated["sha256"]

    with pytest.raises(FetchRefusedError, match="only files beside the manifest") as refused:
        await image.start().sync(path)
    assert str(artifact) in str(refused.value)

    artifact.parent.mkdir()
    artifact.write_bytes(content[:-1] + b"x")
    with pytest.raises(DigestError):
        await image.start("second").sync(path)

    artifact.write_bytes(content)
    assert (await image.start("third").sync(path)).digest_checks == 1


async def test_the_roots_beside_it_are_followed_and_keys_that_were_withdrawn_sign_nothing(image: Image) -> None:
    repository = image.publisher.repository
    repository.publish([listed("1.0")])
    signed_before = repository.manifest
    repository.rotate("manifest")
    repository.publish([listed("1.1")])
    loader = image.start()
    assert (await loader.sync(image.build())).outcome == "applied"

    (image.directory / "manifest.json").write_bytes(signed_before)
    with pytest.raises(SignatureError):
        await image.start("another").sync(str(image.directory / "manifest.json"))


async def test_an_older_image_may_be_started_again_and_begins_with_its_own(image: Image) -> None:
    repository = image.publisher.repository
    repository.publish([listed("1.0")])
    older = repository.manifest
    repository.publish([listed("1.1")])
    path = image.build()
    assert (await image.start().sync(path)).outcome == "applied"
    Path(path).write_bytes(older)

    rolled_back = image.start()
    assert await rolled_back.restore() is None
    assert (await rolled_back.sync(path)).outcome == "applied"
    assert (await rolled_back.sync(path)).outcome == "unchanged"
    assert [each.version for each in rolled_back.candidates] == ["1.0"]


async def test_what_was_fetched_before_is_neither_put_in_force_nor_forgotten(
    publisher: Publisher, client: Client, image: Image
) -> None:
    publisher.publish("1.0")
    replayed = publisher.repository.freshness
    publisher.publish("2.0")
    await client.loader.sync(URL)
    kept = {path: path.read_bytes() for path in client.directory.rglob("*") if path.is_file()}
    publisher.repository.publish([listed("1.0")])
    path = image.build()

    loader = image.start()
    assert await loader.restore() is None
    await loader.sync(path)
    Path(path).write_bytes(b"{}")
    with pytest.raises(ManifestError):
        await image.start().plan(path)

    told = client.directory / "remote_status.json"
    assert [each.version for each in loader.candidates] == ["1.0"]
    assert {path: path.read_bytes() for path in kept if path != told} == {
        path: data for path, data in kept.items() if path != told
    }
    publisher.repository.freshness = replayed
    with pytest.raises(RollbackError):
        await client.again().loader.sync(URL)


async def test_a_delegated_publisher_of_which_nothing_was_shipped_is_no_problem(image: Image) -> None:
    repository = image.publisher.repository
    repository.delegate("plugins", ("adapter", "plugin"))
    repository.rotate()
    repository.publish([listed("1.0")])

    report = await image.start().sync(image.build())
    assert report.plan.problems == ()

    repository.publish_for("plugins", [listed("0.1", key="plugin")])
    (image.directory / "publisher").mkdir()
    (image.directory / "publisher/plugins.json").write_bytes(repository.publishers["plugins"])
    loader = image.start("another")
    await loader.sync(image.build())
    assert {each.key for each in loader.candidates} == {"cache", "plugin"}


def test_it_is_never_fetched(publisher: Publisher, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="local file"):
        Client(publisher, tmp_path / "cache", client=PACKED)


async def test_a_url_is_refused(image: Image) -> None:
    with pytest.raises(FetchRefusedError, match="only local files"):
        await image.start().sync(URL)
