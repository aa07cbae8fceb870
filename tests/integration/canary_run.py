"""A whole run with planted secrets: ``python canary_run.py DIRECTORY FORM [--forget]``.

What it is given in ``DIRECTORY/canaries.json`` is planted in the environment, a file of secrets, the settings and the
settings of providers. It then does what a system does, failures of every kind included, by components that put the
secret into whatever they raise; and writes all that anybody is told to stdout, stderr and ``DIRECTORY/told``. With
``--forget`` nothing known is masked, to show that the masking is what keeps the secrets out.
"""

import asyncio
import json
import logging
import os
import pickle
import sys
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from oneiric.app import App, OrchestrateOptions, RunningSystem
from oneiric.core.errors import OneiricError
from oneiric.core.events import Bound
from oneiric.core.resolution import Candidate
from oneiric.runtime.control import ControlClient, control_socket_path
from oneiric.runtime.logging import get_logger, shutdown_logging
from oneiric.runtime.secrets import REDACTOR, SecretsHook
from oneiric.runtime.settings import describe, explain_setting

PARTS = '''
from base64 import b64encode
from urllib.parse import quote

from pydantic import BaseModel

from oneiric.core import Secret
from oneiric.core.errors import AuthenticationError


class PaySettings(BaseModel):
    url: str = ""
    token: Secret | None = None
    literal: Secret | None = None
    retries: int = 3


class Pay:
    """Puts its secrets into whatever it raises."""

    fault = ""

    def __init__(self, settings):
        self.settings = settings

    def shown(self):
        token, url = self.settings.token.reveal(), self.settings.url
        basic = b64encode(f"user:{token}".encode()).decode()
        literal = self.settings.literal.reveal() if self.settings.literal else ""
        return f"{url} {token} {token!r} {quote(token, safe='')} {token.encode().hex()} Basic {basic} {literal}"

    def fail_at(self, step):
        if self.fault == step:
            raise RuntimeError(f"{step} with {self.shown()}") from ValueError(self.shown())

    async def init(self):
        self.fail_at("init")
        if self.fault == "ours":
            raise AuthenticationError(f"the server refused {self.shown()}", f"is {self.shown()} right?")

    async def health(self):
        self.fail_at("health")
        return True

    async def charge(self):
        self.fail_at("charge")
        return len(self.shown())

    async def cleanup(self):
        self.fail_at("cleanup")


class Bad(Pay):
    fault = "init"


class Refused(Pay):
    fault = "ours"


class Sick(Pay):
    fault = "health"


class Untidy(Pay):
    fault = "cleanup"
'''

SETTINGS = """
[app]
name = "canaries"
debug = true
[runtime_paths]
cache_dir = "{directory}/told/state"
[logging]
emit_json = {emit_json}
[[logging.sinks]]
target = "stderr"
[[logging.sinks]]
target = "file"
path = "{directory}/told/log.txt"
[secrets]
provider = "file"
inline = {{ inline = "{inline}" }}
[adapters.provider_settings.file]
path = "{directory}/secrets.json"
[profile]
watchers_enabled = false
[runtime_supervisor]
poll_interval = 0.1
[services.selections]
ill = "good"
{selected}
[http]
port = 0
[http.auth]
hmac_keys = {{ main = "{hmac}" }}
[remote.auth]
token = "{remote}"
{services}
"""
SERVICE = """
[services.provider_settings.{provider}]
url = "https://u:${{ONEIRIC_SECRET_CANARY}}@h/${{secret:inline}}"
token = "${{secret:db/password}}"
literal = "{provider_setting}"
"""
PROVIDERS = ("good", "bad", "refused", "sick", "untidy")


