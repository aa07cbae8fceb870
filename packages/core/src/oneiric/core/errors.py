"""Every error Oneiric raises, in one tree.

::

    OneiricError
    ├─ RegistrationError   DuplicateCandidateError InvalidCandidateError CatalogError
    ├─ ResolutionError     CandidateNotFoundError (SelectionNotFoundError) CapabilityNotFoundError
    ├─ LoadError           FactoryNotFoundError FactoryNotAllowedError MissingExtraError
    ├─ LifecycleError      ActivationError UnhealthyError SwapError DeadlineError InactiveError
    ├─ ConfigurationError  SecretNotFoundError
    ├─ StoreError
    ├─ FetchError          FetchRefusedError
    └─ AdapterError        UnavailableError AdapterTimeoutError RejectedError AuthenticationError

A class exists only where a caller would branch on it. An error carries data, survives pickling and copying, and
reads: what failed and where → what was found → what to try. ``message`` is the first two, ``hint`` the last;
``str(error)`` joins them. ``exit_code`` is what the ``oneiric`` command exits with, ``http_status`` what an HTTP
surface answers.
"""

from collections.abc import Iterable
from typing import ClassVar

__all__ = [
    "ActivationError",
    "AdapterError",
    "AdapterTimeoutError",
    "AuthenticationError",
    "CandidateNotFoundError",
    "CapabilityNotFoundError",
    "CatalogError",
    "ConfigurationError",
    "DeadlineError",
    "DuplicateCandidateError",
    "FactoryNotAllowedError",
    "FactoryNotFoundError",
    "FetchError",
    "FetchRefusedError",
    "InactiveError",
    "InvalidCandidateError",
    "LifecycleError",
    "LoadError",
    "MissingExtraError",
    "OneiricError",
    "RegistrationError",
    "RejectedError",
    "ResolutionError",
    "SecretNotFoundError",
    "SelectionNotFoundError",
    "StoreError",
    "SwapError",
    "UnavailableError",
    "UnhealthyError",
]


class OneiricError(Exception):
    """Be caught to catch everything Oneiric raises on purpose.

    Args:
        message: What failed and where, then what was found.
        hint: What to try, as a clause that follows ``Try:``; None where nothing sensible can be said.
    """

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, hint: str | None = None, *details: object) -> None:
        # All arguments reach BaseException.args: that is what pickling and copying rebuild an exception from.
        super().__init__(message, hint, *details)

    @property
    def message(self) -> str:
        """What failed and where, then what was found."""
        return str(self.args[0])

    @property
    def hint(self) -> str | None:
        """What to try, or None."""
        hint = self.args[1] if len(self.args) > 1 else None
        return None if hint is None else str(hint)

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}. Try: {self.hint}"


def listed(names: Iterable[str], limit: int = 8) -> str:
    """Join names for a sentence, shortened past *limit*; ``none`` when there are none."""
    ordered = sorted(set(names))
    shown = ", ".join(ordered[:limit])
    return (shown or "none") + (f", and {len(ordered) - limit} more" if len(ordered) > limit else "")


class RegistrationError(OneiricError):
    """A candidate or catalogue cannot be taken in."""

    http_status = 422


class InvalidCandidateError(RegistrationError):
    """A field of a candidate breaks its rule: ``InvalidCandidateError(field, problem, where)``."""

    def __init__(self, field: str, problem: str, where: str | None = None) -> None:
        Exception.__init__(self, field, problem, where)
        self.field, self.problem, self.where = field, problem, where

    @property
    def message(self) -> str:
        """The field, where it stands, and the rule it breaks."""
        return f"candidate field {self.field!r}{f' of {self.where}' if self.where else ''} {self.problem}"

    @property
    def hint(self) -> str | None:
        """Nothing: the message names the rule."""
        return None


class DuplicateCandidateError(RegistrationError):
    """Two rows of one identity came in one change: ``DuplicateCandidateError(domain, key, provider, origin)``."""

    def __init__(self, domain: str, key: str, provider: str, origin: str) -> None:
        Exception.__init__(self, domain, key, provider, origin)
        self.domain, self.key, self.provider, self.origin = self.args

    @property
    def message(self) -> str:
        """The identity that came twice."""
        return f"{self.domain}:{self.key} provider {self.provider!r} from {self.origin!r} is stated twice in one change"

    @property
    def hint(self) -> str | None:
        """What to change."""
        return "remove one of the two rows, or give it another provider name"


