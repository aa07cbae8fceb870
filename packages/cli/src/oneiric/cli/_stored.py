"""What remote delivery has stored, beside what is installed: as the next start would see it, without a network."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from oneiric.cli._output import Style, printable
from oneiric.core.errors import OneiricError, ResolutionError
from oneiric.core.resolution import Resolver

if TYPE_CHECKING:
    from oneiric.runtime.settings import OneiricSettings

__all__ = [
    "StoredManifest",
    "add_stored",
    "manifest_words",
    "manifests_text",
    "skipped_of",
    "skipped_text",
    "skipped_words",
    "telling_skipped",
]

#: How many entries that were left out are told one by one.
_MOST: Final = 20


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """What was registered of a stored manifest, or why nothing was.

    Attributes:
        manifest: What it says of itself and who signed it; None when nothing was registered.
        problems: What of the stored state is left out or not to be used, as sentences.
        skipped: Entries that were left out: ``name`` (domain:key/provider), ``publisher`` and ``reason`` of each.
    """

    manifest: Mapping[str, Any] | None = None
    problems: tuple[str, ...] = ()
    skipped: tuple[Mapping[str, Any], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "manifest": None if self.manifest is None else dict(self.manifest),
            "problems": list(self.problems),
            "skipped": [dict(each) for each in self.skipped],
        }


def add_stored(resolver: Resolver, settings: "OneiricSettings") -> StoredManifest | None:
    """Register what remote delivery has stored; verified anew, nothing is fetched. What does not verify is left out.

    Returns:
        What came of it; None where the settings name no manifest, or none is stored.
    """
    if not (settings.remote.enabled and settings.remote.manifest_url):
        return None
    import asyncio  # noqa: PLC0415 - only where manifests are delivered

    from oneiric.app import stored_delivery  # noqa: PLC0415 - as above

    try:
        stored = asyncio.run(stored_delivery(settings))
        if stored is None:
            return None
        resolver.apply(add=stored.candidates)
    except OneiricError as error:
        return StoredManifest(problems=(f"the stored manifest is left out: {error.message}",))
    skipped = ({"name": each.name, "publisher": each.publisher, "reason": each.reason} for each in stored.refused)
    return StoredManifest(stored.manifest, stored.problems, tuple(skipped))


def manifest_words(about: Mapping[str, Any]) -> str:
    """Return product, channel and version of a manifest, as far as it states them."""
    stated = [str(about[name]) for name in ("product", "channel") if about.get(name)]
    version = [f"version {about['version']}"] if about.get("version") is not None else []
    return printable(" ".join([*stated, *version]))


def manifests_text(manifests: Iterable[Mapping[str, Any]], style: Style) -> Iterator[str]:
    """Yield what is to be known of stored manifests: which they are, and who signed them; each once."""
    for about in {each["digest"]: each for each in manifests if each.get("stored")}.values():
        yield ""
        yield f"{style('bold', 'stored')}  {manifest_words(about)}, {printable(about['signature'])}"
        yield f"        sha256 {printable(about['digest'])}"
        yield from (f"        signed by {printable(key_id)}" for key_id in about["signed_by"])


def skipped_of(skipped: Iterable[Mapping[str, Any]], domain: str | None, key: str | None) -> list[dict[str, Any]]:
    """Return those entries that were left out and name a domain and a key; None is any."""
    found = []
    for each in skipped:
        before, _, _ = each["name"].rpartition("/")
        its_domain, _, its_key = before.partition(":")
        if domain in {None, its_domain} and key in {None, its_key}:
            found.append(dict(each))
    return found


def skipped_words(count: int, command: str) -> str:
    """Return how many entries of a manifest were left out, and which command names them."""
    return f"{count} {'entry' if count == 1 else 'entries'} of the manifest; `oneiric {command}` says why"


@contextmanager
def telling_skipped(skipped: Sequence[Mapping[str, Any]]) -> Iterator[None]:
    """Say of a key that does not exist which entries of a manifest would have brought it."""
    try:
        yield
    except ResolutionError as error:
        left_out = "; ".join(f"{each['name']} was left out of the manifest: {each['reason']}" for each in skipped)
        if left_out:
            error.add_note(left_out)
        raise


def skipped_text(skipped: Sequence[Mapping[str, Any]], style: Style, total: int | None = None) -> Iterator[str]:
    """Yield which entries of a manifest were left out, and why; the first twenty one by one, the rest as a number.

    Args:
        skipped: The entries.
        style: Of the terminal.
        total: How many there are where *skipped* has not all of them.
    """
    named = skipped[:_MOST]
    for each in named:
        whose = f" of {each['publisher']}" if each["publisher"] else ""
        yield style("yellow", f"left out   {printable(each['name'] + whose)}: {printable(each['reason'])}")
    more = max(total or 0, len(skipped)) - len(named)
    if more > 0:
        yield style("yellow", f"{'           and' if named else 'left out  '} {more}{' more' if named else ' entries'}")
