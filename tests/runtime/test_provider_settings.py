"""Settings of providers: checked with the provider's own model, and wrong ones named where they were written."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError, field_validator

from oneiric.core import Secret
from oneiric.core.errors import ConfigurationError, LoadError
from oneiric.core.resolution import Candidate
from oneiric.runtime.settings import DomainSettings, ProviderSettings, load_settings
from oneiric.runtime.settings._origin import DEFAULT
from oneiric.runtime.settings._problems import problems_in

CANARY = "S3CR3T-90ce"
STRIPE = {"settings_model": "shop_parts:StripeSettings"}
pytestmark = pytest.mark.usefixtures("shop")

type Offer = Callable[..., Candidate]
type Write = Callable[..., None]


def settings_of(candidate: Candidate, environ: dict[str, str] | None = None, **more: Any) -> Any:
    return ProviderSettings(load_settings("c.yml", environ=environ or {}, **more))(candidate)


def refusal(candidate: Candidate, environ: dict[str, str] | None = None, **more: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        settings_of(candidate, environ, **more)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return caught.value


def section(text: str) -> str:
    return "services:\n  provider_settings:\n    stripe:\n" + "".join(f"      {line}\n" for line in text.splitlines())


def test_settings_are_an_instance_of_the_providers_model(offer: Offer, write: Write, shop: Any) -> None:
    write(c_yml=section("retries: 7\npool: {size: 4}"))
    settings = settings_of(offer("stripe", **STRIPE))
    assert isinstance(settings, shop.StripeSettings)
    assert (settings.retries, settings.pool.size) == (7, 4)


def test_without_configuration_the_models_defaults_count(offer: Offer) -> None:
    assert ProviderSettings()(offer("stripe", **STRIPE)).retries == 3


def test_a_dataclass_is_a_model(offer: Offer, write: Write) -> None:
    write(c_yml="services: {provider_settings: {adyen: {merchant: m, retries: '4'}}}")
    settings = settings_of(offer("adyen", settings_model="shop_parts:AdyenSettings"))
    assert (settings.merchant, settings.retries) == ("m", 4)


@pytest.mark.parametrize("model", ["shop_parts:not_a_class", "shop_parts:Payments"])
def test_what_is_no_model_is_refused(offer: Offer, write: Write, model: str) -> None:
    write(c_yml="")
    assert "neither a pydantic model nor a dataclass" in refusal(offer("stripe", settings_model=model)).message


def test_a_model_that_does_not_exist_is_a_load_error(offer: Offer) -> None:
    with pytest.raises(LoadError, match="StripeSetings"):
        ProviderSettings()(offer("stripe", settings_model="shop_parts:StripeSetings"))


def test_a_provider_without_a_model_has_no_settings(offer: Offer, write: Write) -> None:
    write(c_yml=section("retries: 7"))
    assert settings_of(offer("stripe")) is None


def test_key_and_provider_together_are_more_specific_than_the_provider(offer: Offer, write: Write) -> None:
    write(c_yml="services: {provider_settings: {stripe: {retries: 1}, pay/stripe: {retries: 2}}}")
    assert settings_of(offer("stripe", **STRIPE)).retries == 2
    assert settings_of(offer("stripe", key="refund", **STRIPE)).retries == 1


def test_custom_domains_have_provider_settings_too(offer: Offer, write: Write) -> None:
    write(c_yml="domains:\n  ledger:\n    provider_settings:\n      stripe:\n        retries: 99\n")
    error = refusal(offer("stripe", domain="ledger", **STRIPE))
    assert (error.line, error.key) == (5, "domains.ledger.provider_settings.stripe.retries")


@pytest.mark.parametrize(
    ("text", "key", "line", "says", "hint"),
    [
        ("url: x\nretires: 3", "retires", 5, "is not a setting of StripeSettings", "retries"),
        ("pool:\n  sise: 3", "pool.sise", 5, "is not a setting of StripeSettings", "pool.size"),
        ("retries: 99", "retries", 4, "must be at most 10", None),
        ("retries: many", "retries", 4, "must be a whole number", None),
        ("url: 7", "url", 4, "must be text", "quote it"),
        ("mode: fast", "mode", 4, "must be 'live' or 'test'", None),
        ("pool:\n  size: big", "pool.size", 5, "must be a whole number", None),
        ("pool: 7", "pool", 4, "must be a table of settings", None),
        ("tags: [a, 7]", "tags.1", 4, "must be text", "quote it"),
        ("extra_pools:\n  a: {}\n  b:\n    size: x", "extra_pools.b.size", 7, "must be a whole number", None),
        ("password: [x]", "password", 4, "is refused: must be a string", None),
        ("url: ftp://host", "url", 4, "is refused: must begin with another scheme", None),
        ("retries: 99\nmode: fast", "retries", 4, "(and 1 more: services.provider_settings.stripe.mode)", None),
    ],
)
def test_a_wrong_setting_names_file_line_key_and_what_to_do(
    offer: Offer, write: Write, text: str, key: str, line: int, says: str, hint: str | None
) -> None:
    write(c_yml=section(text))
    error = refusal(offer("stripe", **STRIPE))
    base = "services.provider_settings.stripe"
    assert (error.file, error.line, error.key) == ("c.yml", line, f"{base}.{key}")
    assert says in error.message
    wanted = f"{base}.{hint}" if hint and hint != "quote it" else hint
    assert error.hint == wanted


def test_a_missing_setting_is_named_at_its_provider(offer: Offer, write: Write) -> None:
    write(c_yml="services:\n  provider_settings:\n    other: {}\n    stripe: {}\n")
    error = refusal(offer("stripe", settings_model="shop_parts:Required"))
    assert "is required" in error.message
    assert (error.line, error.key) == (4, "services.provider_settings.stripe.token")


@pytest.mark.parametrize(
    "text",
    [
        f"url: http://user:{CANARY}@host",
        f"retries: {CANARY}",
        f"mode: {CANARY}",
        f"pool: {CANARY}",
        f"tags: {CANARY}",
        f"{CANARY.lower()}: {CANARY}\nurl: http:{CANARY}",
        f"password: {{x: {CANARY}}}",
        f"url: ftp://{CANARY}",
    ],
)
def test_no_value_is_in_an_error(offer: Offer, write: Write, text: str) -> None:
    write(c_yml=section(text))
    assert CANARY not in str(refusal(offer("stripe", **STRIPE)))


class Echo(BaseModel):
    value: str

    @field_validator("value")
    @classmethod
    def refuse(cls, value: str) -> str:
        raise ValueError(f"not good: <{value}>")


@given(value=st.text(min_size=1))
def test_a_validator_that_repeats_the_value_is_not_quoted(value: str) -> None:
    data = {"value": value}
    with pytest.raises(ValidationError) as caught:
        Echo.model_validate(data)
    details = caught.value.errors(include_input=False, include_url=False)
    (error,) = problems_in(details, annotation=Echo, data=data, origin_of=lambda _: DEFAULT)
    assert error.message == "value: is not valid (value_error)"


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("RETRIES", "7", "retries", 7),
        ("PLAIN", "7", "plain", "7"),
        ("TAGS", "a, b", "tags", ["a", "b"]),
        ("TAGS", "a", "tags", ["a"]),
        ("TAGS", '["a,b"]', "tags", ["a,b"]),
        ("TIMEOUT_SECONDS", "null", "timeout_seconds", None),
        ("TIMEOUT_SECONDS", "2.5", "timeout_seconds", 2.5),
        ("PASSWORD", "null", "password", Secret("null")),
        ("PASSWORD", "a,b", "password", Secret("a,b")),
    ],
)
def test_text_from_the_environment_has_the_type_the_providers_model_says(
    offer: Offer, write: Write, variable: str, text: str, field: str, value: object
) -> None:
    write(c_yml="")
    environ = {f"ONEIRIC_SERVICES__PROVIDER_SETTINGS__STRIPE__{variable}": text}
    assert getattr(settings_of(offer("stripe", **STRIPE), environ), field) == value


def test_nested_and_whole_tables_come_from_the_environment(offer: Offer, write: Write) -> None:
    write(c_yml=section("retries: 1"))
    prefix = "ONEIRIC_SERVICES__PROVIDER_SETTINGS__STRIPE"
    environ = {f"{prefix}__POOL__SIZE": "4", f"{prefix}": '{"plain": "x"}'}
    settings = settings_of(offer("stripe", **STRIPE), environ)
    assert (settings.pool.size, settings.plain, settings.retries) == (4, "x", 1)


def test_a_wrong_variable_is_named(offer: Offer, write: Write) -> None:
    write(c_yml="")
    environ = {"ONEIRIC_SERVICES__PROVIDER_SETTINGS__STRIPE__RETRIES": CANARY}
    error = refusal(offer("stripe", **STRIPE), environ)
    assert error.key == "services.provider_settings.stripe.retries"
    assert f"(from environment {next(iter(environ))})" in error.message
    assert CANARY not in str(error)


def test_a_referenced_secret_reaches_secret_and_text_fields(offer: Offer, write: Write) -> None:
    write(c_yml=section("password: ${ONEIRIC_SECRET_A}\nplain: x-${ONEIRIC_SECRET_A}"))
    settings = settings_of(offer("stripe", **STRIPE), {"ONEIRIC_SECRET_A": CANARY})
    assert settings.password == Secret(CANARY)
    assert settings.plain == f"x-{CANARY}"


def test_a_section_from_code_replaces_the_loaded_one(offer: Offer, write: Write) -> None:
    write(c_yml=section("retries: 1"))
    settings = ProviderSettings(load_settings("c.yml", environ={}))
    settings.update("service", DomainSettings(provider_settings={"stripe": {"retries": 2}}))
    assert settings(offer("stripe", **STRIPE)).retries == 2
    settings.update("service", DomainSettings(provider_settings={"stripe": {"retries": 99}}))
    with pytest.raises(ConfigurationError) as caught:
        settings(offer("stripe", **STRIPE))
    assert caught.value.file is None
    settings.reload(load_settings("c.yml", environ={}))
    assert settings(offer("stripe", **STRIPE)).retries == 1


def test_a_reload_keeps_the_sections_it_is_told_to_and_can_be_put_back(offer: Offer, write: Write) -> None:
    write(c_yml=section("retries: 1"))
    stripe, loaded = offer("stripe", **STRIPE), load_settings("c.yml", environ={})
    settings = ProviderSettings(loaded)
    settings.update("service", DomainSettings(provider_settings={"stripe": {"retries": 7}}))
    settings.reload(loaded, keep=["service"])
    assert settings(stripe).retries == 7
    put_back = settings.reload(loaded)
    assert settings(stripe).retries == 1
    put_back()
    assert settings(stripe).retries == 7
