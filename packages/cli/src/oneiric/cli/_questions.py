"""What was asked for: domains and keys as they were typed, held against what there is."""

from collections.abc import Iterable

from oneiric.core.errors import ConfigurationError, InvalidCandidateError, ResolutionError
from oneiric.core.resolution import BUILTIN_DOMAINS, Explanation, Key, Resolver

__all__ = ["checked", "domain_among", "domain_of", "keys_asked", "named", "why_of"]


def named(text: str, domain: str | None) -> tuple[str | None, str]:
    """Return the domain, if one was said, and the key of ``KEY`` or ``DOMAIN:KEY``.

    Raises:
        ConfigurationError: Two domains were said, or a name cannot exist.
    """
    before, colon, after = text.partition(":")
    said, key = (before, after) if colon else (None, text)
    if said is not None and domain not in {None, said}:
        raise ConfigurationError(f"the domain is {said!r} or {domain!r}, not both", f"--domain {domain} {key}")
    said = domain if said is None else said
    _check_names(said, key)
    if not key or said == "":
        raise ConfigurationError(f"{text!r} is no key", "DOMAIN:KEY, such as adapter:cache")
    return said, key


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
    if key is not None:
        resolver.explain(domain_of(resolver, key, domain), key)  # one of them raises, with what is near
    known = ", ".join(resolver.domains()) or "none"
    raise ResolutionError(f"there is no domain {domain!r}; there are: {known}", "oneiric list")


def checked(**names: str | None) -> dict[str, str | None]:
    """Return options that name something, such as a provider, as they are.

    Raises:
        ConfigurationError: A name cannot exist.
    """
    for option, name in names.items():
        try:
            Key("any", "any" if name is None else name)
        except InvalidCandidateError as error:
            raise ConfigurationError(f"--{option} {error.problem}", "oneiric list") from error
    return names


def domain_of(resolver: Resolver, key: str, domain: str | None) -> str:
    """Return the domain a key is meant in: the one that was named, else the only one that has it.

    Raises:
        ResolutionError: No domain has the key.
        ConfigurationError: Several have it, or a name cannot exist.
    """
    _check_names(domain, key)
    if domain is not None:
        return domain
    return domain_among(((each, name) for each in resolver.domains() for name in resolver.keys(each)), key)


def domain_among(known: Iterable[tuple[str, str]], key: str) -> str:
    """Return the only domain that has a key.

    Args:
        known: Every (domain, key) there is.
        key: The key.

    Raises:
        ResolutionError: No domain has the key.
        ConfigurationError: Several have it.
    """
    pairs = list(known)
    having = [each for each, name in pairs if name == key]
    if len(having) > 1:
        raise ConfigurationError(f"{key!r} is a key of {' and '.join(having)}", f"--domain {having[0]}")
    if having:
        return having[0]
    from difflib import get_close_matches  # noqa: PLC0415 - only for a typo

    near = get_close_matches(key, [name for _, name in pairs], n=1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    raise ResolutionError(f"no domain has a key {key!r}{meant}", "oneiric list")


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
