"""Async tests, and a small shop: providers with settings, written to disk so that factory strings can name them."""

import asyncio
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from oneiric.core.resolution import Candidate
from oneiric.runtime._secret_redaction import REDACTOR

SHOP = """
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, Field, field_validator

from oneiric.core import Secret

made = []


class Pool(BaseModel):
    size: int = 1


class StripeSettings(BaseModel):
    url: str = "https://stripe.test"
    retries: int = Field(default=3, ge=0, le=10)
    tags: list[str] = []
    mode: Literal["live", "test"] = "test"
    password: Secret | None = None
    plain: str = ""
    timeout_seconds: float | None = 5
    pool: Pool = Pool()
    extra_pools: dict[str, Pool] = {}

    @field_validator("url")
    @classmethod
    def is_https(cls, url: str) -> str:
        if url.startswith("http:"):
            raise ValueError(f"{url} is no https")
        if url.startswith("ftp:"):
            raise ValueError("must begin with another scheme")
        return url


@dataclass
class AdyenSettings:
    merchant: str
    retries: int = 2


class Required(BaseModel):
    token: Secret


class Payments:
    def __init__(self, settings=None):
        self.settings = settings
        self.is_closed = False
        made.append(self)

    async def charge(self, amount):
        if self.is_closed:
            raise RuntimeError("closed")
        return amount

    def close(self):
        self.is_closed = True


class Ill(Payments):
    def health(self):
        return False


not_a_class = 7
"""


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an ``async def`` test on the loop of its fixtures, or on one of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    scenario = pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in wanted})
    runner = pyfuncitem.funcargs.get("runner")
    if isinstance(runner, asyncio.Runner):
        runner.run(scenario)
    else:
        asyncio.run(scenario)
    return True


@pytest.fixture(autouse=True)
def forgotten_secrets() -> Iterator[None]:
    """Have the process's redactor forget what a test added: it would look for it in every text from then on."""
    yield
    # Inside on purpose: a process has no reason to forget a secret.
    REDACTOR._secrets.clear()
    REDACTOR._index = None


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def shop(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    home = tmp_path_factory.mktemp("shop")
    (home / "shop_parts.py").write_text(SHOP)
    monkeypatch.syspath_prepend(str(home))
    import shop_parts  # type: ignore[import-not-found]  # noqa: PLC0415 - written a line above

    yield shop_parts
    del sys.modules["shop_parts"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write(here: Path) -> Callable[..., None]:
    def write_files(**files: str) -> None:
        for name, text in files.items():
            (here / name.replace("_yml", ".yml").replace("_toml", ".toml")).write_text(text)

    return write_files


def candidate(provider: str, **fields: Any) -> Candidate:
    stated = {"domain": "service", "key": "pay", "factory": "shop_parts:Payments"} | fields
    return Candidate(provider=provider, **stated)


@pytest.fixture
def offer() -> Callable[..., Candidate]:
    return candidate
