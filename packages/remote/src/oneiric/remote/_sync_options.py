"""How a loader behaves."""

from dataclasses import dataclass, field

from oneiric.remote._sync_places import Downloading
from oneiric.remote.apply import Probation
from oneiric.remote.artifacts import ArtifactLimits
from oneiric.remote.manifest import FactoryPolicy
from oneiric.remote.trust import ClientPolicy, EmbeddedPolicy

__all__ = ["LoaderOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderOptions:
    """How a loader behaves.

    Attributes:
        client: What the client is, and what it takes.
        factories: Which modules remote entries may name; by default none.
        embedded: What is asked of documents of earlier formats; by default none is taken.
        limits: How much an artifact may hold.
        probation: How long new generations are watched before they are committed to.
        installed_only: Whether an entry without artifact must name a module that an installed distribution recorded.
        lock_seconds: How long to wait for another process that syncs into the same cache directory.
        latency_budget_ms: How long a sync may take before it counts as slow; 0 never does.
        on_download: Told name, bytes so far and signed bytes of what is downloaded, as it arrives; what it raises ends
            the sync.
    """

    client: ClientPolicy = field(default_factory=ClientPolicy)
    factories: FactoryPolicy = field(default_factory=FactoryPolicy)
    embedded: EmbeddedPolicy = field(default_factory=EmbeddedPolicy)
    limits: ArtifactLimits = field(default_factory=ArtifactLimits)
    probation: Probation = field(default_factory=Probation)
    installed_only: bool = True
    lock_seconds: float = 30.0
    latency_budget_ms: float = 0.0
    on_download: Downloading | None = None
