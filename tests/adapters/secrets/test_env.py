"""The environment as a source: which variable an id is, and what is required of it."""

import pytest
from pydantic import ValidationError

from oneiric.adapters.secrets.env import EnvSecretAdapter, EnvSecretSettings
from oneiric.core import Secret
from oneiric.core.errors import InactiveError, RejectedError, SecretNotFoundError


async def opened(environ: dict[str, str], **settings: object) -> EnvSecretAdapter:
    source = EnvSecretAdapter(EnvSecretSettings.model_validate(settings), environ=environ)
    await source.init()
    return source


async def test_an_id_is_the_variable_of_its_name_in_upper_case_behind_the_prefix() -> None:
    source = await opened({"ONEIRIC_SECRET_DB_PASSWORD": "pw"})

    for secret_id in ("db/password", "db-password", "db.password", "DB_PASSWORD", "db_password", "Db:Password"):
        assert await source.get_secret(secret_id) == Secret("pw")


async def test_case_is_kept_where_it_is_asked_for() -> None:
    source = await opened({"APP_db_Password": "pw", "APP_OTHER": "x"}, prefix="APP_", uppercase_keys=False)

    assert await source.get_secret("db/Password") == Secret("pw")
    assert await source.get_secret("db/password") is None
    assert await source.list_secrets() == ("OTHER", "db_Password")


async def test_only_variables_that_an_id_leads_to_are_listed() -> None:
    environ = {
        "ONEIRIC_SECRET_A": "1", "ONEIRIC_SECRET_b": "2", "ONEIRIC_SECRET_": "3", "ONEIRIC_SECRET_C": "",
        "ONEIRIC_SECRETS_D": "5", "PATH": "6", "ONEIRIC_SECRET_E F": "7",
    }  # fmt: skip
    source = await opened(environ)

    assert await source.list_secrets() == ("a",)


async def test_without_the_prefix_nothing_of_the_environment_can_be_read() -> None:
    source = await opened({"PATH": "bin", "HOME": "home"})

    for secret_id in ("PATH", "HOME", "path"):
        assert await source.get_secret(secret_id) is None
    with pytest.raises(ValidationError):
        EnvSecretSettings(prefix="")


async def test_a_required_secret_that_is_missing_fails_the_start_by_name() -> None:
    source = EnvSecretAdapter(
        EnvSecretSettings(required_keys=("db/password", "token", "there")), environ={"ONEIRIC_SECRET_THERE": "canary"}
    )

    with pytest.raises(SecretNotFoundError, match="ONEIRIC_SECRET_DB_PASSWORD, ONEIRIC_SECRET_TOKEN") as failed:
        await source.init()
    assert "canary" not in str(failed.value)


async def test_health_follows_the_required_secrets() -> None:
    environ = {"ONEIRIC_SECRET_TOKEN": "x"}
    source = await opened(environ, required_keys=["token"])

    assert await source.health() is True
    environ.clear()
    assert await source.health() is False


async def test_one_that_was_never_opened_says_so() -> None:
    source = EnvSecretAdapter(environ={})

    with pytest.raises(InactiveError, match="not initialised"):
        await source.get_secret("a")


async def test_a_value_given_for_an_id_is_not_repeated_by_the_refusal() -> None:
    source = await opened({})

    with pytest.raises(RejectedError) as refused:
        await source.get_secret("hunter2 is my password")
    assert "hunter2" not in str(refused.value)
