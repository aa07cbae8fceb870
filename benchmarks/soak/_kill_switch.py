"""Ends its process with SIGKILL at a step of a sync: a plugin of the systems that the soak ``kills`` runs.

It changes nothing of what runs: the interpreter tells it when a function that marks a step begins (`sys.monitoring`).
Which mark is fatal stands in ``kill.json`` in the current directory: ``mark``, its ``occurrence`` from 1 on, and how
many ``seconds`` later. Every mark that is passed is appended to ``marks.txt``.
"""

import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

from oneiric.remote._sync_store import RemoteStore
from oneiric.remote.loader import RemoteLoader

__all__ = ["register"]

_ORDER: Final = Path("kill.json")
_MARKS: Final = Path("marks.txt")
#: What a commit does, one after the other; the loader's own steps say their names themselves.
_COMMIT: Final = {
    RemoteStore.put_manifests.__code__: "store",
    RemoteStore.commit.__code__: "state",
    RemoteStore.keep.__code__: "keep",
}
_STEP: Final = RemoteLoader._step.__code__  # where each step passes; nothing public tells a plugin


class _Switch:
    """Counts marks, and ends the process at the one that was ordered."""

    def __init__(self) -> None:
        self._passed: Counter[str] = Counter()
        self._text = ""

    def __call__(self, code: CodeType, _offset: int) -> None:
        frame = sys._getframe(1)  # the interpreter hands over no frame
        mark = _COMMIT.get(code) or frame.f_locals["name"]
        with _MARKS.open("a", encoding="utf-8") as file:
            file.write(f"{mark}\n")
        text = _ORDER.read_text(encoding="utf-8") if _ORDER.exists() else ""
        if text != self._text:
            self._text, self._passed = text, Counter()
        if not text:
            return
        self._passed[mark] += 1
        order = json.loads(text)
        if order["mutant"] == "early" and mark == "swap":
            _commit_early(frame)
        if (mark, self._passed[mark]) == (order["mark"], order["occurrence"]):
            _end_in(order["seconds"])


def _commit_early(frame: FrameType) -> None:
    """Break the promise: commit before anything is swapped."""
    applied: Any = frame.f_back
    loader, delivery = applied.f_locals["self"], applied.f_locals["delivery"]
    loader._memory.commit(delivery.trusted, delivery.manifests, tuple(delivery.held.values()))


def _end_in(seconds: float) -> None:
    if not seconds:
        os.kill(os.getpid(), signal.SIGKILL)

    def end() -> None:
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=end, daemon=True).start()


def register(_resolver: object) -> None:
    """Begin to watch; what is registered is nothing."""
    watching, tool, begins = sys.monitoring, sys.monitoring.DEBUGGER_ID, sys.monitoring.events.PY_START
    if watching.get_tool(tool) is not None:
        return  # settings were read again
    watching.use_tool_id(tool, "kill switch")
    watching.register_callback(tool, begins, _Switch())
    for code in (_STEP, *_COMMIT):
        watching.set_local_events(tool, code, begins)
