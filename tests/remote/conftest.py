"""What the tests of remote delivery share."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

NOW = 1_795_000_000.0  # 2026-11-18


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an ``async def`` test on a loop of its own, and close what its fixtures have opened there."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in wanted}

    async def run() -> None:
        try:
            await pyfuncitem.obj(**arguments)
        finally:
            for each in arguments.values():
                if hasattr(each, "aclose"):
                    await each.aclose()

    asyncio.run(run())
    return True


def entry(**changes: Any) -> dict[str, Any]:
    """Return the least entry there is, with changes."""
    return {"domain": "adapter", "key": "cache", "provider": "acme", "factory": "acme.cache:Cache", **changes}


def body(**changes: Any) -> dict[str, Any]:
    """Return a manifest's body, with changes."""
    return {
        "product": "acme",
        "channel": "stable",
        "version": 1,
        "issued": "2026-11-18T00:00:00Z",
        "expires": "2026-12-18T00:00:00Z",
        "entries": [entry()],
        **changes,
    }


@pytest.fixture
def now() -> float:
    return NOW
