"""Environment: what the machine says about eligibility, injected so that ranking stays free of I/O."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Environment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The Python, the operating system and the installed packages that candidates are held against.

    Attributes:
        python: Its version, such as ``"3.13.0"``.
        os: ``sys.platform`` (``linux``, ``darwin``).
        is_installed: Says whether a requirement such as ``"redis>=6"`` or ``"oneiric-adapters-cache[redis]"``
            is met; an extra is when everything the distribution declares under it is.
    """

    python: str
    os: str
    is_installed: Callable[[str], bool]

    @classmethod
    def current(cls) -> "Environment":
        """Return this machine; each requirement is probed when first asked for, once."""
        return cls(python=".".join(map(str, sys.version_info[:3])), os=sys.platform, is_installed=_InstalledProbe())

    def satisfies_python(self, specifiers: str) -> bool:
        """Say whether this Python is in a PEP 440 specifier set such as ``">=3.13"``.

        Raises:
            ValueError: *specifiers* is malformed.
        """
        from oneiric.core._versions import satisfies  # noqa: PLC0415 - only a constrained candidate pays for it

        return satisfies(self.python, specifiers)


class _InstalledProbe:
    """Answer ``is_installed`` from the metadata of what is installed, and remember the answers."""

    __slots__ = ("_answers",)

    def __init__(self) -> None:
        self._answers: dict[str, bool] = {}

    def __call__(self, requirement: str) -> bool:
        answer = self._answers.get(requirement)
        if answer is None:
            from oneiric.core._installed import is_met  # noqa: PLC0415 - reads files; only a first question pays

            answer = self._answers[requirement] = is_met(requirement)
        return answer

    def __repr__(self) -> str:
        return "<what is installed>"
