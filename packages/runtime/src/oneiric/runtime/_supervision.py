"""What supervision speaks of: children and how each is treated, restarts and their pace, and what is reported."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from oneiric.core.errors import LifecycleError

__all__ = [
    "Child",
    "ChildEvent",
    "ChildInfo",
    "ChildSpec",
    "ChildState",
    "RestartBackoff",
    "RestartPolicy",
    "Strategy",
    "SupervisorInfo",
    "SupervisorState",
    "spec_of",
]

type Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
type RestartPolicy = Literal["permanent", "transient", "temporary"]
type SupervisorState = Literal["stopped", "starting", "running", "stopping", "failed"]
#: ``restarting`` failed and is on its way back; ``held`` failed and comes back when its key takes work again;
#: ``ended`` came to an end that its policy accepts; ``retired`` was put out of service by somebody else, and is not
#: supervised until that is taken back.
type ChildState = Literal["stopped", "starting", "running", "restarting", "held", "ended", "retired"]

_POLICIES: Final = ("permanent", "transient", "temporary")


class Child(Protocol):
    """Something a supervisor starts, watches and stops.

    It may also have ``async run()``, a body that goes on while the child works: when it raises or returns, the child
    has come to its end; ``async health()``, which says False or raises when the child is ill, True when it is well
    and None when it cannot tell; ``async restart()``, which renews a child that still works, without a gap;
    ``spec``, the `ChildSpec` it asks for; and ``watch(moved)``, which calls *moved* with False whenever somebody else
    puts the child out of service and with True when it serves again, once as it is now, and returns the call that ends
    that.
    """

    @property
    def name(self) -> str:
        """What the supervisor calls it; no two children share one."""

    async def start(self) -> None:
        """Begin; it works when this returns."""

    async def stop(self) -> None:
        """End, and let go of everything: also after a failed or cancelled `start`, after its body failed, and twice.

        What ``run`` still does when this returns is cancelled.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartBackoff:
    """How long to wait before a restart: a random time below a bound that doubles ("full jitter").

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

    Attributes:
        initial_seconds: The bound of the first restart within the window; 0 restarts at once.
        max_seconds: The bound never grows beyond this.
        random: Returns a number in [0, 1).
    """

    initial_seconds: float = 0.1
    max_seconds: float = 5.0
    random: Callable[[], float] = field(default=random.random, repr=False)

    def __post_init__(self) -> None:
        if self.initial_seconds < 0 or self.max_seconds < self.initial_seconds:
            raise LifecycleError(
                f"a backoff from {self.initial_seconds:g} s to {self.max_seconds:g} s makes no sense",
                "0 <= initial_seconds <= max_seconds",
            )

    def delay_seconds(self, attempt: int) -> float:
        """Return how long to wait before the *attempt*-th restart within the window, counted from 1."""
        bound = self.initial_seconds * 2.0 ** min(attempt - 1, 64)
        return self.random() * min(self.max_seconds, bound)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """How one child is treated.

    Source: Erlang/OTP, module ``supervisor`` (child specification); 5 s of shutdown are its default too.

    Attributes:
        child: The child.
        restart: ``permanent`` is always restarted, ``transient`` only after an error, ``temporary`` never: a temporary
            child is forgotten once it is down, also when a sibling took it down.
        start_seconds: Deadline of its ``start`` and ``restart``; None is none.
        shutdown_seconds: Deadline of its ``stop`` and of the end of its body, together.
        health_seconds: Deadline of one health check; missing it is a bad answer.
        unhealthy_after: So many bad answers…
        unhealthy_of: …among so many latest ones are a failure; both the same asks for consecutive ones.
        activity: ``(domain, key)`` whose pause holds restarts back; None for a child nobody can pause.
    """

    child: Child
    restart: RestartPolicy = "permanent"
    start_seconds: float | None = 30.0
    shutdown_seconds: float = 5.0
    health_seconds: float = 5.0
    unhealthy_after: int = 3
    unhealthy_of: int = 3
    activity: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        if self.restart not in _POLICIES:
            raise LifecycleError(f"{self._where} has restart {self.restart!r}", " or ".join(map(repr, _POLICIES)))
        if not 1 <= self.unhealthy_after <= self.unhealthy_of:
            raise LifecycleError(
                f"{self._where} fails after {self.unhealthy_after} of {self.unhealthy_of} bad health checks",
                "1 <= unhealthy_after <= unhealthy_of",
            )
        if self.shutdown_seconds < 0 or self.health_seconds <= 0 or (self.start_seconds or 1) <= 0:
            raise LifecycleError(f"{self._where} has a deadline that passes before it begins", "a number of seconds")

    @property
    def _where(self) -> str:
        return f"child {self.child.name!r}"


def spec_of(child: Child | ChildSpec) -> ChildSpec:
    """Return how a child is treated: as stated, else as it asks for, else by the defaults."""
    if isinstance(child, ChildSpec):
        return child
    asked = getattr(child, "spec", None)
    return asked if isinstance(asked, ChildSpec) else ChildSpec(child=child)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildEvent:
    """A child went into a state.

    Attributes:
        at: When, in seconds since the epoch.
        name: The child.
        state: The state it is in now.
        error: What brought it there, or None.
    """

    at: float
    name: str
    state: ChildState
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildInfo:
    """One child at one moment.

    Attributes:
        name: The child.
        state: What it does.
        restart: Its restart policy.
        restarts: How often it was started again, since the supervisor started.
        last_error: What went wrong last, or None; it stays after a recovery.
        since: When it went into its state, in seconds since the epoch.
        health: The last answer of its health check; None before the first and without one.
        abandoned: Steps of it that ignore their cancellation and still run.
    """

    name: str
    state: ChildState
    restart: RestartPolicy
    restarts: int
    last_error: str | None
    since: float
    health: bool | None
    abandoned: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorInfo:
    """A supervisor at one moment.

    Attributes:
        name: The supervisor.
        state: What it does; ``failed`` after it gave up.
        strategy: Whom a failure takes along.
        max_restarts: So many restarts…
        window_seconds: …within this time are borne, one more is not.
        recent_restarts: Restarts within the window that ends now.
        error: Why it gave up, or None.
        children: The children in the order they start.
        ended: Temporary children that are down for good, latest last; a bounded number.
        store_problem: Why activity may be out of date, or None.
    """

    name: str
    state: SupervisorState
    strategy: Strategy
    max_restarts: int
    window_seconds: float
    recent_restarts: int
    error: str | None
    children: tuple[ChildInfo, ...]
    ended: tuple[ChildInfo, ...]
    store_problem: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain data: what ``supervisor-info`` prints."""
        return {
            "name": self.name,
            "state": self.state,
            "strategy": self.strategy,
            "intensity": {
                "max_restarts": self.max_restarts,
                "window_seconds": self.window_seconds,
                "recent_restarts": self.recent_restarts,
            },
            "error": self.error,
            "children": [child.as_dict() for child in self.children],
            "ended": [child.as_dict() for child in self.ended],
            "store_problem": self.store_problem,
        }
