"""What components raise gets into statuses, events and errors only as a redactor leaves it."""

import asyncio
import traceback
from collections.abc import Callable
from typing import Any

from oneiric.core.errors import LifecycleError, SwapError, UnavailableError
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Policy, Resolver

CANARY = "S3CR3T-5d1f"


def redact(text: str) -> str:
    return text.replace(CANARY, "***")


class Works:
    async def cleanup(self) -> None:
        raise RuntimeError(f"cannot clean up with {CANARY}")


class Fails:
    """Raises in ``init`` what it is told to raise."""

    error: Callable[[], Exception]

    async def init(self) -> None:
        raise type(self).error()


def chained() -> Exception:
    error = RuntimeError("harmless by itself")
    error.__cause__ = ValueError(f"url was redis://:{CANARY}@h")
    return error


ERRORS: list[Callable[[], Exception]] = [
    lambda: RuntimeError(f"bad password {CANARY}"),
    lambda: UnavailableError(f"no answer with {CANARY}", f"is {CANARY} right?"),
    chained,
]


async def failed_swap(error: Callable[[], Exception], **options: Any) -> tuple[SwapError, str]:
    Fails.error = error
    resolver = Resolver(Policy())
    for provider, factory in (("works", Works), ("fails", Fails)):
        resolver.register(Candidate(domain="service", key="pay", provider=provider, factory=factory))
    seen: list[object] = []
    async with LifecycleManager(resolver, **options) as lifecycle:
        lifecycle.observe(seen.append)
        await lifecycle.activate("service", "pay", "works")
        try:
            await lifecycle.swap("service", "pay", "fails")
        except SwapError as raised:
            await lifecycle.retire("service", "pay")
            return raised, f"{seen!r} {lifecycle.all_statuses()!r}"
    raise AssertionError("the swap did not fail")


def test_a_known_secret_is_masked_wherever_a_failure_is_told() -> None:
    for error in ERRORS:
        raised, told = asyncio.run(failed_swap(error, redact=redact))

        shown = "".join(traceback.format_exception(raised)) + f"{raised!r} {raised.args!r} {raised.hint}"
        assert CANARY not in shown + told
        assert "withheld" in shown
        assert (raised.__cause__, raised.__context__) == (None, None)
        assert raised.step == "init"


def test_an_error_that_shows_no_secret_stays_the_cause() -> None:
    raised, _ = asyncio.run(failed_swap(lambda: RuntimeError("harmless"), redact=redact))

    assert isinstance(raised.__cause__, RuntimeError)
    assert "withheld" not in "".join(traceback.format_exception(raised))


def test_without_a_redactor_nothing_is_taken_out() -> None:
    raised, told = asyncio.run(failed_swap(ERRORS[0]))

    assert isinstance(raised.__cause__, RuntimeError)
    assert CANARY in str(raised)
    assert CANARY in told


def test_errors_of_ours_are_what_they_were() -> None:
    raised, _ = asyncio.run(failed_swap(lambda: LifecycleError("no", "try that"), redact=redact))

    assert (raised.reason, raised.hint) == ("no", "try that")
