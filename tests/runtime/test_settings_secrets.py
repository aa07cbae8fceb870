"""``${secret:ID}``: where it may stand, what it becomes, and that nothing of it shows."""

import asyncio
import copy
import pickle
from collections.abc import Callable
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import model_validator

from oneiric.core import Secret
from oneiric.core.errors import AdapterError, ConfigurationError, SecretNotFoundError, UnavailableError
from oneiric.core.lifecycle import LifecycleManager
from oneiric.core.resolution import Candidate, Resolver
from oneiric.runtime.settings import (
    LoadedSettings,
    ProviderSettings,
    SecretTemplate,
    load_settings,
    resolve_secrets,
    secret_ids_of,
)

CANARY = "S3CR3T-42af"
STRIPE = {"settings_model": "shop_parts:StripeSettings"}
pytestmark = pytest.mark.usefixtures("shop")

type Offer = Callable[..., Candidate]
type Write = Callable[..., None]


class Vault:
    """Secrets in a dictionary; a secret that is an exception is raised."""

    def __init__(self, **secrets: str | Exception) -> None:
        self.secrets = secrets
        self.asked: list[str] = []

    async def get(self, id_: str, /) -> Secret:
        self.asked.append(id_)
        await asyncio.sleep(0)
        found = self.secrets.get(id_)
        if isinstance(found, Exception):
            raise found
        if found is None:
            raise SecretNotFoundError(f"no secret {id_!r}", "store it")
        return Secret(found)


def load(environ: dict[str, str] | None = None, **more: Any) -> LoadedSettings:
    return load_settings("c.yml", environ=environ or {}, **more)


def section(text: str) -> str:
    return "services:\n  provider_settings:\n    stripe:\n" + "".join(f"      {line}\n" for line in text.splitlines())


def test_settings_without_secrets_are_there_at_once(offer: Offer, write: Write) -> None:
    write(c_yml=section("retries: 7"))
    assert ProviderSettings(load(), secrets=Vault())(offer("stripe", **STRIPE)).retries == 7


async def test_a_secret_field_gets_a_secret_and_a_text_field_the_text(offer: Offer, write: Write) -> None:
    write(
        c_yml=section(
            "password: ${secret:db}\nplain: 'u:${secret:db}@${secret:host}'\ntags: ['${secret:host}', x]\n"
            "retries: ${secret:count}\npool: {size: '${secret:count}'}\n"
        )
    )
    vault = Vault(db=CANARY, host="h", count="4")
    settings = await ProviderSettings(load(), secrets=vault)(offer("stripe", **STRIPE))
    assert settings.password == Secret(CANARY)
    assert type(settings.password) is Secret
    assert settings.plain == f"u:{CANARY}@h"
    assert settings.tags == ["h", "x"]
    assert (settings.retries, settings.pool.size) == (4, 4)
    assert sorted(vault.asked) == ["count", "db", "host"]  # each once


async def test_a_secret_is_fetched_each_time_the_settings_are_asked_for(offer: Offer, write: Write) -> None:
    write(c_yml=section("password: ${secret:db}"))
    vault = Vault(db="old")
    settings = ProviderSettings(load())
    settings.secrets = vault
    assert (await settings(offer("stripe", **STRIPE))).password.reveal() == "old"
    vault.secrets["db"] = "new"
    assert (await settings(offer("stripe", **STRIPE))).password.reveal() == "new"


async def test_a_fetched_secret_is_never_read_as_a_reference(offer: Offer, write: Write) -> None:
    write(c_yml=section("plain: '${secret:a} ${ONEIRIC_SECRET_B} $${secret:c}'"))
    vault = Vault(a="${secret:b} $${x}")
    settings = await ProviderSettings(load({"ONEIRIC_SECRET_B": "${secret:d}$"}), secrets=vault)(
        offer("stripe", **STRIPE)
    )
    assert settings.plain == "${secret:b} $${x} ${secret:d}$ ${secret:c}"


