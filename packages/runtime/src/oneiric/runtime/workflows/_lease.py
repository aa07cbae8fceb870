"""Leases: who runs a run, and until when, in a time that no setting of the clock can move.

A lease ends by the monotonic clock of the machine and the boot it counts from; it is over with either. That its owner
may commit is not decided by time at all, but by a token that grows with each owner and is compared in the transaction
of the commit.
"""

import os
import secrets
import socket
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

__all__ = ["Claimant", "boot_id"]

_PROC = Path("/proc")


@cache
def boot_id() -> str:
    """Return what tells this boot of the machine from all others; empty where the system does not say."""
    try:
        if sys.platform == "darwin":
            command = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
            return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()  # noqa: S603 - a constant
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except (OSError, subprocess.SubprocessError):
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimant:
    """A process that may hold leases.

    Attributes:
        host: Its machine.
        pid: Its process id.
        began: When it began, in ticks since the boot; 0 where the system does not say.
        space: The process ids it sees; empty where the system has one space only.
        nonce: Tells two of one process apart.
    """

    host: str
    pid: int
    began: int
    space: str
    nonce: str

    @classmethod
    def here(cls) -> Self:
        """Return one for this process."""
        pid = os.getpid()
        found = _state(pid)
        began = 0 if found is None else found[1]
        return cls(host=socket.gethostname(), pid=pid, began=began, space=_space(), nonce=secrets.token_hex(4))

    @classmethod
    def from_text(cls, text: str) -> Self | None:
        """Read what `text` gives; None for anything else."""
        host, *rest = text.rsplit(" ", 4)
        if len(rest) != 4 or not (rest[0].isdigit() and rest[1].isdigit()):
            return None
        return cls(host=host, pid=int(rest[0]), began=int(rest[1]), space=rest[2], nonce=rest[3])

    def text(self) -> str:
        """Return it as one line."""
        return f"{self.host} {self.pid} {self.began} {self.space or '-'} {self.nonce}"

    def told(self) -> str:
        """Return it for people."""
        return f"process {self.pid} on {self.host}"

    def is_gone(self) -> bool:
        """Say whether it is known to have ended: only where its process id means the same here."""
        if self.host != socket.gethostname() or self.space != (_space() or "-"):
            return False
        found = _state(self.pid)
        if found is None:
            return not _answers(self.pid)
        state, began = found
        return state in "ZX" or began != self.began


def _space() -> str:
    try:
        return str((_PROC / "self/ns/pid").stat().st_ino)
    except OSError:
        return ""


def _state(pid: int) -> tuple[str, int] | None:
    """Return a process's state and when it began; None where there is none, or no way to know."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
