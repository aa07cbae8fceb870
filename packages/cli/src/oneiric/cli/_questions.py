"""What was asked for: domains and keys as they were typed, held against what there is."""

from oneiric.core.errors import ConfigurationError, InvalidCandidateError, ResolutionError
from oneiric.core.resolution import BUILTIN_DOMAINS, Explanation, Key, Resolver

__all__ = ["domain_of", "keys_asked", "why_of"]


def keys_asked(resolver: Resolver, domain: str | None, key: str | None) -> list[tuple[str, str]]:
    """Return the (domain, key) pairs that a listing is about, sorted.

    Raises:
        ResolutionError: The domain or the key does not exist; a built-in domain may be empty.
        ConfigurationError: A name cannot exist.
    """
    _check_names(domain, key)
    domains = resolver.domains() if domain is None else (domain,)
    asked = [(each, name) for each in domains for name in resolver.keys(each) if key in {None, name}]
    if asked or (key is None and (domain is None or domain in BUILTIN_DOMAINS)):
        return asked
    if domain is None:
        raise ResolutionError(f"no domain has a key {key!r}", "oneiric list")
    if key is not None:
        resolver.explain(domain, key)  # raises, with what is near
    known = ", ".join(resolver.domains()) or "none"
    raise ResolutionError(f"there is no domain {domain!r}; there are: {known}", "oneiric list")


def domain_of(resolver: Resolver, key: str, domain: str | None) -> str:
    """Return the domain a key is meant in: the one that was named, else the only one that has it.

    Raises:
        ResolutionError: No domain has the key.
        ConfigurationError: Several have it, or a name cannot exist.
    """
    _check_names(domain, key)
    if domain is not None:
        return domain
    having = [each for each in resolver.domains() if key in resolver.keys(each)]
    if len(having) > 1:
        raise ConfigurationError(f"{key!r} is a key of {' and '.join(having)}", f"--domain {having[0]}")
    if having:
        return having[0]
    raise ResolutionError(f"no domain has a key {key!r}", "oneiric list")


def why_of(explanation: Explanation) -> str:
    """Return why a key resolves as it does, in a sentence that needs no table beside it."""
    if explanation.winner is not None or explanation.selection is not None:
        return explanation.why
    return "; ".join(f"{row.provider} {' and '.join(row.reasons)}" for row in explanation.filtered)


def _check_names(domain: str | None, key: str | None) -> None:
    try:
        Key(domain or "any", key or "any")
    except InvalidCandidateError as error:
        raise ConfigurationError(f"--{error.field} {error.problem}", "oneiric list") from error