class CatalogError(RegistrationError):
    """A catalogue cannot be read: ``CatalogError(message, hint)``."""


class ResolutionError(OneiricError):
    """Nothing can be chosen for a key."""

    exit_code = 4
    http_status = 404


class CandidateNotFoundError(ResolutionError):
    """No eligible candidate stands for a key.

    ``CandidateNotFoundError(domain, key, found, hint)``: *found* says in a clause what there is instead.
    """

    def __init__(self, domain: str, key: str, found: str = "", hint: str | None = None) -> None:
        Exception.__init__(self, domain, key, found, hint)
        self.domain, self.key, self.found = domain, key, found

    @property
    def message(self) -> str:
        """The key, and what there is instead."""
        return f"{self.domain}:{self.key} has no eligible candidate" + (f" ({self.found})" if self.found else "")

    @property
    def hint(self) -> str | None:
        """How to see what there is."""
        given = self.args[3]
        return f"oneiric list --domain {self.domain}" if given is None else str(given)


class SelectionNotFoundError(CandidateNotFoundError):
    """A provider that was named or selected is absent or set aside.

    ``SelectionNotFoundError(domain, key, provider, reason, have, selected_by, hint)``.
    """

    def __init__(  # noqa: PLR0917 - positional, because pickling rebuilds from args
        self,
        domain: str,
        key: str,
        provider: str,
        reason: str | None = None,
        have: tuple[str, ...] = (),
        selected_by: str | None = None,
        hint: str | None = None,
    ) -> None:
        Exception.__init__(self, domain, key, provider, reason, have, selected_by, hint)
        self.domain, self.key, self.provider = domain, key, provider
        self.reason, self.have, self.selected_by = reason, have, selected_by

    @property
    def message(self) -> str:
        """The provider, why it cannot be used, and who asked for it."""
        by = f", selected by {self.selected_by}" if self.selected_by else ""
        if self.reason is None:
            return f"{self.domain}:{self.key} has no provider {self.provider!r}{by} (have: {listed(self.have)})"
        found = f"provider {self.provider!r} of {self.domain}:{self.key}{by} is set aside: {self.reason}"
        return f"{found} (have: {listed(self.have)})"

    @property
    def hint(self) -> str | None:
        """How to see what there is."""
        given = self.args[6]
        return f"oneiric list --domain {self.domain}" if given is None else str(given)


class CapabilityNotFoundError(ResolutionError):
    """No candidate has what was asked: ``CapabilityNotFoundError(domain, key, wanted, require_all, offered)``."""

    def __init__(
        self,
        domain: str,
        key: str,
        wanted: tuple[str, ...],
        require_all: bool = True,  # noqa: FBT001, FBT002 - positional, because pickling rebuilds from args
        offered: tuple[str, ...] = (),
    ) -> None:
        Exception.__init__(self, domain, key, wanted, require_all, offered)
        self.domain, self.key, self.wanted = domain, key, wanted
        self.require_all, self.offered = require_all, offered

    @property
    def message(self) -> str:
        """What was asked, and what is on offer."""
        how = "all" if self.require_all else "any"
        return (
            f"no candidate of {self.domain}:{self.key} has {how} of the capabilities "
            f"{listed(self.wanted)} (offered: {listed(self.offered)})"
        )

    @property
    def hint(self) -> str | None:
        """How to see who offers what."""
        return f"oneiric explain {self.key} --domain {self.domain}"


class LoadError(OneiricError):
    """The code behind a candidate cannot be had: ``LoadError(message, hint)``."""


class FactoryNotFoundError(LoadError):
    """The module or attribute of a factory string does not exist."""


class FactoryNotAllowedError(LoadError):
    """The factory string breaks its grammar or is outside the allow-list."""

    http_status = 403


class MissingExtraError(LoadError):
    """A provider's SDK is not installed: ``MissingExtraError(provider, requirement, missing)``."""

    def __init__(self, provider: str, requirement: str, missing: str | None = None) -> None:
        Exception.__init__(self, provider, requirement, missing)
        self.provider, self.requirement, self.missing = provider, requirement, missing

    @property
    def message(self) -> str:
        """Which provider lacks which module."""
        lacks = f" (no module named {self.missing!r})" if self.missing else ""
        return f"provider {self.provider!r} needs an extra that is not installed{lacks}"

    @property
    def hint(self) -> str | None:
        """What to type."""
        return f"pip install '{self.requirement}'"


