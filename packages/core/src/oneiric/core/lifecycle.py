"""Live instances: activated with their settings, leased by callers, swapped without dropping a call."""

from oneiric.core._generation import Generation, HasCleanup, HasHealth, HasInit
from oneiric.core._hooks import LifecycleHooks, LifecycleTimeouts
from oneiric.core._keeper import Keeper
from oneiric.core._lease import Handle
from oneiric.core._manager import LifecycleManager
from oneiric.core._reconcile import ReconcileReport
from oneiric.core._status import LifecycleStatus
from oneiric.core.snapshot import read_snapshot

__all__ = [
    "Generation",
    "Handle",
    "HasCleanup",
    "HasHealth",
    "HasInit",
    "Keeper",
    "LifecycleHooks",
    "LifecycleManager",
    "LifecycleStatus",
    "LifecycleTimeouts",
    "ReconcileReport",
    "read_snapshot",
]
