"""The contract every source of secrets keeps, as tests that any provider can inherit.

::

    from oneiric.adapters.secrets.testing import SecretsContract

    class TestMySecrets(SecretsContract):
        async def make(self, secrets): ...             # a new, initialised source that holds just these
        async def change(self, source, secrets): ...   # from now on just these lie behind it

Each test runs in an event loop of its own; no pytest plugin is needed. The extra ``testing`` brings pytest.
"""
# ruff: noqa: S101, D102 - these are tests, shipped: they assert, and each one's name is its docstring

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

import pytest

from oneiric.adapters.secrets import Secrets
from oneiric.core import Secret
from oneiric.core.errors import InactiveError, RejectedError

__all__ = ["SECRET_VALUES", "SecretsContract", "SecretsInstance", "contract"]

#: Far longer than any answer takes: a test that hangs fails instead.
_DEADLINE_SECONDS: Final = 30.0
#: Values that come back as they are, by their ids.
SECRET_VALUES: Final[Mapping[str, str]] = {
    "plain": "correct horse battery staple",
    "spaces": "  leading and trailing\t ",
    "quotes": "'\"`\\",
    "reference": "${ONEIRIC_SECRET_plain} ${secret:plain} $$",
    "lines": "-----BEGIN KEY-----\nabc\n\ndef\n-----END KEY-----",
    "unicode": "pä\u00dfw\u00f6rd \U0001f511",
    "json": '{"user": "ada", "password": null}',
    "number": "0123",
    "long": "x" * 4096,
    "db/password": "in a path",
}
_WRONG_IDS: Final[tuple[Any, ...]] = (
    "", "/", "a/", "/a", "a//b", ".", "..", "../a", "a/../b", "a/..", "..data/a", "a b", "a\n", "a\x00", "é", "a*",
    "x" * 257, None, 5, b"a", ["a"],
)  # fmt: skip


class SecretsInstance(Secrets, Protocol):
    """A source with its lifecycle."""

    async def init(self) -> None:
        """Open it."""

    async def health(self) -> bool:
        """Say whether it can serve."""

    async def cleanup(self) -> None:
        """Close it."""


type _Check = Callable[[Any, Any], Awaitable[None]]


def contract(check: _Check) -> Callable[[Any], None]:
    """Turn ``async def test_x(self, source)`` into a test that makes one of `SECRET_VALUES`, runs, and cleans up."""

    def test(self: "SecretsContract") -> None:
        async def run() -> None:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                source = await self.make(SECRET_VALUES)
                try:
                    await check(self, source)
                finally:
                    await source.cleanup()

        with asyncio.Runner() as runner:
            runner.run(run())

    test.__name__, test.__doc__, test.__module__ = check.__name__, check.__doc__, check.__module__
    test.__qualname__ = check.__qualname__
    return test


class SecretsContract(ABC):
    """What holds for every source of secrets. Inherit, and say how to make one and how its values change."""

    @abstractmethod
    async def make(self, secrets: Mapping[str, str]) -> SecretsInstance:
        """Return a new, initialised source that holds *secrets*, and shares nothing with the one made before."""

    @abstractmethod
    async def change(self, source: SecretsInstance, secrets: Mapping[str, str]) -> None:
        """Put *secrets* in place of what lies behind *source*, as somebody else would; not through *source*."""

    @contract
    async def test_it_satisfies_the_protocol_is_healthy_and_may_be_initialised_again(
        self, source: SecretsInstance
    ) -> None:
        assert isinstance(source, Secrets)
        assert await source.health() is not False
        await source.init()
        assert await source.get_secret("plain") == Secret(SECRET_VALUES["plain"])

    @contract
    async def test_every_value_comes_back_as_it_is(self, source: SecretsInstance) -> None:
        for secret_id, value in SECRET_VALUES.items():
            found = await source.get_secret(secret_id)
            assert isinstance(found, Secret)
            assert found.reveal() == value

    @contract
    async def test_a_miss_is_none(self, source: SecretsInstance) -> None:
        for missing in ("missing", "db", "db/missing", "plain/below", "a" * 256):
            assert await source.get_secret(missing) is None

    @contract
    async def test_an_empty_value_is_a_miss(self, source: SecretsInstance) -> None:
        await self.change(source, {"empty": "", "plain": "value"})
        await source.invalidate_cache()
        assert await source.get_secret("empty") is None
        assert await source.get_secret("plain") == Secret("value")

    @contract
    async def test_what_is_no_id_is_refused_and_not_repeated(self, source: SecretsInstance) -> None:
        wrong: Any
        for wrong in _WRONG_IDS:
            with pytest.raises(RejectedError) as refused:
                await source.get_secret(wrong)
            assert not isinstance(wrong, str) or len(wrong) < 4 or wrong not in str(refused.value)
            with pytest.raises(RejectedError):
                await source.invalidate_cache([wrong])
        with pytest.raises(RejectedError):
            await source.invalidate_cache("plain")

    @contract
    async def test_the_list_names_ids_that_are_there_and_no_value(self, source: SecretsInstance) -> None:
        listed = await source.list_secrets()
        assert isinstance(listed, tuple)
        assert list(listed) == sorted(set(listed))
        assert len(listed) == len(SECRET_VALUES)
        for secret_id in listed:
            assert await source.get_secret(secret_id) is not None
        assert set(listed).isdisjoint(SECRET_VALUES.values())

    @contract
    async def test_a_change_is_seen_once_the_cache_is_invalidated(self, source: SecretsInstance) -> None:
        for number, ids in enumerate((None, ["plain"], {"plain", "missing"})):
            assert await source.get_secret("plain") is not None
            await self.change(source, {**SECRET_VALUES, "plain": f"change {number}"})
            await source.invalidate_cache(ids)
            assert await source.get_secret("plain") == Secret(f"change {number}")
        await self.change(source, {"plain": "alone"})
        await source.invalidate_cache()
        assert await source.get_secret("quotes") is None
        assert await source.list_secrets() == ("plain",)

    @contract
    async def test_many_at_once_are_told_apart(self, source: SecretsInstance) -> None:
        ids = [*SECRET_VALUES] * 5
        found = await asyncio.gather(*(source.get_secret(secret_id) for secret_id in ids))
        assert [one.reveal() for one in found if one is not None] == [SECRET_VALUES[secret_id] for secret_id in ids]

    @contract
    async def test_nothing_it_shows_holds_a_value(self, source: SecretsInstance) -> None:
        found = [await source.get_secret(secret_id) for secret_id in SECRET_VALUES]
        shown = f"{source!r} {source} {found!r} {found[0]} {found[0]:>10}"
        assert [value for value in SECRET_VALUES.values() if value in shown] == []

    @contract
    async def test_a_closed_source_says_so_on_every_call_and_closes_again(self, source: SecretsInstance) -> None:
        await source.get_secret("plain")
        await source.cleanup()
        await source.cleanup()
        for call in (
            source.get_secret("plain"), source.get_secret("missing"), source.list_secrets(), source.invalidate_cache(),
            source.invalidate_cache(["plain"]), source.health(), source.init(),
        ):  # fmt: skip
            with pytest.raises(InactiveError, match="closed"):
                await call
