"""RetryPolicy: how often a failed call is tried again, and after how long.

Source: exponential backoff with full jitter, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from oneiric.core.errors import ConfigurationError

__all__ = ["RetryPolicy"]

_NAMES: Final = {
    "attempts": "attempts",
    "max_attempts": "attempts",
    "base_delay": "base_delay_seconds",
    "initial_delay": "base_delay_seconds",
    "base_delay_seconds": "base_delay_seconds",
    "max_delay": "max_delay_seconds",
    "max_backoff": "max_delay_seconds",
    "max_delay_seconds": "max_delay_seconds",
}
#: Fields of published policies that full jitter has no use for.
_WITHOUT_MEANING: Final = frozenset(("jitter", "backoff_jitter", "retriable_status_codes"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a failed call is tried again, and after how long.

    Before attempt n + 1 it waits a random time between 0 and ``base_delay_seconds * 2 ** (n - 1)``, at most
    ``max_delay_seconds``.

    Attributes:
        attempts: Calls in all; 1 means that nothing is tried again.
        base_delay_seconds: Longest wait before the second call.
        max_delay_seconds: Longest wait before any.

    Raises:
        ConfigurationError: A value is not a number or out of range.
    """

    attempts: int = 1
    base_delay_seconds: float = 1.0
    max_delay_seconds: float = 30.0

    def __post_init__(self) -> None:
        if type(self.attempts) is not int or not 1 <= self.attempts <= 1000:
            raise ConfigurationError(f"attempts of a retry policy is 1 to 1000, not {self.attempts!r}")
        for name in ("base_delay_seconds", "max_delay_seconds"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 86_400:
                raise ConfigurationError(f"{name} of a retry policy is 0 to 86400 seconds, not {value!r}")

    @classmethod
    def from_mapping(cls, stated: Mapping[str, Any] | None) -> Self:
        """Read a policy as manifests and settings write it; by default one without retries.

        Raises:
            ConfigurationError: A name is not known, is given twice, or a value is out of range.
        """
        fields: dict[str, Any] = {}
        for name, value in (stated or {}).items():
            if name in _WITHOUT_MEANING:
                continue
            if name not in _NAMES:
                raise ConfigurationError(f"a retry policy has no {name!r}", "attempts, base_delay, max_delay")
            if _NAMES[name] in fields:
                raise ConfigurationError(f"a retry policy states {_NAMES[name]!r} twice")
            fields[_NAMES[name]] = value
        return cls(**fields)

    def delay_seconds(self, attempt: int, random_fraction: float | None = None) -> float:
        """Return how long to wait after the failure of an attempt.

        Args:
            attempt: Its number, from 1.
            random_fraction: 0 to 1; by default drawn.
        """
        fraction = random.random() if random_fraction is None else random_fraction  # noqa: S311 - spreads load
        longest = min(self.max_delay_seconds, self.base_delay_seconds * 2.0 ** min(attempt - 1, 60))
        return longest * fraction