async def test_a_missing_secret_names_file_line_and_key(offer: Offer, write: Write) -> None:
    write(c_yml=section("retries: 1\nplain: ${secret:a}\npassword: ${secret:absent}"))
    pending = ProviderSettings(load(), secrets=Vault(a=CANARY))(offer("stripe", **STRIPE))
    with pytest.raises(SecretNotFoundError) as caught:
        await pending
    error = caught.value
    assert (error.file, error.line, error.key) == ("c.yml", 6, "services.provider_settings.stripe.password")
    assert "refers to ${secret:absent}, which does not exist" in error.message
    assert error.hint == "store it"
    assert CANARY not in str(error)


async def test_without_anywhere_to_fetch_from_a_reference_is_refused_in_its_place(offer: Offer, write: Write) -> None:
    write(c_yml=section("password: ${secret:db}"))
    pending = ProviderSettings(load())(offer("stripe", **STRIPE))
    with pytest.raises(SecretNotFoundError, match=r"c\.yml:4: .*password: .*nothing to fetch secrets from"):
        await pending


async def test_a_reference_from_the_environment_is_named_by_its_variable(offer: Offer, write: Write) -> None:
    write(c_yml="")
    variable = "ONEIRIC_SERVICES__PROVIDER_SETTINGS__STRIPE__PASSWORD"
    settings = ProviderSettings(load({variable: "${secret:db}"}), secrets=Vault())
    pending = settings(offer("stripe", **STRIPE))
    with pytest.raises(SecretNotFoundError, match=f"from environment {variable}"):
        await pending


async def test_a_source_that_cannot_answer_keeps_its_error_and_says_for_what(offer: Offer, write: Write) -> None:
    write(c_yml=section("password: ${secret:db}"))
    failure = UnavailableError("vault is sealed")
    pending = ProviderSettings(load(), secrets=Vault(db=failure))(offer("stripe", **STRIPE))
    with pytest.raises(AdapterError) as caught:
        await pending
    assert caught.value is failure
    assert "services.provider_settings.stripe.password (c.yml:4)" in caught.value.__notes__[0]


