"""``${secret:ID}`` in settings: kept as a template, and filled in when somebody asks for the settings."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from pydantic import BaseModel

from oneiric.core import Secret
from oneiric.core.errors import OneiricError, SecretNotFoundError
from oneiric.runtime.settings._loaded import LoadedSettings
from oneiric.runtime.settings._origin import Origin, Path, dotted
from oneiric.runtime.settings._template import SecretTemplate

__all__ = ["SecretLookup", "fetched", "rendered", "resolve_secrets", "secret_ids_of", "templates_in"]


class SecretLookup(Protocol):
    """Where secrets are fetched from."""

    async def get(self, id: str, /) -> Secret:  # noqa: A002 - the word everybody uses for it
        """Return a secret.

        Raises:
            SecretNotFoundError: There is none of that id.
        """
        ...


def templates_in(value: Any, path: Path = ()) -> Iterator[tuple[Path, SecretTemplate]]:
    """Yield every template in a tree of settings, models and lists, with its path."""
    items: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, SecretTemplate):
        yield path, value
    elif isinstance(value, BaseModel):
        items = ((name, getattr(value, name)) for name in type(value).model_fields)
    elif isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for name, below in items:
        yield from templates_in(below, (*path, name))


def rendered(value: Any, secrets: Mapping[str, Secret]) -> Any:
    """Return a tree with a `Secret` in place of each template.

    Args:
        value: The tree; left as it is.
        secrets: Id → secret, for every id in it.
    """
    if isinstance(value, SecretTemplate):
        return value.render(secrets)
    if isinstance(value, BaseModel):
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        return value.model_copy(update={name: rendered(below, secrets) for name, below in fields.items()})
    if isinstance(value, Mapping):
        return {name: rendered(below, secrets) for name, below in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(rendered(below, secrets) for below in value)
    return value


async def fetched(
    templates: Iterable[tuple[Path, SecretTemplate]],
    secrets: SecretLookup | None,
    origin_of: Callable[[Path], Origin],
) -> dict[str, Secret]:
    """Fetch every secret that templates refer to, each once and all at a time.

    Args:
        templates: With the path that each stands at.
        secrets: Where to fetch from.
        origin_of: Tells where a path was written.

    Raises:
        SecretNotFoundError: One does not exist, or there is nowhere to fetch it from; file, line and key of
            the setting that refers to it are named.
        OneiricError: One could not be fetched; a note names the setting.
    """
    users: dict[str, Path] = {}
    for path, template in templates:
        for id_ in template.ids:
            users.setdefault(id_, path)
    if secrets is None and users:
        id_, path = next(iter(users.items()))
        raise _missing(
            f"refers to ${{secret:{id_}}}, and there is nothing to fetch secrets from", None, path, origin_of
        )
    if secrets is None:
        return {}
    import asyncio  # noqa: PLC0415 - whoever awaits has it, and a command that only reads settings does without

    found = await asyncio.gather(*map(secrets.get, users), return_exceptions=True)
    for (id_, path), answer in zip(users.items(), found, strict=True):
        if isinstance(answer, SecretNotFoundError):
            problem = f"refers to ${{secret:{id_}}}, which does not exist"
            raise _missing(problem, answer.hint, path, origin_of) from answer
        if isinstance(answer, OneiricError):
            answer.add_note(f"while fetching ${{secret:{id_}}} for {dotted(path)} ({origin_of(path)})")
        if isinstance(answer, BaseException):
            raise answer
    return {id_: answer for id_, answer in zip(users, found, strict=True) if isinstance(answer, Secret)}


def _missing(problem: str, hint: str | None, path: Path, origin_of: Callable[[Path], Origin]) -> SecretNotFoundError:
    origin = origin_of(path)
    is_file = origin.kind == "file"
    whence = "" if is_file or origin.kind == "default" else f" (from {origin})"
    hint = hint or "secrets.provider, or secrets.inline while developing"
    return SecretNotFoundError(
        problem + whence, hint, origin.name if is_file else None, origin.line if is_file else None, dotted(path)
    )


async def resolve_secrets[S: BaseModel](loaded: LoadedSettings, section: S, secrets: SecretLookup | None) -> S:
    """Fill in the ``${secret:ID}`` of a section that is not a provider's: of ``http``, of ``remote``.

    Args:
        loaded: Knows where the section was written.
        section: A section of ``loaded.settings``; left as it is.
        secrets: Where to fetch from.

    Returns:
        A copy in which each `SecretTemplate` is a `Secret`; the section itself if it has none.

    Raises:
        SecretNotFoundError: A secret does not exist; file, line and key are named.
        OneiricError: One could not be fetched.
    """
    settings = loaded.settings
    base: Path = next(((name,) for name in type(settings).model_fields if getattr(settings, name) is section), ())
    templates = list(templates_in(section, base))
    if not templates:
        return section
    complete: S = rendered(section, await fetched(templates, secrets, loaded.origin_near))
    return complete


def secret_ids_of(loaded: LoadedSettings) -> frozenset[str]:
    """Return the id of every secret that the settings refer to, for fetching them ahead."""
    ids = {id_ for _, template in templates_in(loaded.settings) for id_ in template.ids}
    by_name = loaded.settings.remote.auth.secret_id
    return frozenset(ids | ({by_name} if by_name else set()))
