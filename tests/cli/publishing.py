"""A publisher on loopback who gives out signed manifests over HTTP, and can be held up, silenced and brought back."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.remote.archives import packed

from oneiric.remote.testing import RepositorySimulator

__all__ = ["WebPublisher", "web_publisher"]

_CODE = "# {token}\nclass Cache:\n    version = {version!r}\n    async def health(self):\n        return True\n"
_SETTINGS = """
remote:
  enabled: true
  manifest_url: {url}
  root_path: root.json
  http_hosts: [127.0.0.1]
  private_networks: [127.0.0.0/8]
  factories: {{adapter: [acme], event: [acme], workflow: [acme]}}
  probation_seconds: 0
  max_retries: 0
  refresh_interval: null
http: {{port: 0}}
profile: {{watchers_enabled: false}}
"""
_DEADLINE_SECONDS = 60


class WebPublisher:
    """Signs with keys of its own, and answers on a port that stays the same.

    Attributes:
        repository: What it signs.
        held: Set, everything is sent; cleared, only the first half of each artifact is.
        asked: The paths that were asked for, in order.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(exist_ok=True)
        self.repository = RepositorySimulator(product="acme", now=time.time)
        self.held = threading.Event()
        self.held.set()
        self.asked: list[str] = []
        self._given_out: dict[str, bytes] = {}
        self._token = secrets.token_hex()
        self._server: ThreadingHTTPServer | None = None
        # Bound and never listened on: nobody else is given the port while nobody answers on it.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind(("127.0.0.1", 0))
        self._port: int = self._reserved.getsockname()[1]
        self.start()
        (home / "root.json").write_bytes(self.repository.roots[0])
        (home / "settings.yml").write_text(_SETTINGS.format(url=self.url))

    @property
    def url(self) -> str:
        """Of the manifest."""
        return f"http://127.0.0.1:{self._port}/acme/manifest.json"

    def start(self) -> None:
        """Answer, on the port of before."""
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                publisher.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Let nobody connect any more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def close(self) -> None:
        """Let go of the port too."""
        self.held.set()
        self.stop()
        self._reserved.close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append(handler.path)
        content = self._given_out.get(handler.path.partition("?")[0])
        handler.send_response(404 if content is None else 200)
        content = content or b""
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        half = len(content) // 2 if handler.path.endswith(".zip") else len(content)
        handler.wfile.write(content[:half])
        handler.wfile.flush()
        assert self.held.wait(_DEADLINE_SECONDS)
        handler.wfile.write(content[half:])

    def entry(self, version: str, *, key: str = "cache", more_bytes: int = 0, **changes: Any) -> dict[str, Any]:
        """Return an entry whose artifact is given out under ``/acme/KEY-VERSION.zip``."""
        files = {f"acme/{key}.py": _CODE.format(token=self._token, version=version), "acme/__init__.py": ""}
        if more_bytes:
            files["acme/more.txt"] = os.urandom(more_bytes // 2).hex()
        archive = packed(files)
        stated = {**self.repository.add_artifact(archive), "uri": f"{key}-{version}.zip"}
        self._given_out[f"/acme/{key}-{version}.zip"] = archive
        about = {"domain": "adapter", "key": key, "provider": "acme", "factory": f"acme.{key}:Cache"}
        return {**about, "version": version, **stated, **changes}

    def size_of(self, name: str) -> int:
        """Return how long an artifact is, in bytes."""
        return len(self._given_out[f"/acme/{name}"])

    def given_out(self, name: str) -> bytes:
        """Return what is given out under a name."""
        return self._given_out[f"/acme/{name}"]

    def publish(self, *entries: dict[str, Any], **more: Any) -> None:
        """Sign these entries as the next manifest, and give it out."""
        self.repository.publish(list(entries), **more)
        self.give_out()

    def give_out_instead(self, manifest: bytes) -> None:
        """Give out another manifest than the one that is said to be current."""
        self._given_out["/acme/manifest.json"] = manifest

    def give_out(self) -> None:
        """Give out what the repository holds now."""
        roots = {f"/acme/root/{number}.json": root for number, root in enumerate(self.repository.roots, 1)}
        documents = {"/acme/freshness.json": self.repository.freshness, "/acme/manifest.json": self.repository.manifest}
        # All at once: a client that asks in between would be given what is current and not the manifest that it names.
        self._given_out = {**self._given_out, **roots, **documents}


@contextmanager
def web_publisher(home: Path) -> Iterator[WebPublisher]:
    """Give a publisher to the block; *home* holds the settings of its clients."""
    publisher = WebPublisher(home)
    try:
        yield publisher
    finally:
        publisher.close()