async def test_a_fetched_value_that_the_model_refuses_is_not_in_the_error(offer: Offer, write: Write) -> None:
    write(c_yml=section("url: ${secret:url}\nretries: ${secret:n}"))
    vault = Vault(url=f"http://{CANARY}", n=CANARY)
    pending = ProviderSettings(load(), secrets=vault)(offer("stripe", **STRIPE))
    with pytest.raises(ConfigurationError) as caught:
        await pending
    assert caught.value.line == 4
    assert CANARY not in str(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


async def test_the_lifecycle_hands_the_fetched_settings_to_the_factory(offer: Offer, write: Write) -> None:
    write(c_yml=section("password: ${secret:db}"))
    resolver = Resolver()
    resolver.register(offer("stripe", **STRIPE))
    settings_for = ProviderSettings(load(), secrets=Vault(db=CANARY))
    async with LifecycleManager(resolver, settings_for=settings_for) as lifecycle:
        instance = await lifecycle.activate("service", "pay")
        assert instance.settings.password.reveal() == CANARY


async def test_what_fetches_secrets_cannot_ask_itself_for_one(offer: Offer, write: Write) -> None:
    write(c_yml="adapters:\n  provider_settings:\n    vault:\n      password: ${secret:token}\n")
    settings = ProviderSettings(load(), secrets=Vault(token="x"))
    vault = offer("vault", domain="adapter", key="secrets", **STRIPE)
    with pytest.raises(ConfigurationError, match="is a setting of what secrets are fetched from") as caught:
        settings.check(vault)
    assert (caught.value.line, caught.value.key) == (4, "adapters.provider_settings.vault.password")
    with pytest.raises(ConfigurationError, match="is a setting of what secrets are fetched from") as caught:
        await settings(vault)
    assert caught.value.key == "adapters.provider_settings.vault.password"


def test_ids_and_raw_settings_are_told_without_fetching(offer: Offer, write: Write) -> None:
    write(c_yml=section("password: ${secret:db}\nplain: '${secret:a/b#c}${secret:db}'\nretries: 2"))
    settings = ProviderSettings(load())
    stripe = offer("stripe", **STRIPE)
    assert settings.secret_ids(stripe) == {"db", "a/b#c"}
    assert settings.secret_ids(offer("other")) == frozenset()
    raw = settings.raw(stripe)
    assert raw["retries"] == 2
    assert raw["password"] == SecretTemplate(["", ""], ["db"])
    assert dict(settings.raw(offer("other"))) == {}


def test_settings_are_checked_without_fetching(offer: Offer, write: Write) -> None:
    write(c_yml=section("password: ${secret:db}\nretries: ${secret:n}\nurl: ${secret:u}\npool: {size: '${secret:n}'}"))
    ProviderSettings(load()).check(offer("stripe", **STRIPE))
    assert ProviderSettings(load()).problems(offer("stripe", **STRIPE)) == []


def test_a_check_still_finds_what_has_nothing_to_do_with_secrets(offer: Offer, write: Write) -> None:
    write(c_yml=section("password: ${secret:db}\nretries: 99\nmode: fast\nnothing: ${secret:x}\npool: {sise: 1}"))
    settings = ProviderSettings(load())
    problems = settings.problems(offer("stripe", **STRIPE))
    base = "services.provider_settings.stripe"
    wanted = {f"{base}.{name}" for name in ("retries", "mode", "nothing", "pool.sise")}
    assert {problem.key for problem in problems} == wanted
    with pytest.raises(ConfigurationError, match=r"\(and 3 more: "):
        settings.check(offer("stripe", **STRIPE))


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("http.auth.hmac_keys", "http: {auth: {kind: hmac, hmac_keys: {a: '${secret:h}', b: plain}}}"),
        ("remote.auth.token", "remote: {auth: {token: 'Bearer ${secret:h}'}}"),
    ],
)
async def test_secrets_outside_of_providers_are_fetched_a_section_at_a_time(
    write: Write, where: str, text: str
) -> None:
    write(c_yml=text)
    loaded = load()
    assert secret_ids_of(loaded) == {"h"}
    name = where.partition(".")[0]
    before = getattr(loaded.settings, name)
    after = await resolve_secrets(loaded, before, Vault(h=CANARY))
    held = after.auth.hmac_keys["a"] if name == "http" else after.auth.token
    assert held.reveal().endswith(CANARY)
    assert type(after) is type(before)
    assert after is not before
    with pytest.raises(SecretNotFoundError) as caught:
        await resolve_secrets(loaded, before, Vault())
    assert (caught.value.line, (caught.value.key or "").startswith(where)) == (1, True)
    untouched = loaded.settings.logging
    assert await resolve_secrets(loaded, untouched, None) is untouched


def test_the_id_of_a_header_is_one_of_the_ids_in_use(write: Write) -> None:
    write(c_yml="remote: {auth: {secret_id: token}}\n" + section("password: ${secret:db}"))
    assert secret_ids_of(load()) == {"token", "db"}


@pytest.mark.parametrize(
    ("text", "says", "key"),
    [
        ("secrets: {inline: {a: '${secret:b}'}}", "does not take", "secrets.inline.a"),
        ("adapters: {selections: {cache: '${secret:b}'}}", "does not take", "adapters.selections.cache"),
        ("adapters: {options: {a: '${secret:b}'}}", "does not take", "adapters.options.a"),
        ("services: {provider_settings: {a: {b: '${secret:}'}}}", "malformed ${secret:…}", None),
        ("services: {provider_settings: {a: {b: '${secret:x y}'}}}", "malformed ${secret:…}", None),
        ("services: {provider_settings: {a: {b: '${secret:${x}}'}}}", "malformed ${secret:…}", None),
        ("services: {provider_settings: {a: {b: '${secret:x'}}}", "malformed ${secret:…}", None),
    ],
)
def test_a_reference_to_a_secret_is_refused_where_none_is_taken(
    write: Write, text: str, says: str, key: str | None
) -> None:
    write(c_yml=text)
    with pytest.raises(ConfigurationError) as caught:
        load()
    assert says in caught.value.message
    assert caught.value.key == (key or "services.provider_settings.a.b")


