"""Work off the queue until SIGTERM: an orchestrator with a worker as one of its parts."""

import sys

from oneiric.app import App, OrchestrateOptions, PlannedPart, orchestrate


def worker(app: App) -> list[PlannedPart]:
    """Plan a worker of four jobs at once."""
    return [PlannedPart(part=app.worker(concurrency=4))]


sys.exit(orchestrate("settings", options=OrchestrateOptions(extend=(worker,))))
