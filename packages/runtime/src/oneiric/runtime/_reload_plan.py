"""Planning a reload: what differs between two configurations, what would be swapped, what speaks against it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import BaseModel

from oneiric.core.errors import ResolutionError
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import BUILTIN_DOMAINS, Candidate, Policy, Resolver, Selection
from oneiric.runtime._reload_values import Change, ReloadPlan, SlotName, Swap
from oneiric.runtime.settings import LoadedSettings, OneiricSettings, ProviderSettings, policy_from
from oneiric.runtime.settings._masking import masked
from oneiric.runtime.settings._schema import annotation_at

__all__ = ["Draft", "differing_settings", "draft_of", "needing_restart"]

type _Path = tuple[str | int, ...]

_STACK_ORDER: Final = "ONEIRIC_STACK_ORDER"
_ABSENT: Final = object()
#: What of the settings may change while the process runs; everything else is read at start.
_LIVE: Final = (
    "adapters",
    "services",
    "tasks",
    "events",
    "workflows",
    "actions",
    "domains",
    "tenants",
    "app.allowed_env",
    _STACK_ORDER,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A plan, and what carrying it out takes.

    Attributes:
        plan: The plan; its problems are those of choosing, not yet those of the providers' settings.
        policy: The operator's decisions from then on.
        renewed: Slots whose provider stays and gets other settings.
        to_check: Candidates whose new settings have to be valid.
        unchanged: Domains whose section is the same as before.
    """

    plan: ReloadPlan
    policy: Policy
    renewed: frozenset[SlotName]
    to_check: tuple[Candidate, ...]
    unchanged: frozenset[str]


def draft_of(
    started: LoadedSettings,
    old: LoadedSettings,
    new: LoadedSettings,
    *,
    resolver: Resolver,
    lifecycle: LifecycleManager,
    live: Iterable[str] = (),
) -> Draft:
    """Work out what putting *new* in the place of *old* takes; nothing is changed.

    Args:
        started: What the process started with.
        old: What is in force.
        new: What is to be.
        resolver: Chooses.
        lifecycle: Knows what serves.
        live: As `needing_restart` takes it.

    Raises:
        ConfigurationError: *new* states a malformed stack order.
    """
    before, after = policy_from(old), policy_from(new)
    policy = _policy(resolver.policy, before, after)
    preview = resolver.preview(policy=policy)
    problems: list[str] = []
    swaps = list(_swaps(resolver, preview, lifecycle, (old, new), problems))
    problems += _unhonoured(preview, before, after, problems)
    changes = tuple(_changes(old, new))
    plan = ReloadPlan(
        changes=changes,
        swaps=tuple(swaps),
        needs_restart=_read_at_start(changes, live) if started is old else needing_restart(started, new, live),
        problems=tuple(problems),
    )
    return Draft(
        plan=plan,
        policy=policy,
        renewed=frozenset(swap.slot for swap in swaps if swap.reason == "settings"),
        to_check=tuple(
            candidate
            for domain in preview.domains()
            if old.settings.section(domain).provider_settings != new.settings.section(domain).provider_settings
            for candidate in preview.list_active(domain)
            if differing_settings(old, new, candidate)
        ),
        unchanged=frozenset(
            domain
            for domain in {*BUILTIN_DOMAINS, *old.settings.domains, *new.settings.domains}
            if old.settings.section(domain) == new.settings.section(domain)
        ),
    )


