"""What is told of secrets: how many, how old, what a rotation did. Ids and slots, never a value."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from oneiric.runtime._secret_ports import Slot

__all__ = ["RotationReport", "RotationStep", "SecretsInfo"]

type RotationStep = Literal["read", "settings", "swap"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationReport:
    """What a rotation did.

    Attributes:
        rotated: Ids whose value is another than some user had.
        unchanged: Ids whose value is the same, or that nobody was given yet.
        inline: Those of both that stand in the settings: no provider was asked for them.
        swapped: Slots (domain, key, tenant) that serve a new instance, with the new values.
        beside: Instances beside the active ones that keep the old values until they are closed.
        by: Who asked.
        at: When it began, in seconds since the epoch.
        duration_seconds: How long it took.
        step: The step that failed, or None: ``read`` (a secret cannot be read), ``settings`` (a provider's settings
            would not be valid), ``swap`` (a new instance does not start or is unhealthy). The old ones serve then.
        reason: Why, or None.
    """

    rotated: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    inline: tuple[str, ...] = ()
    swapped: tuple[Slot, ...] = ()
    beside: tuple[str, ...] = ()
    by: str | None = None
    at: float = 0.0
    duration_seconds: float = 0.0
    step: RotationStep | None = None
    reason: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether it did what was asked."""
        return self.step is None

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, for JSON."""
        plain = asdict(self)
        for name in ("rotated", "unchanged", "inline", "beside"):
            plain[name] = list(plain[name])
        plain["swapped"] = [{"domain": slot[0], "key": slot[1], "tenant": slot[2]} for slot in self.swapped]
        return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretsInfo:
    """What is known of the secrets at one moment.

    Attributes:
        provider: The provider that was asked for, or None for the one that ranks first.
        cache_ttl_seconds: How long a fetched secret is used.
        refresh_interval: How often they are fetched anew, in seconds, or None.
        inline_entries: How many stand in the settings.
        cached: Ids whose value is held → seconds since it was fetched.
        fetches: How often a provider was asked.
        failures: How often that failed.
        last_rotation: What the last rotation did.
    """

    provider: str | None
    cache_ttl_seconds: float
    refresh_interval: float | None
    inline_entries: int
    cached: Mapping[str, float] = field(default_factory=dict)
    fetches: int = 0
    failures: int = 0
    last_rotation: RotationReport | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, for JSON."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        plain["cached"] = dict(self.cached)
        plain["last_rotation"] = None if self.last_rotation is None else self.last_rotation.as_dict()
        return plain