class LifecycleError(OneiricError):
    """A component cannot be used or changed as asked: ``LifecycleError(message, hint)``."""

    http_status = 409


class _StepError(LifecycleError):
    """An activation stopped at a step: ``(domain, key, provider, step, reason, rolled_back, tenant)``.

    Attributes:
        step: The step that failed, such as ``"load"``, ``"init"`` or ``"pre_swap"``.
        rolled_back: True when an older generation goes on serving.
        tenant: Whose slot it was, or None for the base one.
    """

    _verb: ClassVar[str] = "start"

    def __init__(  # noqa: PLR0917 - positional, because pickling rebuilds from args
        self,
        domain: str,
        key: str,
        provider: str,
        step: str,
        reason: str,
        rolled_back: bool = False,  # noqa: FBT001, FBT002 - as above
        tenant: str | None = None,
        hint: str | None = None,
    ) -> None:
        Exception.__init__(self, domain, key, provider, step, reason, rolled_back, tenant, hint)
        self.domain, self.key, self.provider = domain, key, provider
        self.step, self.reason, self.rolled_back, self.tenant = step, reason, rolled_back, tenant

    @property
    def message(self) -> str:
        """The key, provider, step and cause, and what serves now."""
        whose = f" (tenant {self.tenant})" if self.tenant else ""
        serves = "; the old one serves" if self.rolled_back else ""
        return (
            f"{self.domain}:{self.key}{whose} did not {self._verb} provider {self.provider!r}: "
            f"{self.step} failed: {self.reason}{serves}"
        )

    @property
    def hint(self) -> str | None:
        """What to try, where the cause suggests it."""
        hint = self.args[7]
        return None if hint is None else str(hint)


class ActivationError(_StepError):
    """A first activation stopped at ``step``; nothing was bound before and nothing is now."""


class SwapError(_StepError):
    """A swap stopped at ``step`` before the binding; the old generation serves if ``rolled_back``."""

    _verb = "swap to"


class UnhealthyError(LifecycleError):
    """An instance reported itself unhealthy."""

    exit_code = 3
    http_status = 503


class DeadlineError(LifecycleError):
    """A step took longer than it may: ``DeadlineError(step, seconds)``."""

    http_status = 504

    def __init__(self, step: str, seconds: float) -> None:
        Exception.__init__(self, step, seconds)
        self.step, self.seconds = step, seconds

    @property
    def message(self) -> str:
        """The step and its deadline."""
        return f"{self.step} took longer than its deadline of {self.seconds:g} s"

    @property
    def hint(self) -> str | None:
        """Nothing: whether the deadline or the component is wrong is not for us to say."""
        return None


class InactiveError(LifecycleError):
    """Nothing is active for a key, and the call does not activate it."""

    exit_code = 6
    http_status = 503


class ConfigurationError(OneiricError):
    """A setting is wrong: ``ConfigurationError(message, hint, file, line, key)``.

    Attributes:
        file: Path of the file at fault, or None.
        line: 1-based line, or None where it is not known for certain.
        key: Dotted key, such as ``"adapters.selections.cache"``, or None.
    """

    exit_code = 2
    http_status = 422

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        file: str | None = None,
        line: int | None = None,
        key: str | None = None,
    ) -> None:
        super().__init__(message, hint, file, line, key)
        self.file, self.line, self.key = file, line, key

    @property
    def message(self) -> str:
        """Where, then what is wrong there."""
        text = str(self.args[0])
        place = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        return ": ".join(part for part in (place, self.key, text) if part)


class SecretNotFoundError(ConfigurationError):
    """A secret that a setting names does not exist."""


class StoreError(OneiricError):
    """A local store is locked, corrupt or full."""

    http_status = 503


class FetchError(OneiricError):
    """Something could not be fetched: ``FetchError(message, hint)``."""

    http_status = 502


class FetchRefusedError(FetchError):
    """A URL or an address is outside the policy; nothing was sent."""

    http_status = 403


class AdapterError(OneiricError):
    """A backend behind an adapter could not do what was asked; vendor exceptions never get further than this."""

    http_status = 502


class UnavailableError(AdapterError):
    """The backend cannot be reached."""

    http_status = 503


class AdapterTimeoutError(AdapterError):
    """The backend did not answer in time; whether it did the work is not known."""

    http_status = 504


class RejectedError(AdapterError):
    """The backend understood and refused: the request itself is wrong."""

    http_status = 422


class AuthenticationError(AdapterError):
    """The backend did not accept the credentials."""

    http_status = 502
