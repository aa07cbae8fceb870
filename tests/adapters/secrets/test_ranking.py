"""What the family's catalogue makes of itself: who serves, and why."""

from pathlib import Path

from oneiric.adapters.secrets import SECRETS
from oneiric.adapters.secrets.file import FileSecretSettings
from oneiric.core import Secret
from oneiric.core.catalog import discover
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Policy, Resolver


def test_the_environment_serves_unless_told_otherwise_and_files_wait_to_be_selected() -> None:
    resolver = Resolver(Policy())
    report = discover(resolver)

    assert [error for error in report.errors if "secrets" in str(error)] == []
    assert resolver.resolve(SECRETS).provider == "env"
    assert resolver.resolve(SECRETS, provider="file").provider == "file"
    assert "file" in [row.provider for row in resolver.explain("adapter", "secrets").filtered]


async def test_a_lifecycle_swaps_the_environment_for_a_file(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.touch(mode=0o600)
    path.write_text('{"a": "of the file"}')

    def settings_for(candidate: Candidate, _tenant: str | None) -> FileSecretSettings | None:
        return FileSecretSettings(path=path) if candidate.provider == "file" else None

    resolver = Resolver(Policy())
    discover(resolver)
    async with LifecycleManager(resolver, settings_for=settings_for) as lifecycle:
        async with lifecycle.lease(SECRETS) as secrets:
            assert await secrets.get_secret("a") is None
        await lifecycle.swap(SECRETS, provider="file")
        assert await lifecycle.live(SECRETS).get_secret("a") == Secret("of the file")
