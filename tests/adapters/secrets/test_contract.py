"""Every provider keeps the family's contract, against the real thing."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from oneiric.adapters.secrets.env import EnvSecretAdapter, EnvSecretSettings
from oneiric.adapters.secrets.file import FileSecretAdapter, FileSecretSettings
from oneiric.adapters.secrets.testing import SecretsContract, SecretsInstance


def private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8", newline="")


class TestEnv(SecretsContract):
    @pytest.fixture(autouse=True)
    def _surroundings(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def put(self, secrets: Mapping[str, str]) -> None:
        for name in [name for name in os.environ if name.startswith("ONEIRIC_SECRET_")]:
            self.monkeypatch.delenv(name)
        for secret_id, value in secrets.items():
            self.monkeypatch.setenv(f"ONEIRIC_SECRET_{secret_id.upper().replace('/', '_')}", value)

    async def make(self, secrets: Mapping[str, str]) -> SecretsInstance:
        self.put(secrets)
        source = EnvSecretAdapter(EnvSecretSettings())
        await source.init()
        return source

    async def change(self, source: SecretsInstance, secrets: Mapping[str, str]) -> None:
        self.put(secrets)


class TestJSON(SecretsContract):
    name = "secrets.json"

    @pytest.fixture(autouse=True)
    def _surroundings(self, tmp_path: Path) -> None:
        self.path = tmp_path / self.name

    def text(self, secrets: Mapping[str, str]) -> str:
        return json.dumps(secrets)

    async def make(self, secrets: Mapping[str, str]) -> SecretsInstance:
        await self.put(secrets)
        source = FileSecretAdapter(FileSecretSettings(path=self.path))
        await source.init()
        return source

    async def put(self, secrets: Mapping[str, str]) -> None:
        private(self.path, self.text(secrets))

    async def change(self, source: SecretsInstance, secrets: Mapping[str, str]) -> None:
        await self.put(secrets)


class TestJSONReplacedByRename(TestJSON):
    async def put(self, secrets: Mapping[str, str]) -> None:
        beside = self.path.with_suffix(".new")
        private(beside, self.text(secrets))
        beside.rename(self.path)


class TestTOML(TestJSON):
    name = "secrets.toml"

    def text(self, secrets: Mapping[str, str]) -> str:
        return "\n".join(f"{json.dumps(name)} = {quoted(value)}" for name, value in secrets.items())


def quoted(value: str) -> str:
    # TOML knows JSON's escapes, less its surrogate pairs.
    return json.dumps(value, ensure_ascii=False)


class TestDirectory(SecretsContract):
    @pytest.fixture(autouse=True)
    def _surroundings(self, tmp_path: Path) -> None:
        self.path = tmp_path / "mounted"

    async def make(self, secrets: Mapping[str, str]) -> SecretsInstance:
        self.put(secrets)
        source = FileSecretAdapter(FileSecretSettings(path=self.path))
        await source.init()
        return source

    async def change(self, source: SecretsInstance, secrets: Mapping[str, str]) -> None:
        self.put(secrets)

    def put(self, secrets: Mapping[str, str]) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir()
        for secret_id, value in secrets.items():
            private(self.path / secret_id, value)


class TestDirectoryWithLineEnds(TestDirectory):
    def put(self, secrets: Mapping[str, str]) -> None:
        super().put({secret_id: f"{value}\n" for secret_id, value in secrets.items()})


class TestKubernetesVolume(TestDirectory):
    """As the kubelet writes it: a directory per version, a link to it that is renamed, and a link for each name."""

    version = 0

    def put(self, secrets: Mapping[str, str]) -> None:
        self.version += 1
        name = f"..2026_01_02_03_04_05.{self.version}"
        for secret_id, value in secrets.items():
            private(self.path / name / secret_id, value)
        (self.path / "..data_tmp").symlink_to(name)
        (self.path / "..data_tmp").rename(self.path / "..data")
        tops = {secret_id.partition("/")[0] for secret_id in secrets}
        for top in tops:
            if not (self.path / top).is_symlink():
                (self.path / top).symlink_to(f"..data/{top}")
        for link in self.path.iterdir():
            if link.is_symlink() and not link.name.startswith("..") and link.name not in tops:
                link.unlink()
        for old in self.path.glob("..2026*"):
            if old.name != name:
                shutil.rmtree(old)
