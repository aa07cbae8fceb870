"""Secrets from a real file, through real settings, into real slots: rotated while they are used."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from oneiric.core.catalog import discover
from oneiric.core.errors import ConfigurationError, SecretNotFoundError, SwapError
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Resolver
from oneiric.runtime.secrets import LifecycleUsers, Redactor, SecretsHook, SecretsRefresh
from oneiric.runtime.settings import ProviderSettings, load_settings, policy_from

PARTS = """
import asyncio

from pydantic import BaseModel, field_validator

from oneiric.core import Secret


class PaySettings(BaseModel):
    url: str
    token: Secret | None = None

    @field_validator("url")
    @classmethod
    def has_a_host(cls, url):
        if "forbidden" in url:
            raise ValueError("must not hold that")
        return url


gate = None
waiting = asyncio.Event()


class Pay:
    def __init__(self, settings):
        self.url, self.is_closed = settings.url, False

    async def init(self):
        if gate is not None:
            waiting.set()
            await gate.wait()

    async def health(self):
        return "sick" not in self.url

    async def charge(self):
        url = self.url
        await asyncio.sleep(0)
        if self.is_closed:
            raise RuntimeError("closed under a call")
        return url

    async def cleanup(self):
        self.is_closed = True
"""

SETTINGS = """
[secrets]
provider = "file"
[adapters.provider_settings.file]
path = "{path}"
[services.provider_settings.pay]
url = "https://u:${{secret:db/password}}@h"
[services.provider_settings.ship]
url = "https://u:${{secret:db/password}}@s"
token = "${{secret:token}}"
[services.provider_settings.mail]
url = "plain"
"""


@dataclass
class System:
    lifecycle: LifecycleManager
    hook: SecretsHook
    provider_settings: ProviderSettings
    put: Callable[..., None]

    async def urls(self) -> list[str]:
        return [await self.lifecycle.live("service", key).charge() for key in ("pay", "ship", "mail")]

    def generations(self) -> dict[str, int]:
        return {key: self.lifecycle.get_status("service", key).generation for key in ("pay", "ship", "mail")}


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "rotating_parts.py").write_text(PARTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("rotating_parts", None)


@asynccontextmanager
async def running(tmp_path: Path, extra: str = "", **secrets: str) -> AsyncIterator[System]:
    path = tmp_path / "secrets.json"

    def put(**values: str) -> None:
        new = tmp_path / "secrets.new"
        new.touch(mode=0o600)
        new.write_text(json.dumps({"db": {"password": values["password"]}, "token": values["token"]}))
        new.rename(path)

    put(**secrets)
    config = tmp_path / "oneiric.toml"
    config.write_text(SETTINGS.format(path=path) + extra)
    loaded = load_settings(config, environ={})
    resolver = Resolver(policy_from(loaded))
    discover(resolver)
    for key in ("pay", "ship", "mail"):
        resolver.register(
            Candidate(
                domain="service", key=key, provider=key,
                factory="rotating_parts:Pay", settings_model="rotating_parts:PaySettings",
            )
        )  # fmt: skip
    provider_settings = ProviderSettings(loaded)
    section = loaded.settings.secrets
    async with LifecycleManager(resolver, settings_for=provider_settings) as lifecycle:
        hook = SecretsHook(
            section,
            source=lambda: lifecycle.lease(section.domain, section.key, provider=section.provider),
            users=LifecycleUsers(lifecycle, provider_settings),
            redactor=Redactor(),
        )
        provider_settings.secrets = hook
        yield System(lifecycle, hook, provider_settings, put)


def test_a_rotation_during_a_thousand_calls_loses_none_and_none_that_follows_it_sees_the_old_value(
    tmp_path: Path, parts: None
) -> None:
    values = ("one", "two", "three", "four")

    async def scenario() -> None:
        async with running(tmp_path, password="one", token="t") as system:
            proxy = system.lifecycle.live("service", "pay")
            seen: list[tuple[int, int]] = []
            rotated = 0

            async def caller() -> None:
                while rotated < len(values) - 1 or len(seen) < 1000:
                    begun = rotated
                    url = await proxy.charge()
                    seen.append((begun, values.index(url.removeprefix("https://u:").removesuffix("@h"))))

            await proxy.charge()
            calls = asyncio.gather(*(caller() for _ in range(10)))
            for value in values[1:]:
                system.put(password=value, token="t")
                report = await system.hook.rotate(["db/password"], by="ada")
                assert report.swapped == (("service", "pay", None),)
                rotated += 1
            await calls
            assert len(seen) >= 1000
            assert {served for _, served in seen} == {0, 1, 2, 3}
            assert [call for call in seen if call[1] < call[0]] == []

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_an_instance_that_started_with_the_old_value_meanwhile_is_replaced_too(tmp_path: Path, parts: None) -> None:
    import rotating_parts  # type: ignore[import-not-found]  # noqa: PLC0415 - the fixture wrote it

    async def scenario() -> None:
        async with running(tmp_path, password="old", token="t") as system:
            rotating_parts.gate, rotating_parts.waiting = asyncio.Event(), asyncio.Event()
            first_use = asyncio.ensure_future(system.lifecycle.live("service", "pay").charge())
            await rotating_parts.waiting.wait()
            system.put(password="new", token="t")
            rotation = asyncio.create_task(system.hook.rotate())
            # It has to wait for the first instance; one that did not would be done by now, and leave the old value.
            await asyncio.wait([rotation], timeout=0.3)
            rotating_parts.gate.set()
            await rotation
            assert await first_use in {"https://u:old@h", "https://u:new@h"}
            assert await system.lifecycle.live("service", "pay").charge() == "https://u:new@h"

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_only_users_of_what_changed_are_replaced(tmp_path: Path, parts: None) -> None:
    async def scenario() -> None:
        async with running(tmp_path, password="p1", token="t1") as system:
            await system.urls()
            system.put(password="p1", token="t2")
            report = await system.hook.rotate()
            assert (report.rotated, report.unchanged) == (("token",), ("db/password",))
            assert report.swapped == (("service", "ship", None),)
            assert system.generations() == {"pay": 1, "ship": 2, "mail": 1}
            assert (await system.hook.rotate()).swapped == ()
            system.put(password="p2", token="t2")
            report = await system.hook.rotate()
            assert [slot[1] for slot in report.swapped] == ["pay", "ship"]
            assert await system.urls() == ["https://u:p2@h", "https://u:p2@s", "plain"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("bad", "error", "step"), [("sick", SwapError, "swap"), ("forbidden", ConfigurationError, "settings")]
)
def test_where_one_new_instance_would_not_serve_every_old_one_goes_on(
    tmp_path: Path, parts: None, bad: str, error: type[Exception], step: str
) -> None:
    async def scenario() -> None:
        async with running(tmp_path, password="good", token="t1") as system:
            before = await system.urls()
            system.put(password=bad, token="t2")
            with pytest.raises(error):
                await system.hook.rotate()
            last = system.hook.info().last_rotation
            assert last is not None
            assert (last.step, last.swapped, last.rotated) == (step, (), ("db/password", "token"))
            assert system.generations() == {"pay": 1, "ship": 1, "mail": 1}
            assert await system.urls() == before
            assert (await system.hook.get("db/password")).reveal() == "good"
            system.put(password="well", token="t2")
            assert len((await system.hook.rotate()).swapped) == 2
            assert (await system.urls())[0] == "https://u:well@h"

    asyncio.run(scenario())


def test_a_provider_that_cannot_be_read_rotates_nothing(tmp_path: Path, parts: None) -> None:
    async def scenario() -> None:
        async with running(tmp_path, password="good", token="t1") as system:
            before = await system.urls()
            (tmp_path / "secrets.json").chmod(0o644)
            with pytest.raises(ConfigurationError, match="open to others"):
                await system.hook.rotate()
            (tmp_path / "secrets.json").chmod(0o600)
            (tmp_path / "secrets.json").write_text("{}")
            with pytest.raises(SecretNotFoundError, match=r"'db/password', 'token'"):
                await system.hook.rotate()
            assert await system.urls() == before

    asyncio.run(scenario())


def test_what_would_fetch_its_own_settings_is_refused_and_not_waited_for(tmp_path: Path, parts: None) -> None:
    async def scenario() -> None:
        extra = '[adapters.provider_settings.env]\nprefix = "${secret:prefix}"\n'
        async with running(tmp_path, extra, password="p", token="t") as system:
            async with asyncio.timeout(60):
                with pytest.raises(Exception, match="what secrets are fetched from"):
                    await system.lifecycle.activate("adapter", "secrets", "env")

    asyncio.run(scenario())


def test_the_refresh_brings_a_new_value_to_its_users(tmp_path: Path, parts: None) -> None:
    async def scenario() -> None:
        async with running(tmp_path, password="p1", token="t1") as system:
            await system.urls()
            system.hook.update(system.hook.settings.model_copy(update={"refresh_interval": 0.02}))  # type: ignore[attr-defined]
            told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            system.hook.observe(told.set_result)
            refresh = SecretsRefresh(system.hook)
            await refresh.start()
            system.put(password="p2", token="t1")
            report = await asyncio.wait_for(told, 60)
            await refresh.stop()
            assert (report.by, report.rotated) == ("refresh", ("db/password",))
            assert (await system.urls())[0] == "https://u:p2@h"

    asyncio.run(scenario())
