"""Deliveries that did not start, and delegated publishers among them: theirs is put back, the product's own is not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from oneiric.core.errors import LifecycleError
from oneiric.remote._sync_delivery import OWN, Delivery, InForce
from oneiric.remote.trust import VerifiedManifest

__all__ = ["PutBack", "PutBacks", "held_back"]

#: How many deliveries are remembered: so many are not tried again by the clock.
_MOST: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class PutBack:
    """A delivery that was put back, and why.

    Attributes:
        digests: Publisher → digest of its manifest.
        component: Domain, key and provider of what did not start; None where nobody said.
        reason: The sentence about it.
    """

    digests: Mapping[str, str]
    component: tuple[str, str, str] | None
    reason: str

    @classmethod
    def of(cls, delivery: Delivery, error: LifecycleError) -> Self:
        """Note why a delivery was put back; the error itself would hold on to what it is about."""
        domain, key, provider = (getattr(error, name, None) for name in ("domain", "key", "provider"))
        is_said = domain is not None and key is not None and provider is not None
        component = (str(domain), str(key), str(provider)) if is_said else None
        return cls(digests=delivery.digests, component=component, reason=error.message)


class PutBacks:
    """What was put back lately."""

    def __init__(self) -> None:
        self._found: list[PutBack] = []

    def add(self, put_back: PutBack) -> None:
        """Remember one more, and forget the oldest."""
        self._found = [*self._found[1 - _MOST :], put_back]

    def of(self, delivery: Delivery) -> PutBack | None:
        """Return why this very delivery was put back; None when it was not."""
        return next((each for each in self._found if each.digests == delivery.digests), None)

    def clear(self) -> None:
        """Forget all: somebody asks for it to be tried again."""
        self._found = []


def held_back(delivery: Delivery, in_force: InForce, put_back: PutBack) -> Delivery | None:
    """Return a delivery without the change that did not start, if a delegated publisher made it.

    Where nobody said which component it was, everything that delegated publishers changed is held back: none of them
    may stand in the way of the product.

    Args:
        delivery: What was put back.
        in_force: What serves.
        put_back: Why.

    Returns:
        The delivery with the last good manifest of each such publisher; None when there is no such publisher.
    """
    last = in_force.last()
    before: Mapping[str, str] = {} if in_force.delivery is None else in_force.delivery.digests
    at_fault = [
        name
        for name, manifest in delivery.manifests.items()
        if name != OWN and manifest.digest != before.get(name) and _may_offer(manifest, put_back.component)
    ]
    for name in at_fault:
        manifest, held = last.get(name, (None, None))
        delivery = delivery.without(name, f"publisher {name!r}: {put_back.reason}", manifest, held)
    return delivery if at_fault else None


def _may_offer(manifest: VerifiedManifest, component: tuple[str, str, str] | None) -> bool:
    offered = (row for row in manifest.entries if isinstance(row, dict))
    return component is None or any(
        (row.get("domain"), row.get("key"), row.get("provider")) == component for row in offered
    )
