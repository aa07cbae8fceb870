"""The grammar of names: domains, keys, providers, tenants."""

import re
from typing import Final

from oneiric.core.errors import InvalidCandidateError

MAX_NAME_LENGTH: Final = 200

#: A domain is lower-case, so that one spelling exists of each.
_DOMAIN = re.compile(r"[a-z][a-z0-9_-]*\Z")
#: Known to be right: most candidates are of one of these.
_USUAL: Final = frozenset({"action", "adapter", "event", "service", "task", "workflow"})
#: Keys and providers may carry dots ("fastblocks.tasks.notify") but no separator of a path, a URL or a line.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")


def _shown(value: str) -> str:
    return repr(value) if len(value) <= 60 else f"{value[:60]!r}… ({len(value)} characters)"


def check_domain(value: object) -> str:
    """Return *value* if it is a domain name, else raise `InvalidCandidateError`."""
    if type(value) is str and value in _USUAL:
        return value
    if type(value) is str and len(value) <= MAX_NAME_LENGTH and _DOMAIN.match(value):
        return value
    raise _broken("domain", value, "a lower-case letter, then lower-case letters, digits, '_' or '-'")


def check_name(field: str, value: object) -> str:
    """Return *value* if it can name a key, provider or tenant, else raise `InvalidCandidateError`."""
    if type(value) is str and len(value) <= MAX_NAME_LENGTH and _NAME.match(value) and ".." not in value:
        return value
    raise _broken(field, value, "a letter or digit, then letters, digits, '_', '-' or single dots")


def _broken(field: str, value: object, grammar: str) -> InvalidCandidateError:
    if not isinstance(value, str):
        return InvalidCandidateError(field, f"must be a string, not {type(value).__name__}")
    if len(value) > MAX_NAME_LENGTH:
        return InvalidCandidateError(field, f"must be at most {MAX_NAME_LENGTH} characters, not {len(value)}")
    return InvalidCandidateError(field, f"must be {grammar}, not {_shown(value)}")
