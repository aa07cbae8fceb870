"""What cannot be loaded or configured leaves the old one serving, and says what to do."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oneiric.core import Candidate, Environment, LifecycleManager, LifecycleTimeouts, Policy, Resolver
from oneiric.core.errors import FactoryNotFoundError, LoadError, MissingExtraError, SwapError

MODULES = {
    "raising": "raise RuntimeError('told to')",
    "exiting": "import sys; sys.exit(3)",
    "hanging": "import threading; threading.Event().wait(3)",
    "lacking": "import no_such_sdk",
    "working": """
class Model:
    def __init__(self):
        raise ValueError("told to")

def make(settings=None):
    return object()
""",
}


def swap_to(fields: dict[str, Any], check: Callable[[SwapError], None]) -> None:
    async def main() -> None:
        resolver = Resolver()
        resolver.register(Candidate(domain="service", key="x", provider="good", factory=object))
        timeouts = LifecycleTimeouts(activation_seconds=1.0)
        async with LifecycleManager(resolver, timeouts=timeouts) as lifecycle:
            old = await lifecycle.activate("service", "x")
            resolver.register(Candidate(domain="service", key="x", provider="bad", opt_in=True, **fields))
            with pytest.raises(SwapError) as caught:
                await lifecycle.swap("service", "x", provider="bad")
            assert caught.value.rolled_back
            assert lifecycle.get_instance("service", "x") is old
            assert resolver.selection_for("service", "x") is None
            check(caught.value)

    asyncio.run(main())


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, code in MODULES.items():
        (tmp_path / f"told_to_be_{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize("how", ["raising", "exiting", "hanging"])
def test_a_module_that_fails_at_import_fails_the_load(how: str) -> None:
    def check(error: SwapError) -> None:
        assert error.step == "load"

    swap_to({"factory": f"told_to_be_{how}:make"}, check)


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(
    ("factory", "cause"),
    [
        ("no_such_module_of_ours:make", FactoryNotFoundError),
        ("told_to_be_working:absent", FactoryNotFoundError),
        ("told_to_be_lacking:make", LoadError),
    ],
)
def test_the_cause_says_what_was_not_found(factory: str, cause: type[Exception]) -> None:
    def check(error: SwapError) -> None:
        assert isinstance(error.__cause__, cause)

    swap_to({"factory": factory}, check)


@pytest.mark.usefixtures("modules")
def test_a_missing_sdk_is_told_as_the_extra_to_install() -> None:
    def check(error: SwapError) -> None:
        assert isinstance(error.__cause__, MissingExtraError)
        assert error.hint == "pip install 'acme[sdk]'"

    # The environment believes the extra is there; importing shows that it is not.
    async def main() -> None:
        resolver = Resolver(Policy(environment=Environment(python="3.13.0", os="linux", is_installed=lambda _: True)))
        resolver.register(Candidate(domain="service", key="x", provider="good", factory=object))
        resolver.register(
            Candidate(
                domain="service",
                key="x",
                provider="bad",
                opt_in=True,
                factory="told_to_be_lacking:make",
                requires_extra="acme[sdk]",
            )
        )
        async with LifecycleManager(resolver) as lifecycle:
            await lifecycle.activate("service", "x")
            with pytest.raises(SwapError) as caught:
                await lifecycle.swap("service", "x", provider="bad")
            check(caught.value)

    asyncio.run(main())


@pytest.mark.usefixtures("modules")
def test_settings_that_are_refused_fail_before_the_factory_runs() -> None:
    def check(error: SwapError) -> None:
        assert error.step == "settings"
        assert "told to" in error.reason

    swap_to({"factory": "told_to_be_working:make", "settings_model": "told_to_be_working:Model"}, check)
