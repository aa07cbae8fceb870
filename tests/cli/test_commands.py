"""What list, explain, status and plugins print: transcripts for people, schemas for programs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.documents import check

GOLDEN = Path(__file__).parent / "golden"


TRANSCRIPTS = {
    "list": ["list", "--domain", "shop"],
    "list-shadowed": ["list", "--domain", "shop", "--shadowed"],
    "list-key": ["list", "--domain", "shop", "--key", "pay", "--shadowed"],
    "explain": ["explain", "pay", "--domain", "shop"],
    "explain-capability": ["explain", "pay", "--capability", "offline"],
    "explain-why-not": ["explain", "pay", "--domain", "shop", "--why-not", "bank"],
    "explain-unresolved": ["explain", "gift", "--domain", "shop"],
    "status": ["status", "--domain", "shop"],
}


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_text_is_the_transcript(name: str, oneiric: Callable[..., Any]) -> None:
    done = oneiric(*TRANSCRIPTS[name])

    assert (done.code, done.err) == (0, "")
    assert done.out == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_json_is_one_document_of_the_published_schema(name: str, oneiric: Callable[..., Any]) -> None:
    done = oneiric(*TRANSCRIPTS[name], "--json")

    document = check(name.partition("-")[0], done.out)
    document.pop("revision", None)  # counts every catalogue on the machine
    assert (done.code, done.err) == (0, "")
    if "keys" in document:
        document["problems"] = []
    assert document == json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.usefixtures("shop")
def test_a_listing_imports_nothing_of_what_it_lists(oneiric: Callable[..., Any]) -> None:
    assert oneiric("list", "--domain", "shop").code == 0  # the package raises when it is imported


@pytest.mark.usefixtures("shop")
def test_a_key_is_found_without_its_domain_and_as_an_option(oneiric: Callable[..., Any]) -> None:
    assert oneiric("explain", "--key", "pay").out == oneiric("explain", "pay", "--domain", "shop").out


@pytest.mark.usefixtures("shop")
def test_every_domain_is_listed_when_none_is_named(oneiric: Callable[..., Any]) -> None:
    domains = {entry["domain"] for entry in json.loads(oneiric("list", "--json").out)["keys"]}

    assert {"adapter", "shop"} <= domains


def test_a_builtin_domain_may_be_empty(oneiric: Callable[..., Any]) -> None:
    assert json.loads(oneiric("list", "--domain", "task", "--json").out)["keys"] == []


def test_the_demo_catalogue_comes_with_demo(oneiric: Callable[..., Any]) -> None:
    def keys(*options: str) -> set[str]:
        listed = json.loads(oneiric("list", "--json", *options).out)["keys"]
        return {f"{entry['domain']}:{entry['key']}" for entry in listed}

    demo = {"service:status", "task:demo-task", "event:demo.event", "workflow:demo-workflow", "action:demo-action"}
    assert demo <= keys("--demo")
    assert not demo & keys()


@pytest.mark.usefixtures("shop")
def test_a_selection_shows_where_it_was_made(oneiric: Callable[..., Any], settings: Callable[[str], str]) -> None:
    path = settings('[domains.shop.selections]\npay = "cash"\n')

    document = check("explain", oneiric("explain", "pay", "--config", path, "--json").out)

    assert (document["selected"], document["why"]) == ("cash", "cash is selected by oneiric.toml:2")


@pytest.mark.usefixtures("shop")
def test_a_tenant_has_its_own_answer(oneiric: Callable[..., Any], settings: Callable[[str], str]) -> None:
    path = settings('[tenants.acme.shop]\npay = "cash"\n')

    assert (
        json.loads(oneiric("explain", "pay", "--config", path, "--tenant", "acme", "--json").out)["selected"] == "cash"
    )
    assert json.loads(oneiric("explain", "pay", "--config", path, "--json").out)["selected"] == "card"


@pytest.mark.usefixtures("shop")
def test_an_unusable_selection_is_unresolved_and_says_why(
    oneiric: Callable[..., Any], settings: Callable[[str], str]
) -> None:
    path = settings('[domains.shop.selections]\npay = "shells"\n')

    (entry,) = check("list", oneiric("list", "--config", path, "--key", "pay", "--json").out)["keys"]
    (status,) = check("status", oneiric("status", "--config", path, "--key", "pay", "--json").out)["keys"]

    assert (entry["state"], entry["provider"]) == ("unresolved", None)
    assert "shells is selected by oneiric.toml:2, and is set aside: needs no-such-till" in entry["why"]
    assert (status["state"], status["configured_provider"]) == ("unresolved", "shells")


@pytest.mark.usefixtures("shop")
def test_status_reports_what_a_lifecycle_left_in_its_store(
    oneiric: Callable[..., Any], settings: Callable[[str], str]
) -> None:
    path = settings('[runtime_paths]\ncache_dir = "store"\n')
    store = Path("store")
    store.mkdir()
    left = {"domain": "shop", "key": "pay", "tenant": None, "state": "ready", "current_provider": "cash"}
    (store / "lifecycle_status.json").write_text(json.dumps([left]))

    document = check("status", oneiric("status", "--config", path, "--key", "pay", "--json").out)

    assert document["running"] is False
    assert document["keys"][0]["lifecycle"] == left
    assert "LAST SERVED" in oneiric("status", "--config", path, "--key", "pay").out


@pytest.mark.usefixtures("shop")
def test_a_broken_store_is_reported_and_the_rest_shown(
    oneiric: Callable[..., Any], settings: Callable[[str], str]
) -> None:
    path = settings('[runtime_paths]\ncache_dir = "store"\n')
    Path("store").mkdir()
    Path("store/lifecycle_status.json").write_text("{")

    done = oneiric("status", "--config", path, "--key", "pay", "--json")

    document = check("status", done.out)
    assert done.code == 0
    assert document["snapshot"]["error"]
    assert document["keys"][0]["provider"] == "card"


def test_priorities_are_the_ones_that_rank(
    shop: Any, oneiric: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEIRIC_STACK_ORDER", "acme_shop:70")

    (entry,) = json.loads(oneiric("list", "--key", "pay", "--json").out)["keys"]

    assert entry["priority"] == 70


@pytest.mark.usefixtures("shop")
def test_plugins_reports_every_catalogue(oneiric: Callable[..., Any]) -> None:
    document = check("plugins", oneiric("plugins", "--json").out)

    (found,) = (each for each in document["catalogs"] if each["name"] == "acme-shop")
    assert (found["package"], found["registered"]) == ("acme_shop", 5)
    assert "acme-shop" in oneiric("plugins").out


def test_a_broken_catalogue_is_a_line_and_the_rest_goes_on(shop: Any, oneiric: Callable[..., Any]) -> None:
    shop.install("bad", "[oneiric.catalogs]\nbad = bad_one\n", {"bad_one/catalog.toml": "schema = [\n"})

    listing, report = oneiric("list", "--domain", "shop"), oneiric("plugins")

    assert (listing.code, report.code) == (0, 0)
    assert listing.out == (GOLDEN / "list.txt").read_text(encoding="utf-8")
    assert listing.err == "note: 1 catalogue or plugin was left out; `oneiric plugins` says why\n"
    assert oneiric("list", "--quiet").err == ""
    assert "catalog bad of bad: " in report.out
    assert "is not TOML" in report.out
    assert oneiric("plugins", "--strict").code == 1
    assert check("plugins", oneiric("plugins", "--json").out)["errors"][0]["name"] == "bad"
    assert check("list", oneiric("list", "--json").out)["problems"][0]["name"] == "bad"


RAISING = "def candidates():\n    raise RuntimeError('no shop today')\n"
EXITING = "import sys\nsys.exit(3)\n"


@pytest.mark.parametrize(("code", "reason"), [(RAISING, "no shop today"), (EXITING, "3")], ids=["raises", "exits"])
def test_a_plugin_that_fails_is_a_line(code: str, reason: str, site: Any, oneiric: Callable[..., Any]) -> None:
    site.install("acme-code", "[oneiric.adapters]\ncode = acme_code:candidates\n", {"acme_code.py": code})

    untouched = check("plugins", oneiric("plugins", "--json").out)
    report = oneiric("plugins", "--load", "--json")

    assert [each["name"] for each in untouched["not_loaded"]] == ["code"]
    assert untouched["errors"] == []
    (error,) = check("plugins", report.out)["errors"]
    assert report.code == 0
    assert error["name"] == "code"
    assert reason in error["reason"]