class Run:
    """What is told, written to files and to stdout."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.told = directory / "told"
        self._count = 0

    def tell(self, what: str, *values: object) -> None:
        """Write values in each way that a program shows one."""
        lines = [what]
        for value in values:
            lines += [repr(value), str(value), f"{value}", repr(getattr(value, "__dict__", None))]
            for plain in ("as_dict", "model_dump", "model_dump_json"):
                if hasattr(value, plain):
                    lines.append(_answer(getattr(value, plain)))
            lines.append(json.dumps(value, default=repr) if isinstance(value, dict | list) else "")
        self._write("\n".join(lines).encode())
        sys.stdout.write("\n".join(lines))

    def tell_error(self, error: BaseException) -> None:
        """Write an error as a traceback, as itself, pickled, and to the log."""
        self.tell(type(error).__name__, error, error.args, getattr(error, "hint", None))
        self._write("".join(traceback.format_exception(error)).encode())
        self._write(pickle.dumps(error))
        get_logger("canaries").error("it failed", exc_info=error, reason=str(error))

    async def expect(self, what: str, call: Callable[[], Any]) -> None:
        """Await a call that has to fail, and tell its error."""
        try:
            result = await call()
        except OneiricError as error:
            self.tell_error(error)
        else:
            raise AssertionError(f"{what} did not fail but answered {result!r}")

    def _write(self, data: bytes) -> None:
        self._count += 1
        (self.told / f"{self._count:03}").write_bytes(data)


def _answer(call: Callable[[], object]) -> str:
    try:
        return repr(call())
    except ValueError as error:  # pydantic refuses what it cannot write
        return "".join(traceback.format_exception(error))


def put_secrets(directory: Path, **secrets: str) -> None:
    path = directory / "secrets.json"
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps({"db": {"password": secrets["file"]}, "other": secrets["rotated"]}))


def write_settings(directory: Path, canaries: dict[str, str], form: str, selected: str = "") -> Path:
    services = "".join(SERVICE.format(provider=name, **canaries) for name in PROVIDERS)
    values = {
        **canaries,
        "directory": directory,
        "emit_json": str(form == "json").lower(),
        "services": services,
        "selected": selected,
    }
    path = directory / "oneiric.toml"
    path.write_text(SETTINGS.format(**values))
    return path


def application(config: Path) -> App:
    app = App.open(config)
    for key, provider in (*(("pay", provider) for provider in PROVIDERS), ("ill", "good")):
        factory = "Pay" if provider == "good" else provider.capitalize()
        app.resolver.register(
            Candidate(
                domain="service", key=key, provider=provider, opt_in=provider != "good",
                factory=f"canary_parts:{factory}", settings_model="canary_parts:PaySettings",
            )
        )  # fmt: skip
    return app


@asynccontextmanager
async def running(app: App) -> AsyncIterator[RunningSystem]:
    """Run it as a process of its own does: with state files, a control socket and a server."""
    ready: asyncio.Future[RunningSystem] = asyncio.get_running_loop().create_future()
    options = OrchestrateOptions(handle_signals=False, on_ready=ready.set_result)
    system = RunningSystem(app.loaded, lambda: app, keep_state=True, options=options)
    task = asyncio.create_task(system.run())
    first: list[asyncio.Future[Any]] = [task, ready]
    await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
    try:
        yield system
    finally:
        system.stop()
        await task


async def use_and_fail(run: Run, app: App) -> None:
    handle = await app.services.use("pay")
    run.tell("handle", handle, await app.services.live("pay").charge())
    for provider in ("bad", "refused", "sick"):
        await run.expect(provider, partial(app.lifecycle.swap, "service", "pay", provider))
        run.tell("status", app.lifecycle.get_status("service", "pay"))
        await run.expect(provider, partial(app.services.use, "pay", provider=provider))
    await app.lifecycle.swap("service", "pay", "untidy")
    await app.lifecycle.swap("service", "pay")
    instance = app.lifecycle.get_instance("service", "pay")
    log = get_logger("canaries")
    instance.fault = "charge"
    try:
        await instance.charge()
    except RuntimeError as error:
        log.exception("a call failed", shown=instance.shown(), deep={"a": [instance.shown()]})
        logging.getLogger("a.library").error("it failed with %s", error, exc_info=True)
    instance.fault = "health"
    run.tell("probe", await app.lifecycle.probe_instance_health("service", "pay"))
    instance.fault = ""
    log.info("by name", password="of no importance", token=instance.settings.token)
    log.info(f"in the message {instance.shown()}")


async def fall_ill(run: Run, app: App, system: RunningSystem) -> None:
    """Let a supervised service fail, and wait until it was restarted."""
    assert system.system is not None
    assert system.system.supervisor is not None
    restarted = asyncio.Event()
    before = app.lifecycle.get_status("service", "ill").generation

    def watch(event: object) -> None:
        if isinstance(event, Bound) and event.key == "ill" and event.generation > before:
            restarted.set()

    stop = app.lifecycle.observe(watch)
    app.lifecycle.get_instance("service", "ill").fault = "health"
    await asyncio.wait_for(restarted.wait(), 60)
    stop()
    run.tell("supervisor", system.system.supervisor.info())


async def rotate(run: Run, hook: SecretsHook, canaries: dict[str, str]) -> None:
    put_secrets(run.directory, file=canaries["rotated"], rotated=canaries["file"])
    run.tell("rotation", await hook.rotate(by="ada"), hook.info())
    (run.directory / "secrets.json").chmod(0o644)
    await run.expect("rotation", hook.rotate)
    (run.directory / "secrets.json").chmod(0o600)
    (run.directory / "secrets.json").write_text(f'{{"db": {{"password": "{canaries["file"]}", ')
    await run.expect("rotation", hook.rotate)
    (run.directory / "secrets.json").write_text("{}")
    await run.expect("rotation", hook.rotate)
    run.tell("info", hook, hook.info())
    put_secrets(run.directory, **canaries)


async def configure(run: Run, app: App, canaries: dict[str, str], form: str) -> None:
    loaded, candidates = app.loaded, app.resolver.list_active("service")
    run.tell("loaded", loaded, *describe(loaded, show_defaults=True, candidates=candidates))
    for key in ("services.provider_settings.good.token", "secrets.inline", "http.auth", "remote.auth.token"):
        run.tell("explain", explain_setting(loaded, key, candidates=candidates))
    run.tell("explanation", app.resolver.explain("service", "pay"), *app.resolver.list_active("service"))
    table = "[services.provider_settings.good]"
    broken = (
        f'{table}\nretries = "{canaries["provider_setting"]}"',
        f'[services.provider_settings.unknown]\nliteral = "{canaries["provider_setting"]}"\n[lifecycle]\nhealth = 1',
        f"[http]\nport = '{canaries['hmac']}'",
        f"[app]\nname = '{canaries['file']}",
        f"[remote.auth]\ntoken2 = '{canaries['remote']}'",
    )
    config = run.directory / "oneiric.toml"
    for more in broken:
        text = config.read_text()
        config.write_text(
            text.replace(more.partition("\n")[0], more) if more.partition("\n")[0] in text else text + more
        )
        result = await app.reload()
        assert not result.accepted, result
        run.tell("reload", result, app.reloader.versions, result.plan)
        config.write_text(text)
    write_settings(run.directory, canaries | {"provider_setting": canaries["rotated"]}, form)
    run.tell("reload", app.reloader.plan(), await app.reload())
    write_settings(run.directory, canaries, form, 'pay = "sick"')
    run.tell("plan", app.reloader.plan())
    result = await app.reload()
    assert not result.accepted, result
    run.tell("reload", result, app.reloader.versions)


async def ask(run: Run, app: App, port: int) -> None:
    """Ask the control socket and the server whatever they answer."""
    assert app.state_dir is not None
    client = ControlClient(control_socket_path(app.state_dir))
    slot = {"domain": "service", "key": "pay"}

    async def call(operation: str, **fields: Any) -> None:
        run.tell(operation, await asyncio.to_thread(client.call, operation, **fields))

    for operation in ("status", "components", "decisions", "health", "activity", "config_plan", "supervisor_info"):
        await call(operation)
    await call("explain", **slot, why_not="bad")
    await call("probe", **slot)
    await call("secrets_rotate", keys=["db/password"])
    for provider in ("bad", "refused"):
        await run.expect(provider, partial(asyncio.to_thread, client.call, "swap", **slot, provider=provider))
    await call("pause", **slot, note="for the night")
    for path in ("/metrics", "/healthz", "/readyz", "/api/v1/status", "/nothing?token=x"):
        try:
            with await asyncio.to_thread(urlopen, f"http://127.0.0.1:{port}{path}") as response:
                run.tell(path, await asyncio.to_thread(response.read))
        except HTTPError as refused:
            with refused:
                run.tell(path, refused.read())


async def main(directory: Path, form: str, *, forget: bool) -> None:
    canaries = json.loads((directory / "canaries.json").read_text())
    os.environ["ONEIRIC_SECRET_CANARY"] = canaries["environment"]
    (directory / "told").mkdir()
    (directory / "canary_parts.py").write_text(PARTS)
    sys.path.insert(0, str(directory))
    put_secrets(directory, **canaries)
    run = Run(directory)
    app = application(write_settings(directory, canaries, form))
    async with running(app) as system:
        if forget:
            REDACTOR.max_secrets = 0
            REDACTOR.add()
        events: list[object] = []
        app.lifecycle.observe(events.append)
        await use_and_fail(run, app)
        await fall_ill(run, app, system)
        await rotate(run, app.secrets, canaries)
        await configure(run, app, canaries, form)
        assert system.http is not None
        await ask(run, app, system.http.port or 0)
        run.tell("all", app, app.lifecycle, app.provider_settings, REDACTOR, app.secrets, system, *events)
        run.tell("statuses", *app.lifecycle.all_statuses())
        app.lifecycle.get_instance("service", "pay").fault = "cleanup"
    shutdown_logging()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], forget="--forget" in sys.argv))
