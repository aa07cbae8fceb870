"""What is told of a reload: the metrics and the log."""

from oneiric.runtime.logging import get_logger
from oneiric.runtime.reload import ReloadResult
from oneiric.runtime.telemetry import Telemetry

__all__ = ["log_reload"]


def log_reload(telemetry: Telemetry, result: ReloadResult) -> None:
    """Count and log how a reload ended."""
    telemetry.reloaded(accepted=result.accepted)
    log = get_logger("oneiric.app")
    if result.accepted:
        log.info("config-applied", version=result.version, by=result.by, swaps=len(result.plan.swaps))
    else:
        log.error("config-refused", version=result.version, by=result.by, reason=result.reason)
