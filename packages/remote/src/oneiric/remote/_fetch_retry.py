"""Asking again without making it worse: a budget, jitter, and a breaker for each host."""

from collections.abc import Callable
from typing import Final

from oneiric.core.errors import FetchError, FetchRefusedError, FetchStatusError
from oneiric.remote._fetch_policy import FetchLimits

__all__ = ["Host", "Hosts", "RetryBudget", "is_transient", "pause_before"]

type Clock = Callable[[], float]
type Chance = Callable[[], float]

_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_SHARE: Final = 0.1
_RESERVE: Final = 3.0
_FLOOR_SECONDS: Final = 30.0
_MOST_HOSTS: Final = 256


def is_transient(error: Exception) -> bool:
    """Say whether the same request may fare better in a moment."""
    if isinstance(error, FetchStatusError):
        return error.status in _TRANSIENT
    return isinstance(error, FetchError) and not isinstance(error, FetchRefusedError)


def pause_before(attempt: int, limits: FetchLimits, chance: Chance) -> float:
    """Return a pause before attempt number *attempt* + 1: with full jitter anything from zero to a bound that doubles.

    Source: M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    """
    longest = min(limits.backoff_cap_seconds, limits.backoff_seconds * 2.0 ** min(attempt - 1, 60))
    return longest * (1.0 - limits.jitter + limits.jitter * chance())


class RetryBudget:
    """Allow one retry for ten fetches, so that retries add at most a tenth to the load of a server in trouble.

    A few are held in reserve, and one more comes with every half minute, for who fetches rarely.
    """

    __slots__ = ("_clock", "_since", "_tokens")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since = clock()
        self._tokens = _RESERVE

    def fetch_started(self) -> None:
        """Take note of a fetch: a tenth of a retry."""
        self._tokens = min(10.0, self._tokens + _SHARE)

    def spend(self) -> bool:
        """Return whether one more retry may be made, and count it."""
        now = self._clock()
        if self._tokens < _RESERVE:
            self._tokens = min(_RESERVE, self._tokens + (now - self._since) / _FLOOR_SECONDS)
        self._since = now
        # Ten times a tenth is a little less than one.
        if self._tokens < 1.0 - 1e-9:
            return False
        self._tokens -= 1.0
        return True


class Host:
    """What is known of one host and port: may it be asked, and should others be asked first?

    A breaker: closed, all requests pass; open after too many failures in a row, none do; half open after a pause,
    one request passes and its outcome decides. Each `admit` that returns True is followed by exactly one of
    `succeeded`, `failed` and `released`.
    """

    __slots__ = ("_chance", "_clock", "_failures", "_is_probed", "_limits", "_opens_at", "cools_until")

    def __init__(self, limits: FetchLimits, clock: Clock, chance: Chance) -> None:
        self._limits = limits
        self._clock = clock
        self._chance = chance
        self._failures = 0
        self._opens_at: float | None = None
        self._is_probed = False
        self.cools_until = 0.0

    @property
    def is_closed(self) -> bool:
        """Whether all requests pass."""
        return self._opens_at is None

    @property
    def failures(self) -> int:
        """How many there were since the last success."""
        return self._failures

    def admit(self) -> bool:
        """Return whether a request may be made now."""
        if self._opens_at is None:
            return True
        if self._is_probed or self._clock() < self._opens_at:
            return False
        self._is_probed = True
        return True

    def wait_seconds(self) -> float:
        """Return how long it is left alone, as far as that is known."""
        return 0.0 if self._opens_at is None else max(0.0, self._opens_at - self._clock())

    def succeeded(self) -> None:
        """Take note that it answered."""
        self._failures, self._opens_at, self._is_probed = 0, None, False

    def failed(self) -> None:
        """Take note that it did not."""
        self._failures += 1
        self._is_probed = False
        if self._opens_at is not None or self._failures >= self._limits.failures_to_open:
            # At random, so that clients that met the same fault do not come back together.
            self._opens_at = self._clock() + self._limits.open_seconds * (0.5 + 0.5 * self._chance())

    def released(self) -> None:
        """Take note that nothing was learnt: the request was given up."""
        self._is_probed = False

    def cool_down(self) -> None:
        """Let others be asked first for a while."""
        self.cools_until = self._clock() + self._limits.cool_down_seconds


class Hosts:
    """The hosts that were asked lately; the one that was asked longest ago is forgotten first."""

    __slots__ = ("_chance", "_clock", "_known", "_limits")

    def __init__(self, limits: FetchLimits, clock: Clock, chance: Chance) -> None:
        self._limits = limits
        self._clock = clock
        self._chance = chance
        self._known: dict[str, Host] = {}

    def of(self, name: str) -> Host:
        """Return what is known of *name*, ``host:port``."""
        host = self._known.pop(name, None) or Host(self._limits, self._clock, self._chance)
        self._known[name] = host
        if len(self._known) > _MOST_HOSTS:
            del self._known[next(iter(self._known))]
        return host

    def is_cooling(self, name: str) -> bool:
        """Say whether others are to be asked first."""
        known = self._known.get(name)
        return known is not None and known.cools_until > self._clock()
