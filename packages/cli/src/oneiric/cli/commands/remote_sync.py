"""``oneiric remote-sync``: put in force what the publisher offers now; where nothing runs, verify and store it."""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oneiric.cli._downloading import DownloadBar, is_bar_wanted
from oneiric.cli._options import RootOptions
from oneiric.cli._output import Printed, Result, Style, json_line, printable, table, write
from oneiric.cli._publishing import needs_remote, whole_number
from oneiric.cli._running import Place, caller, place_of
from oneiric.cli._view import options_of
from oneiric.core.errors import ConfigurationError, ManifestError, OneiricError

if TYPE_CHECKING:
    from oneiric.app import App

__all__ = ["command"]

_REFRESH_SECONDS = 300
_INTERRUPTED = 130
_CHANGES = {"added": ("green", "+"), "changed": ("yellow", "~"), "withdrawn": ("red", "-"), "refused": ("red", "!")}


def command(
    context: typer.Context,
    manifest: Annotated[
        str | None, typer.Option(metavar="URL|FILE", help="By default remote.manifest_url of the settings.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only show what it would change.")] = False,  # noqa: FBT002
    watch: Annotated[bool, typer.Option("--watch", help="Again and again, until interrupted.")] = False,  # noqa: FBT002
    refresh_interval: Annotated[
        str | None, typer.Option(metavar="SECONDS", help="Between two syncs; remote.refresh_interval, else 300.")
    ] = None,
) -> Result | Printed:
    """Put in force what the publisher offers now; where nothing runs, verify and store it."""
    needs_remote()
    options = options_of(context)
    place = place_of(options)
    once = _Once(options, place, manifest, plan=plan)
    if not watch:
        document = once()
        is_packed = place.loaded.settings.profile.inline_manifest_only
        return Result(
            document=document,
            text=lambda style: _text(document, style, is_packed=is_packed),
            notes=_notes(document, is_packed=is_packed),
        )
    settings = place.loaded.settings.remote
    given = whole_number(refresh_interval, "--refresh-interval")
    return _watched(once, float(given or settings.refresh_interval or _REFRESH_SECONDS), json=options.json)


class _Once:
    """One sync, by the running system or, where nothing runs, by this process."""

    def __init__(self, options: RootOptions, place: Place, manifest: str | None, *, plan: bool) -> None:
        self._options = options
        self._place = place
        self._manifest = manifest
        self._plan = plan

    def __call__(self) -> dict[str, Any]:
        running = self._place.ask_if_running("health")
        if running is None:
            return {"running": False, **asyncio.run(self._alone())}
        if self._manifest is not None:
            raise ConfigurationError(
                "--manifest is for where nothing runs: the running system syncs what its settings name",
                "oneiric remote-sync; or remote.manifest_url in the settings",
            )
        answer = self._place.ask("remote_sync", plan=self._plan or None, by=caller())
        return {"running": True, **answer["report"], "outcome": answer["outcome"]}

    async def _alone(self) -> dict[str, Any]:
        from oneiric.app import App  # noqa: PLC0415 - loads the application

        options = self._options
        level = "DEBUG" if options.debug else "INFO" if options.verbose else "CRITICAL"
        overrides = {"logging.level": level}
        async with App.open(options.config, profile=options.profile, overrides=overrides, keep_state=False) as app:
            with DownloadBar(enabled=is_bar_wanted(options)) as bar:
                app.remote.watch_downloads(bar)
                return await self._synced(app)

    async def _synced(self, app: "App") -> dict[str, Any]:
        if self._plan:
            plan = await app.remote.plan(self._manifest)
            return {"outcome": "planned", **plan.as_dict()}
        report = await app.remote.sync(self._manifest, apply=False)
        return report.as_dict()


def _watched(once: Callable[[], dict[str, Any]], seconds: float, *, json: bool) -> Printed:
    style = Style.of(sys.stdout)
    try:
        while True:
            try:
                document = once()
            except OneiricError as error:
                document = {"error": {"type": type(error).__name__, "message": error.message, "hint": error.hint}}
                word = "refused" if isinstance(error, ManifestError) else "failed"
                lines = [f"{style('red', word)}  {printable(error.message)}"]
            else:
                lines = list(_text(document, style))
            write(sys.stdout, [json_line(document)] if json else lines)
            time.sleep(seconds)
    except KeyboardInterrupt:
        return Printed(_INTERRUPTED)


def _notes(document: dict[str, Any], *, is_packed: bool) -> tuple[str, ...]:
    notes = []
    if document["outcome"] == "stored":
        if is_packed:
            notes.append("nothing runs: nothing was applied; the next start takes what is packed from where it is")
        elif document["signature"] == "envelope":
            notes.append("nothing runs: nothing was applied; what was verified is stored for the next start")
        else:
            notes.append("nothing runs: nothing was applied, and nothing is stored of what is in no signed envelope")
    if document["signature"] == "unsigned":
        notes.append("UNSIGNED: nobody signed this manifest, and nothing of it was verified")
    return (*notes, *document["problems"])


def _text(document: dict[str, Any], style: Style, *, is_packed: bool = False) -> Iterator[str]:
    # Of what is packed nothing is kept: it is there already.
    outcome = "verified" if is_packed and document["outcome"] == "stored" else document["outcome"]
    about = document["manifest"]
    version = "" if about.get("version") is None else f" version {about['version']}"
    name = printable(f"{about.get('product') or 'manifest'}{version}")
    yield f"{style('bold', outcome)}  {name} from {printable(document['source'])}"
    yield f"  {document['signature']}, sha256 {about['digest']}"
    for key_id in about["signed_by"]:
        yield f"  signed by {key_id}"
    changed = [each for each in document["entries"] if each["outcome"] in _CHANGES]
    if changed:
        yield ""
    for each in changed:
        colour, mark = _CHANGES[each["outcome"]]
        reason = f": {each['reason']}" if each["reason"] else ""
        yield style(colour, f"  {mark} {printable(each['name'])} {each['outcome']}{printable(reason)}")
    if document["swaps"]:
        yield ""
        rows = [
            (f"{each['domain']}:{each['key']}", each["tenant"], each["before"], each["after"])
            for each in document["swaps"]
        ]
        yield from table(("SWAPS", "TENANT", "FROM", "TO"), rows, style, "  ")
