"""What is said about settings: every value in force, all about one of them, and all that is wrong."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneiric.core.errors import ConfigurationError
from oneiric.core.resolution import Candidate
from oneiric.runtime.settings import (
    LoadedSettings,
    ProviderSettings,
    describe,
    explain_setting,
    load_settings,
    problems_of,
    setting_fields,
)
from oneiric.runtime.settings._masking import masked

CANARY = "S3CR3T-53b0"
STRIPE = {"settings_model": "shop_parts:StripeSettings"}
pytestmark = pytest.mark.usefixtures("shop")

type Offer = Callable[..., Candidate]
type Write = Callable[..., None]


def load(path: str | None = "c.yml", environ: dict[str, str] | None = None, **more: Any) -> LoadedSettings:
    return load_settings(path, environ=environ or {}, **more)


def values(loaded: LoadedSettings, **more: Any) -> dict[str, Any]:
    return {row.key: row.value for row in describe(loaded, **more)}


def section(text: str) -> str:
    return "services:\n  provider_settings:\n    stripe:\n" + "".join(f"      {line}\n" for line in text.splitlines())


def test_what_somebody_set_is_shown_with_its_origin(write: Write) -> None:
    write(c_yml="app:\n  allowed_env: [A, B]\nadapters:\n  selections: {cache: redis, secrets: env}\n")
    rows = describe(load(environ={"PORT": "90"}, overrides=["runtime_paths.cache_dir=/x"], profile="serverless"))
    shown = {row.key: (row.value, row.origin) for row in rows}
    assert shown["app.allowed_env"] == (["A", "B"], "c.yml:2")
    assert shown["adapters.selections.cache"] == ("redis", "c.yml:4")
    assert shown["adapters.selections.secrets"] == ("env", "c.yml:4")
    assert shown["http.port"] == (90, "environment PORT")
    assert shown["runtime_paths.cache_dir"] == ("/x", "command line")
    assert shown["profile.watchers_enabled"] == (False, "profile serverless")
    assert "app.name" not in shown
    assert json.loads(json.dumps([row.as_dict() for row in rows]))


def test_nothing_is_shown_of_defaults_unless_asked_for() -> None:
    assert describe(load(None)) == []
    everything = {row.key: row for row in describe(load(None), show_defaults=True)}
    wanted = {field.key for field in setting_fields() if "[]" not in field.key}
    assert set(everything) == wanted
    assert everything["lifecycle.health_seconds"].as_dict() == {
        "key": "lifecycle.health_seconds",
        "value": 5,
        "origin": "default",
    }


def test_texts_of_a_provider_are_shown_where_its_model_says_they_are_no_secret(offer: Offer, write: Write) -> None:
    write(
        c_yml=section(
            f"url: 'https://u:{CANARY}@h/x?token={CANARY}&page=2'\nplain: shown\npassword: {CANARY}\nretries: 3\n"
            "tags: [a]\nextra_pools: {a: {size: 4}}\nunknown: text"
        )
    )
    base = "services.provider_settings.stripe"
    known = values(load(), candidates=[offer("stripe", **STRIPE)])
    assert known == {
        f"{base}.url": "https://***@h/x?token=***&page=2",
        f"{base}.plain": "shown",
        f"{base}.password": "***",
        f"{base}.retries": 3,
        f"{base}.tags": ["a"],
        f"{base}.extra_pools.a.size": 4,
        f"{base}.unknown": "***",
    }
    unknown = values(load())
    assert unknown == known | dict.fromkeys((f"{base}.url", f"{base}.plain"), "***") | {f"{base}.tags": ["***"]}


def test_a_model_that_cannot_be_imported_tells_nothing(offer: Offer, write: Write) -> None:
    write(c_yml=section("plain: text"))
    absent = offer("stripe", settings_model="no_such_module:Settings")
    assert values(load(), candidates=[absent]) == {"services.provider_settings.stripe.plain": "***"}


NAMES = ["password", "p", "api_key", "url", "dsn", "connection_string", "auth", "value", "pem", "account_json"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["{}", "https://user:{}@host/x", "Bearer {}", "a\n{}\nb"])
def test_no_secret_of_a_provider_is_shown_whatever_it_is_called(write: Write, name: str, form: str) -> None:
    canary = f"{CANARY}-{uuid.uuid4()}"
    variable = f"ONEIRIC_ADAPTERS__PROVIDER_SETTINGS__REDIS__{name.upper()}"
    inner = "ONEIRIC_ADAPTERS__PROVIDER_SETTINGS__REDIS__INNER"
    loaded = load(None, {variable: form.format(canary), inner: json.dumps({name: [form.format(canary)]})})
    shown = json.dumps([row.as_dict() for row in describe(loaded, show_defaults=True)])
    keys = ["adapters", "adapters.provider_settings", f"adapters.provider_settings.redis.{name}"]
    shown += json.dumps([explain_setting(loaded, key).as_dict() for key in keys])
    assert canary not in shown


def test_secrets_of_our_own_sections_are_not_shown(write: Write) -> None:
    write(
        c_yml=f"secrets: {{inline: {{db: {CANARY}}}}}\nremote:\n  auth: {{token: {CANARY}, secret_id: x}}\n"
        f"  manifest_url: https://u:{CANARY}@h/m\nhttp: {{auth: {{kind: hmac, hmac_keys: {{a: {CANARY}}}}}}}\n"
        f"adapters: {{options: {{api_key: {CANARY}, queue_category: jobs, pins: {{secret: [12345]}}}}}}\n"
    )
    loaded = load()
    shown = values(loaded)
    assert CANARY not in json.dumps(shown)
    assert shown["remote.auth.secret_id"] == "x"
    assert shown["adapters.options.queue_category"] == "jobs"
    assert shown["adapters.options.pins.secret"] == ["***"]
    for key in ("secrets", "remote", "http", "adapters", "secrets.inline", "secrets.inline.db"):
        assert CANARY not in json.dumps(explain_setting(loaded, key).as_dict())


def test_a_reference_is_shown_without_what_is_around_it(write: Write) -> None:
    write(c_yml=section("password: 'u:${ONEIRIC_SECRET_A}@${secret:db}'"))
    loaded = load(environ={"ONEIRIC_SECRET_A": CANARY})
    assert values(loaded) == {"services.provider_settings.stripe.password": "***${secret:db}"}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_what_is_masked_is_plain_json_and_masking_it_again_changes_nothing(value: Any) -> None:
    once = masked(value)
    assert json.loads(json.dumps(once)) == once
    assert masked(once) == once


def test_a_setting_is_explained(write: Write) -> None:
    write(c_yml="http: {port: 1}\n")
    explained = explain_setting(
        load(environ={"PORT": "2", "ONEIRIC_HTTP__PORT": "3"}, overrides=["http.port=4"]), "http.port"
    )
    assert explained.as_dict() == {
        "key": "http.port",
        "value": 4,
        "origin": "command line",
        "overridden": ("environment ONEIRIC_HTTP__PORT", "environment PORT", "c.yml:1"),
        "default": 8080,
        "description": "Port to bind to, also PORT; 0 takes a free one.",
        "type": "whole number, at least 0, at most 65535",
        "allowed": (),
        "variables": ("ONEIRIC_HTTP__PORT", "PORT"),
        "meant": None,
        "variable": "ONEIRIC_HTTP__PORT",
    }


@pytest.mark.parametrize(
    ("key", "value", "kind", "variable"),
    [
        ("profile.name", "default", "default or serverless", "ONEIRIC_PROFILE__NAME"),
        ("lifecycle.hook_timeout", 5, "number, greater than 0", "ONEIRIC_LIFECYCLE__HOOK_SECONDS"),
        ("adapters.selections.cache", "redis", "text", "ONEIRIC_ADAPTERS__SELECTIONS__CACHE"),
        ("adapters.selections.nobody", None, "text", "ONEIRIC_ADAPTERS__SELECTIONS__NOBODY"),
        ("tasks.selections.reports.nightly", "celery", "text", "ONEIRIC_TASKS__SELECTIONS__REPORTS_NIGHTLY"),
        ("logging.sinks.0.target", "file", "stdout or stderr or file or http", "ONEIRIC_LOGGING__SINKS"),
        ("adapters.provider_settings.redis.port", 7, "anything", "ONEIRIC_ADAPTERS__PROVIDER_SETTINGS__REDIS__PORT"),
        ("domains.ledger.selections.main", "x", "text", "ONEIRIC_DOMAINS__LEDGER__SELECTIONS__MAIN"),
        ("engine", {"name": "local", "max_parallel_nodes": 16, "durability": "group"}, "table", "ONEIRIC_ENGINE"),
        ("tenants.acme", {"adapter": {"cache": "m"}}, "table of table of text", "ONEIRIC_TENANTS__ACME"),
    ],
)
def test_any_setting_can_be_explained(write: Write, key: str, value: object, kind: str, variable: str) -> None:
    write(
        c_yml="adapters:\n  selections: {cache: redis}\n  provider_settings: {redis: {port: 7}}\n"
        "logging: {sinks: [{target: file}]}\ndomains: {ledger: {selections: {main: x}}}\n"
        "tasks: {selections: {reports.nightly: celery}}\ntenants: {acme: {adapter: {cache: m}}}\n"
    )
    explained = explain_setting(load(), key)
    assert (explained.value, explained.type, explained.variable) == (value, kind, variable)
    assert explained.description
    assert json.dumps(explained.as_dict())


def test_values_that_a_field_takes_are_listed() -> None:
    assert explain_setting(load(None), "engine.durability").allowed == ("group", "strict")
    assert explain_setting(load(None), "logging.level").allowed[:2] == ("DEBUG", "INFO")


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("adapter", "adapters"),
        ("http.prot", "http.port"),
        ("htp.port", "http.port"),
        ("htp.auth.kindd", "http.auth.kind"),
        ("adapter.selections.cache", "adapters.selections.cache"),
        ("logging.snks.0.targt", "logging.sinks.0.target"),
        ("app.name.x", "app.name"),
        ("engine.zzz", "one of durability, max_parallel_nodes, name"),
    ],
)
def test_explaining_no_setting_suggests_the_nearest(key: str, hint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        explain_setting(load(None), key)
    assert caught.value.hint == hint
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("adapters.selections.cach", "adapters.selections.cache"),
        ("adapters.selections.queu", "adapters.selections.queue"),
        ("tasks.selections.reports.nightl", "tasks.selections.reports.nightly"),
        ("adapters.provider_settings.redi.port", "adapters.provider_settings.redis.port"),
        ("adapters.provider_settings.memry.size", "adapters.provider_settings.memory.size"),
        ("domains.ledgr.selections.man", "domains.ledger.selections.main"),
        ("tenants.acm.adaptr.cash", "tenants.acme.adapter.cache"),
        ("adapters.selections.cache", None),
        ("adapters.selections.queue", None),
        ("adapters.selections.something-else", None),
        ("logging.sinks.3", None),
    ],
)
def test_a_name_that_nobody_sets_or_offers_is_told_what_it_may_have_been_meant_to_be(
    write: Write, key: str, meant: str | None
) -> None:
    write(
        c_yml="adapters:\n  selections: {cache: redis}\n  provider_settings: {redis: {port: 7}}\n"
        "domains: {ledger: {selections: {main: x}}}\n"
        "tasks: {selections: {reports.nightly: celery}}\ntenants: {acme: {adapter: {cache: m}}}\n"
    )
    offered = [Candidate(domain="adapter", key=key, provider="memory", factory=dict) for key in ("queue", "cache")]
    assert explain_setting(load(), key, candidates=offered).meant == meant


def test_what_the_model_of_a_provider_does_not_have_is_no_setting(write: Write) -> None:
    write(c_yml="adapters: {provider_settings: {mem: {port: 7}}}\n")
    offered = [
        Candidate(
            domain="adapter",
            key="cache",
            provider="mem",
            factory=dict,
            settings_model="oneiric.runtime.settings:HttpSettings",
        )
    ]
    assert explain_setting(load(), "adapters.provider_settings.mem.host", candidates=offered).meant is None
    for wrong, right in (("prt", "port"), ("auth.knd", "auth.kind")):
        with pytest.raises(ConfigurationError) as caught:
            explain_setting(load(), f"adapters.provider_settings.mem.{wrong}", candidates=offered)
        assert caught.value.hint == f"adapters.provider_settings.mem.{right}"


def test_every_field_can_be_explained() -> None:
    loaded = load(None)
    for field in setting_fields():
        if "[]" not in field.key:
            explained = explain_setting(loaded, field.key)
            assert (explained.default, explained.type) == (field.default, field.type)
            assert explained.value == explained.default or field.key == "logging.sinks"


def found(loaded: LoadedSettings, *candidates: Candidate) -> list[tuple[str | None, int | None, str, str | None]]:
    problems = problems_of(loaded, candidates, ProviderSettings(loaded))
    return [(problem.key, problem.line, problem.message, problem.hint) for problem in problems]


def test_settings_that_fit_what_is_on_offer_have_no_problems(offer: Offer, write: Write) -> None:
    write(c_yml="services:\n  selections: {pay: stripe}\n  provider_settings: {stripe: {password: '${secret:x}'}}\n")
    assert found(load(), offer("stripe", **STRIPE), offer("adyen", settings_model="shop_parts:Required")) == []


def test_selections_of_what_nobody_offers_are_found_with_the_nearest(offer: Offer, write: Write) -> None:
    write(
        c_yml="services:\n  selections:\n    pay: strpe\n    pai: stripe\n"
        "tenants:\n  acme:\n    service:\n      pay: x\nsecrets:\n  provider: vault\n"
    )
    problems = {key: (line, message, hint) for key, line, message, hint in found(load(), offer("stripe"), offer("b"))}
    assert problems["services.selections.pay"][0] == 3
    assert "selects 'strpe', which nobody offers for service:pay" in problems["services.selections.pay"][1]
    assert problems["services.selections.pay"][2] == "stripe"
    assert "service:pai, which nobody offers" in problems["services.selections.pai"][1]
    assert problems["services.selections.pai"][2] == "pay"
    assert problems["tenants.acme.service.pay"] == (
        8,
        "c.yml:8: tenants.acme.service.pay: selects 'x', which nobody offers for service:pay",
        "one of b, stripe",
    )
    assert "adapter:secrets, which nobody offers" in problems["secrets.provider"][1]
    assert len(problems) == 4


def test_a_remote_manifest_may_still_bring_what_nobody_offers(write: Write) -> None:
    write(c_yml="remote: {enabled: true}\nservices:\n  selections: {pay: x}\n  provider_settings: {y: {}}\n")
    assert found(load()) == []


def test_settings_of_a_provider_nobody_offers_are_found(offer: Offer, write: Write) -> None:
    write(
        c_yml="services:\n  provider_settings:\n    stripe: {}\n    pay/stripe: {}\n    stipe: {}\n    pya/stripe: {}\n"
    )
    problems = found(load(), offer("stripe"))
    base = "services.provider_settings"
    assert [(key, line, hint) for key, line, _, hint in problems] == [
        (f"{base}.stipe", 5, "stripe"),
        (f"{base}.pya/stripe", 6, "pay/stripe"),
    ]


def test_all_settings_that_a_model_refuses_are_found_and_no_value_is_told(offer: Offer, write: Write) -> None:
    write(c_yml=section(f"retries: {CANARY}\nmode: {CANARY}\nnothing: {CANARY}\npassword: ${{secret:a}}"))
    problems = found(load(), offer("stripe", **STRIPE), offer("stripe", key="refund", **STRIPE))
    base = "services.provider_settings.stripe"
    assert {key for key, *_ in problems} == {f"{base}.retries", f"{base}.mode", f"{base}.nothing"}
    assert len(problems) == 3  # two keys share the provider, and each problem is told once
    assert CANARY not in str(problems)


def test_a_selected_provider_that_lacks_a_required_setting_is_found(offer: Offer, write: Write) -> None:
    write(c_yml="services: {selections: {pay: vault}}\n")
    vault = offer("vault", settings_model="shop_parts:Required")
    assert [key for key, *_ in found(load(), vault)] == ["services.provider_settings.vault.token"]


def test_a_model_that_cannot_be_imported_matters_only_where_it_is_selected(offer: Offer, write: Write) -> None:
    write(c_yml="services:\n  selections: {pay: a}\n  provider_settings: {a: {x: 1}, b: {x: 1}}\n")
    problems = found(load(), *(offer(name, settings_model="no_such_module:Settings") for name in "ab"))
    assert [(key, line) for key, line, *_ in problems] == [("services.selections.pay", 2)]
    assert "cannot be checked" in problems[0][2]


def test_a_malformed_stack_order_is_found() -> None:
    problems = found(load(None, {"ONEIRIC_STACK_ORDER": "a:x"}))
    assert ["ONEIRIC_STACK_ORDER" in message for _, _, message, _ in problems] == [True]


@pytest.mark.parametrize(
    ("host", "is_refused"),
    [("127.0.0.1", False), ("::1", False), ("[::1]", False), ("localhost", False), ("127.9.9.9", False),
     ("192.0.2.1", True), ("::", True), ("10.0.0.1", True), ("example.org", True)],
)  # fmt: skip
def test_an_address_that_others_can_reach_needs_authentication(host: str, is_refused: bool) -> None:
    override = f"http.host={host}"
    assert [key for key, *_ in found(load(None, overrides=[override]))] == ["http.host"] * is_refused
    with_keys = [override, "http.auth.kind=hmac", 'http.auth.hmac_keys={"a": "x"}']
    assert found(load(None, overrides=with_keys)) == []
    assert found(load(None, overrides=[override, "http.enabled=false"])) == []


def test_a_model_that_fails_by_itself_is_a_problem_without_the_value(offer: Offer, write: Write, shop: Any) -> None:
    class Failing(shop.Pool):  # type: ignore[misc]
        def model_post_init(self, _context: object) -> None:
            raise RuntimeError(CANARY)

    shop.Failing = Failing
    write(c_yml="services: {provider_settings: {a: {size: 1}, b: {size: '${secret:n}'}}}\n")
    problems = found(load(), *(offer(name, settings_model="shop_parts:Failing") for name in "ab"))
    assert [key for key, *_ in problems] == ["services.provider_settings.a"]
    assert "Failing raised RuntimeError" in problems[0][2]
    assert CANARY not in str(problems)


def test_a_default_beside_a_configured_setting_is_still_a_default(write: Write) -> None:
    write(c_yml="http: {port: 1}\n")
    rows = {row.key: row.origin for row in describe(load(), show_defaults=True)}
    assert (rows["http.port"], rows["http.host"]) == ("c.yml:1", "default")
