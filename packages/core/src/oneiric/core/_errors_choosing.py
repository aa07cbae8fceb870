"""Errors of taking in, choosing and loading candidates, and the root of them all."""

from collections.abc import Iterable
from typing import ClassVar


class OneiricError(Exception):
    """Be caught to catch everything Oneiric raises on purpose.

    Args:
        message: What failed and where, then what was found.
        hint: What to try, as a clause that follows ``Try:``; None where nothing sensible can be said.
    """

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    #: Where among the positional arguments the hint stands; None where an error never has one.
    _hint_at: ClassVar[int | None] = 1

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
        hint = None if self._hint_at is None else self.args[self._hint_at]
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

    _hint_at = None

    def __init__(self, field: str, problem: str, where: str | None = None) -> None:
        Exception.__init__(self, field, problem, where)
        self.field, self.problem, self.where = field, problem, where

    @property
    def message(self) -> str:
        """The field, where it stands, and the rule it breaks."""
        return f"candidate field {self.field!r}{f' of {self.where}' if self.where else ''} {self.problem}"


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