def test_an_escaped_reference_is_text_in_every_source(write: Write) -> None:
    write(c_yml=section("plain: '$${secret:db}'"))
    variable = "ONEIRIC_SERVICES__PROVIDER_SETTINGS__ADYEN__PLAIN"
    loaded = load({variable: "a$${secret:db}b$${c}"})
    assert loaded.settings.services.provider_settings["stripe"]["plain"] == "${secret:db}"
    # A password may hold any character: outside the files only references to secrets mean something.
    assert loaded.settings.services.provider_settings["adyen"]["plain"] == "a${secret:db}b$${c}"


def test_nothing_of_a_template_shows(write: Write) -> None:
    write(c_yml=section("plain: 'u:${ONEIRIC_SECRET_A}@${secret:host}/x'"))
    loaded = load({"ONEIRIC_SECRET_A": CANARY})
    template = loaded.settings.services.provider_settings["stripe"]["plain"]
    assert repr(template) == "SecretTemplate('***${secret:host}***')"
    assert (str(template), f"{template}") == ("***", "***")
    shown = repr(loaded) + repr(loaded.settings.services.provider_settings) + str(loaded.settings.model_dump())
    assert CANARY not in shown
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(template)
    with pytest.raises(ConfigurationError, match="was used before it was fetched"):
        template.reveal()
    assert copy.deepcopy(template) is template


def test_templates_are_equal_when_they_would_render_alike() -> None:
    template = SecretTemplate(["a", "b"], ["x"])
    assert template == SecretTemplate(("a", "b"), ("x",))
    assert template != SecretTemplate(["a", "c"], ["x"])
    assert template != SecretTemplate(["a", "b"], ["y"])
    assert template != Secret(repr((("a", "b"), ("x",))))
    assert Secret("x") != template
    assert hash(template) == hash(SecretTemplate(["a", "b"], ["x"]))
    with pytest.raises(ValueError, match="one literal more"):
        SecretTemplate(["a"], ["x"])


@given(parts=st.lists(st.tuples(st.sampled_from("abc"), st.text(max_size=5)), max_size=6), first=st.text(max_size=5))
def test_rendering_puts_each_secret_in_its_place(parts: list[tuple[str, str]], first: str) -> None:
    secrets = {"a": Secret("${secret:b}"), "b": Secret(""), "c": Secret("cc")}
    template = SecretTemplate([first, *(text for _, text in parts)], [id_ for id_, _ in parts])
    wanted = first + "".join(secrets[id_].reveal() + text for id_, text in parts)
    assert template.render(secrets).reveal() == wanted
    assert set(template.ids) == {id_ for id_, _ in parts}


def test_a_secret_that_is_not_given_is_named() -> None:
    template = SecretTemplate(["", ""], ["db"])
    with pytest.raises(SecretNotFoundError, match="there is no secret 'db'"):
        template.render({})


async def test_the_first_setting_that_refers_to_a_missing_secret_is_named(offer: Offer, write: Write) -> None:
    write(c_yml=section("url: ${secret:a}\nplain: ${secret:a}"))
    pending = ProviderSettings(load(), secrets=Vault())(offer("stripe", **STRIPE))
    with pytest.raises(SecretNotFoundError) as caught:
        await pending
    assert (caught.value.line, caught.value.key) == (4, "services.provider_settings.stripe.url")


def test_a_rule_over_several_settings_is_not_held_against_a_secret_that_is_not_there(
    offer: Offer, write: Write, shop: Any
) -> None:
    class Paired(shop.Pool):  # type: ignore[misc]
        user: str
        password: Secret

        @model_validator(mode="after")
        def differ(self) -> Self:
            if len(self.password.reveal()) < 20:
                raise ValueError("must be long")
            return self

    shop.Paired = Paired
    write(
        c_yml=section("user: zq\npassword: ${secret:p}").replace("stripe", "a") + "    b: {user: zq, password: short}\n"
    )
    settings = ProviderSettings(load())
    assert settings.problems(offer("a", settings_model="shop_parts:Paired")) == []
    (problem,) = settings.problems(offer("b", settings_model="shop_parts:Paired"))
    assert "is refused: must be long" in problem.message
