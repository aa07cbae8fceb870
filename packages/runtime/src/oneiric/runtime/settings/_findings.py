"""What would go wrong with settings that load: providers nobody offers, and settings they do not take."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from oneiric.core.errors import ConfigurationError, LoadError
from oneiric.core.resolution import Candidate
from oneiric.runtime.settings._loaded import LoadedSettings
from oneiric.runtime.settings._origin import Path, refuse
from oneiric.runtime.settings._policy import policy_from
from oneiric.runtime.settings._provider import ProviderSettings
from oneiric.runtime.settings._section import SECTION_OF, section_path

__all__ = ["problems_of"]


def problems_of(
    loaded: LoadedSettings, candidates: Iterable[Candidate], provider_settings: ProviderSettings
) -> list[ConfigurationError]:
    """Return all that is wrong with settings that were loaded, one error each.

    Found are selections and settings of providers that nobody offers, unless a remote manifest may still
    bring them; settings that a provider's model refuses, of every provider that is selected or configured;
    a malformed stack order; an HTTP server that would refuse to start. No secret is fetched.

    Args:
        loaded: The settings.
        candidates: All that is on offer; the modules of those selected or configured are imported.
        provider_settings: Made from *loaded*.
    """
    offered = list(candidates)
    problems = [*_policy_problems(loaded), *_http_problems(loaded)]
    if not loaded.settings.remote.enabled:
        problems += [*_selection_problems(loaded, offered), *_name_problems(loaded, offered)]
    problems += _model_problems(loaded, offered, provider_settings)
    return list({(problem.key, problem.message): problem for problem in problems}.values())


def _selections(loaded: LoadedSettings) -> Iterator[tuple[str, str, str, Path]]:
    """Yield domain, key, provider and path of everything that is selected."""
    settings = loaded.settings
    for domain in (*SECTION_OF, *settings.domains):
        for key, provider in settings.section(domain).selections.items():
            yield domain, key, provider, (*section_path(domain), "selections", key)
    for tenant, domains in settings.tenants.items():
        for domain, chosen in domains.items():
            for key, provider in chosen.items():
                yield domain, key, provider, ("tenants", tenant, domain, key)
    if settings.secrets.provider is not None:
        yield settings.secrets.domain, settings.secrets.key, settings.secrets.provider, ("secrets", "provider")


def _policy_problems(loaded: LoadedSettings) -> Iterator[ConfigurationError]:
    try:
        policy_from(loaded)
    except ConfigurationError as error:
        yield error


def _http_problems(loaded: LoadedSettings) -> Iterator[ConfigurationError]:
    http = loaded.settings.http
    if http.enabled and http.auth.kind == "none" and not _is_loopback(http.host):
        path = ("http", "host")
        problem = "is not a loopback address, and http.auth.kind is none: the server would refuse to start"
        yield refuse(problem, "http.auth.kind hmac or oidc", path, loaded.origin_near(path))


def _is_loopback(host: str) -> bool:
    import ipaddress  # noqa: PLC0415 - only an address needs it

    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _selection_problems(loaded: LoadedSettings, offered: list[Candidate]) -> Iterator[ConfigurationError]:
    for domain, key, provider, path in _selections(loaded):
        keys = {candidate.key for candidate in offered if candidate.domain == domain}
        providers = {candidate.provider for candidate in offered if (candidate.domain, candidate.key) == (domain, key)}
        if not providers:
            problem = f"selects {provider!r} for {domain}:{key}, which nobody offers"
            yield refuse(problem, _near(key, keys), path, loaded.origin_near(path))
        elif provider not in providers:
            problem = f"selects {provider!r}, which nobody offers for {domain}:{key}"
            yield refuse(problem, _near(provider, providers), path, loaded.origin_near(path))


def _name_problems(loaded: LoadedSettings, offered: list[Candidate]) -> Iterator[ConfigurationError]:
    for domain in (*SECTION_OF, *loaded.settings.domains):
        ours = [candidate for candidate in offered if candidate.domain == domain]
        known = {candidate.provider for candidate in ours} | {f"{one.key}/{one.provider}" for one in ours}
        for name in loaded.settings.section(domain).provider_settings:
            if name not in known:
                path = (*section_path(domain), "provider_settings", name)
                problem = f"configures a provider of domain {domain} that nobody offers"
                yield refuse(problem, _near(name, known), path, loaded.origin_near(path))


def _near(name: str, known: Iterable[str]) -> str | None:
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    return near[0] if near else (f"one of {', '.join(names[:8])}" if names else None)


def _model_problems(
    loaded: LoadedSettings, offered: list[Candidate], provider_settings: ProviderSettings
) -> Iterator[ConfigurationError]:
    selected = {(domain, key, provider): path for domain, key, provider, path in _selections(loaded)}
    for candidate in offered:
        path = selected.get((candidate.domain, candidate.key, candidate.provider))
        if path is None and not provider_settings.raw(candidate):
            continue  # neither selected nor configured: nobody waits for it to work
        try:
            yield from provider_settings.problems(candidate)
        except LoadError as error:
            if path is not None:
                problem = f"selects a provider whose settings cannot be checked: {error.message}"
                yield refuse(problem, error.hint, path, loaded.origin_near(path))
