"""A publisher over HTTP on loopback, and the processes of a consumer: what the soak ``kills`` kills."""

import io
import json
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Self

from benchmarks._processes import clean_environment
from oneiric.core.errors import OneiricError
from oneiric.remote.testing import RepositorySimulator
from oneiric.remote.trust import TrustedState
from oneiric.runtime.control import ControlClient, control_socket_path

__all__ = ["KEYS", "Consumer", "Site"]

KEYS: Final = ("left", "right")
#: What serves says so itself, in a file: nothing of Oneiric is asked for it.
_CODE: Final = """
from pathlib import Path
class Part:
    async def init(self):
        Path("serving-{key}").write_text("{version}")
    async def health(self):
        return True
"""
_DEADLINE_SECONDS: Final = 60.0


class Site:
    """Publish two parts in archives of their own, and give them out on a free port of 127.0.0.1.

    Attributes:
        repository: Signs.
        ahead_seconds: How far its clock is ahead of the true one.
        files: Path → what is given out there; whoever keeps it can give out again what is old.
        is_reachable: False answers everything with 503.
        requests: How many came.
    """

    def __init__(self) -> None:
        self.ahead_seconds = 0.0
        self.repository = RepositorySimulator(product="acme", now=lambda: time.time() + self.ahead_seconds)
        self.files: dict[str, bytes] = {}
        self.is_reachable = True
        self.requests = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where the manifest lies."""
        return f"http://127.0.0.1:{self._server.server_port}/manifest.json"

    def publish(self, version: int) -> None:
        """Publish the next manifest; its parts call themselves *version*."""
        files, entries = {}, []
        self.repository.artifacts.clear()
        self.repository.history.clear()
        for key in KEYS:
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as archive:
                archive.writestr(f"acme_{key}.py", _CODE.format(key=key, version=version))
            stated = self.repository.add_artifact(buffer.getvalue())
            stated["uri"] = f"{stated['sha256']}.zip"
            files[f"/{stated['uri']}"] = buffer.getvalue()
            entry = {"domain": "service", "key": key, "provider": "acme", "factory": f"acme_{key}:Part"}
            entries.append({**entry, "version": str(version), **stated})
        self.repository.publish(entries)
        files["/manifest.json"] = self.repository.manifest
        files["/freshness.json"] = self.repository.freshness
        self.files = files

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.requests += 1
                content = site.files.get(self.path, b"")
                self.send_response(503 if not site.is_reachable else 200 if content else 404)
                self.send_header("Content-Length", str(len(content) if site.is_reachable else 0))
                self.end_headers()
                if site.is_reachable:
                    self.wfile.write(content)

            def log_message(self, format: str, *_arguments: object) -> None:  # noqa: A002 - its name there
                """Say nothing."""

        return Handler


class Consumer:
    """A directory with settings and state, and one process at a time on it.

    Args:
        home: Where.
        site: Whose manifests it takes.
        plugins: Modules that are imported into it, as files.
        settings: Section → fields, beside those that it needs.
    """

    def __init__(
        self,
        home: Path,
        site: Site,
        *,
        plugins: tuple[Path, ...] = (),
        **settings: Mapping[str, Any],
    ) -> None:
        self.home, self.state = home, home / ".oneiric_cache"
        self._client = ControlClient(control_socket_path(self.state), timeout_seconds=_DEADLINE_SECONDS)
        self._process: subprocess.Popen[bytes] | None = None
        self._log = home / "system.txt"
        home.mkdir(exist_ok=True)
        (home / "root.json").write_bytes(site.repository.roots[0])
        for plugin in plugins:
            shutil.copy(plugin, home / plugin.name.removeprefix("_"))
        document: dict[str, dict[str, Any]] = {
            "plugins": {"imports": [plugin.stem.removeprefix("_") for plugin in plugins]},
            "http": {"enabled": False},
            "profile": {"watchers_enabled": False},
            "services": {"selections": dict.fromkeys(KEYS, "acme")},
            "remote": {
                "enabled": True,
                "manifest_url": site.url,
                "root_path": "root.json",
                "http_hosts": ["127.0.0.1"],
                "private_networks": ["127.0.0.0/8"],
                "factories": {"service": [f"acme_{key}" for key in KEYS]},
                "probation_seconds": 0.01,
                "max_retries": 0,
                "refresh_interval": None,
            },
        }
        for section, fields in settings.items():
            document[section] = {**document.get(section, {}), **fields}
        (home / "settings.yml").write_text(json.dumps(document))

    def run(self, *arguments: str, **environ: str) -> tuple[int, Any]:
        """Run a command with ``--json`` to its end; return how it ended and what it said, None for nothing."""
        process = self._begun([*arguments, "--json"], environ, subprocess.PIPE)
        said, complained = process.communicate(timeout=_DEADLINE_SECONDS)
        try:
            return process.returncode, json.loads(said) if said else None
        except ValueError as error:
            raise AssertionError(f"{arguments} said {said!r}, and {complained!r}") from error

    def start(self, **environ: str) -> None:
        """Begin ``oneiric orchestrate``."""
        self.forget_serving()
        with self._log.open("wb") as log:
            self._process = self._begun(["orchestrate", "--quiet"], environ, log)

    def _begun(self, arguments: list[str], environ: Mapping[str, str], said: Any) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "oneiric.cli", "--config", "settings.yml", *arguments],
            cwd=self.home,
            env=clean_environment() | dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )

    def until_ready(self) -> None:
        """Return once the system takes work."""
        self.until(lambda: bool(self.ask("status")["ready"]))

    def ask(self, operation: str, **fields: Any) -> Any:
        """Ask the running system."""
        return self._client.call(operation, **fields)

    def until(self, holds: Callable[[], bool]) -> None:
        """Return once something holds; errors of the control API count as not yet."""
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while time.monotonic() < deadline:
            with suppress(OneiricError, OSError):
                if holds():
                    return
            if self._process is None or self._process.poll() is not None:
                break
            time.sleep(0.005)  # it is another process, which tells nobody
        raise AssertionError(f"it did not come to hold: {self.ended()}")

    def ended(self) -> tuple[int, str]:
        """Wait for the system, and kill it if it goes on; return its status and what it said."""
        process, self._process = self._process, None
        assert process is not None
        try:
            process.wait(_DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        return process.wait(), self._log.read_text()[-1500:]

    def kill(self) -> None:
        """End the system, if it runs, at once."""
        if self._process is not None:
            self._process.kill()
            self.ended()

    def stop(self) -> int:
        """End the system in order, and return its status."""
        assert self._process is not None
        self._process.terminate()
        return self.ended()[0]

    def serving(self) -> tuple[str, ...]:
        """Return what the instances that were started last call themselves."""
        paths = [self.home / f"serving-{key}" for key in KEYS]
        return tuple(path.read_text() if path.exists() else "nothing" for path in paths)

    def forget_serving(self) -> tuple[str, ...]:
        """Return the same, and forget it, so that an instance that is started anew shows."""
        found = self.serving()
        for key in KEYS:
            (self.home / f"serving-{key}").unlink(missing_ok=True)
        return found

    def trusted(self) -> TrustedState:
        """Return what is remembered on the disk."""
        return TrustedState.load(self.state / "trusted_state.json")