def needing_restart(started: LoadedSettings, new: LoadedSettings, live: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the dotted keys that differ from what the process started with and that it reads at start only.

    Args:
        started: What it started with.
        new: What is to be in force.
        live: Dotted keys that something puts in force while the process runs, beside those that always are.
    """
    return _read_at_start(_changes(started, new), live)


def _read_at_start(changes: Iterable[Change], live: Iterable[str]) -> tuple[str, ...]:
    prefixes = (*_LIVE, *live)

    def is_live(key: str) -> bool:
        return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)

    return tuple(change.key for change in changes if not is_live(change.key))


def differing_settings(old: LoadedSettings, new: LoadedSettings, candidate: Candidate) -> bool:
    """Tell whether a candidate would be given other settings; never true of one that takes none."""
    if candidate.settings_model is None:
        return False
    return ProviderSettings(old).raw(candidate) != ProviderSettings(new).raw(candidate)


def _policy(present: Policy, before: Policy, after: Policy) -> Policy:
    """Return what is to be decided; what was selected in code stays where the configuration did not change."""
    selections = dict(after.selections)
    for domain in {*present.selections, *before.selections}:
        chosen, was = present.selections.get(domain, {}), before.selections.get(domain, {})
        if _providers(chosen) != _providers(was) and _providers(was) == _providers(after.selections.get(domain, {})):
            selections[domain] = chosen
    return replace(after, selections=selections, environment=present.environment)


def _providers(selections: Mapping[str, Selection]) -> dict[str, str]:
    return {key: selection.provider for key, selection in selections.items()}


def _swaps(
    present: Resolver,
    preview: Resolver,
    lifecycle: LifecycleManager,
    loaded: tuple[LoadedSettings, LoadedSettings],
    problems: list[str],
) -> Iterator[Swap]:
    stale = set(lifecycle.stale())
    for status in lifecycle.all_statuses():
        slot = (status.domain, status.key, status.tenant)
        if status.beside or status.current_provider is None:
            continue
        try:
            winner = _winner(preview, slot)
        except ResolutionError as error:
            if _is_resolved(present, slot) or _selected(present, slot) != _selected(preview, slot):
                problems.append(str(error))
            continue
        reason = _reason(present, preview, slot, winner, is_stale=slot in stale, serving=status.current_provider)
        if reason is None and differing_settings(*loaded, winner):
            reason = "settings"
        if reason is not None:
            domain, key, tenant = slot
            yield Swap(
                domain=domain,
                key=key,
                tenant=tenant,
                before=status.current_provider,
                after=winner.provider,
                reason=reason,
            )


def _reason(
    present: Resolver, preview: Resolver, slot: SlotName, winner: Candidate, *, is_stale: bool, serving: str
) -> str | None:
    """Say why a slot would be swapped, its provider's settings apart; None when it would not be."""
    domain, key, tenant = slot
    orphaned = tenant is not None and preview.selection_for(domain, key, tenant=tenant) is preview.selection_for(
        domain, key
    )
    if orphaned or (winner.provider != serving and _selected(present, slot) != _selected(preview, slot)):
        return "selection"
    is_same = winner.provider == serving and (not _is_resolved(present, slot) or winner is _winner(present, slot))
    return "ranking" if is_stale or not is_same else None


def _winner(resolver: Resolver, slot: SlotName) -> Candidate:
    domain, key, tenant = slot
    return resolver.resolve(domain, key, tenant=tenant)


def _is_resolved(resolver: Resolver, slot: SlotName) -> bool:
    try:
        _winner(resolver, slot)
    except ResolutionError:
        return False
    return True


def _selected(resolver: Resolver, slot: SlotName) -> str | None:
    domain, key, tenant = slot
    selection = resolver.selection_for(domain, key, tenant=tenant)
    return None if selection is None else selection.provider


def _unhonoured(preview: Resolver, old: Policy, new: Policy, known: list[str]) -> Iterator[str]:
    """Yield why selections that are new cannot be honoured. A key that nothing is registered for yet may come."""
    before = set(_selections(old))
    for domain, key, tenant, provider in _selections(new):
        if (domain, key, tenant, provider) in before or key not in preview.keys(domain):
            continue
        slot = (domain, key, tenant)
        try:
            if _selected(preview, slot) == provider:
                _winner(preview, slot)
            else:  # an operator's swap outranks it now; it is to hold when that is taken back
                preview.resolve(domain, key, provider=provider, tenant=tenant)
        except ResolutionError as error:
            if str(error) not in known:
                yield str(error)


def _selections(policy: Policy) -> Iterator[tuple[str, str, str | None, str]]:
    for tenant, domains in ((None, policy.selections), *policy.tenants.items()):
        for domain, chosen in domains.items():
            for key, selection in chosen.items():
                yield domain, key, tenant, selection.provider


def _changes(old: LoadedSettings, new: LoadedSettings) -> Iterator[Change]:
    """Yield every setting that differs, by key."""
    found = list(_differences(old.settings, new.settings, ()))
    if old.stack_order != new.stack_order:
        found.append(((_STACK_ORDER,), old.stack_order or _ABSENT, new.stack_order or _ABSENT))
    for path, was, now in sorted(found, key=lambda difference: _spelt(difference[0])):
        origin = _origin(old if now is _ABSENT else new, path)
        yield Change(key=_spelt(path), before=_shown(path, was), after=_shown(path, now), origin=origin)


def _differences(was: Any, now: Any, path: _Path) -> Iterator[tuple[_Path, Any, Any]]:
    """Yield each value that differs with its path; tables are gone into only where they do."""
    if was is now or was == now:
        return
    below, above = _members(was), _members(now)
    if below is None and above is None:
        yield path, was, now
        return
    for value, members in ((was, below), (now, above)):
        if members is None and value is not _ABSENT:  # a table where a value was, or the other way round
            yield path, was, now
            return
    below, above = below or {}, above or {}
    for name in {**below, **above}:
        yield from _differences(below.get(name, _ABSENT), above.get(name, _ABSENT), (*path, name))


def _members(value: Any) -> Mapping[Any, Any] | None:
    """Return what a table holds; None for what is none."""
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in type(value).model_fields}
    return value if isinstance(value, Mapping) else None


def _spelt(path: _Path) -> str:
    return ".".join(str(part)[:200] for part in path)


def _origin(loaded: LoadedSettings, path: _Path) -> str:
    if path == (_STACK_ORDER,):
        return f"environment {_STACK_ORDER}"
    for length in range(len(path), 0, -1):
        if path[:length] in loaded.origins:
            return str(loaded.origins[path[:length]])
    return "default"


def _shown(path: _Path, value: Any) -> Any:
    """Return a value as plain data that may be shown to people: no secret is in it."""
    if value is None or value is _ABSENT:
        return None
    # Which text of a provider's settings is secret only its model knows: none is shown.
    is_providers = "provider_settings" in path[:3]
    return masked(value, str(path[-1]), annotation_at(OneiricSettings, path), is_providers=is_providers)
