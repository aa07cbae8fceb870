"""Plugins written as code: loaded under guard; whatever one does, the others are registered and the process goes on."""

import sys
from typing import Any

import pytest

from oneiric.core.catalog import DiscoveryReport, discover
from oneiric.core.resolution import CandidateSource, Policy, Resolver

#: The builder of conftest.py; test directories are not packages, so its class has no name to import.
type Site = Any

ADAPTERS = "oneiric.adapters"

GOOD = """
from oneiric.core.catalog import ActionMetadata, AdapterMetadata
from oneiric.core.resolution import Candidate

def candidate(): return Candidate(domain="service", key="pay", provider="stripe", factory="acme_good:make")
def adapter(): return AdapterMetadata(category="cache", provider="acme", factory="acme_good:make")
def action(): return ActionMetadata(key="encode", provider="acme", factory="acme_good:make")
def nested(): return [adapter(), (action(), [candidate()]), None]
def generated(): yield from nested()
def nothing(): return None
def empty(): return []
"""


def discovered(deadline_seconds: float = 10.0) -> tuple[Resolver, DiscoveryReport]:
    resolver = Resolver(Policy())
    return resolver, discover(resolver, plugins=True, deadline_seconds=deadline_seconds)


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ("candidate", {"service:pay/stripe"}),
        ("adapter", {"adapter:cache/acme"}),
        ("action", {"action:encode/acme"}),
        ("nested", {"service:pay/stripe", "adapter:cache/acme", "action:encode/acme"}),
        ("generated", {"service:pay/stripe", "adapter:cache/acme", "action:encode/acme"}),
        ("nothing", set()),
        ("empty", set()),
    ],
)
def test_a_plugin_returns_candidates_metadata_or_nested_iterables(
    site: Site, attribute: str, expected: set[str]
) -> None:
    site.module("acme_good", GOOD)
    site.distribution("acme-plugin", {ADAPTERS: {"acme": f"acme_good:{attribute}"}})
    resolver, report = discovered()
    assert report.errors == ()
    assert {str(each) for each in resolver.candidates()} == expected
    assert {each.source for each in resolver.candidates()} <= {CandidateSource.ENTRY_POINT}
    assert {each.origin for each in resolver.candidates()} <= {"acme-plugin"}
    assert report.as_dict()["plugins"] == [
        {
            "group": ADAPTERS,
            "name": "acme",
            "distribution": "acme-plugin",
            "value": f"acme_good:{attribute}",
            "registered": len(expected),
        }
    ]
    assert report.registered == len(expected)


@pytest.mark.parametrize("group", ["adapters", "services", "tasks", "events", "workflows", "actions"])
def test_every_domain_has_a_group(site: Site, group: str) -> None:
    site.module("acme_good", GOOD)
    site.distribution("acme-plugin", {f"oneiric.{group}": {"acme": "acme_good:candidate"}})
    assert discovered()[1].registered == 1


def test_plugins_are_not_loaded_unless_asked_for(site: Site) -> None:
    site.module("acme_loud", "raise SystemExit(1)")
    site.distribution("acme-plugin", {ADAPTERS: {"acme": "acme_loud:x"}})
    assert discover(Resolver(Policy())) == DiscoveryReport()
    assert "acme_loud" not in sys.modules


IMPORT = "import oneiric.core.catalog as c\n"
BROKEN = {
    "raises": ("raise ValueError('boom')", "ValueError: boom"),
    "exits": ("import sys; sys.exit(3)", "sys.exit(3)"),
    "exits_in_call": ("import sys\ndef x(): sys.exit(4)", "sys.exit(4)"),
    "recurses": ("def f(): f()\nf()", "RecursionError"),
    "recurses_in_call": ("def x(): x()", "RecursionError"),
    "interrupts": ("def x(): raise KeyboardInterrupt", "KeyboardInterrupt"),
    "needs_absent": ("import no_such_sdk", "no_such_sdk"),
    "lacks": ("y = 1", "has no attribute 'x'"),
    "not_callable": ("x = 3", "is int, not a callable"),
    "wants_arguments": ("def x(a): pass", "TypeError"),
    "text": ("def x(): return 'redis'", "offers str"),
    "mapping": ("def x(): return {}", "offers dict"),
    "number": ("def x(): return [3]", "offers int"),
    "self_nested": ("def x():\n    a = []\n    a.append(a)\n    return a", "nests its candidates"),
    "offers_nothing_for_ever": ("def x():\n    while True: yield None", "offers more than 100000 things"),
    "lone_generator_raises": ("def x():\n    yield 1/0", "ZeroDivisionError"),
    "wrong": (
        f"{IMPORT}def x(): return c.AdapterMetadata(category='a/b', provider='p', factory='m:f')",
        "'key'",
    ),
    "twice": (
        f"{IMPORT}def x(): return [c.AdapterMetadata(category='a', provider='p', factory='m:f')] * 2",
        "stated twice",
    ),
}


def test_whatever_a_plugin_does_is_a_line_in_the_report(site: Site) -> None:
    site.module("acme_good", GOOD)
    for name, (code, _) in BROKEN.items():
        site.module(f"acme_{name}", code)
    points = {name: f"acme_{name}:x" for name in BROKEN}
    odd = {"absent": "acme_nowhere:x", "blocked": "os:getcwd", "malformed": "acme_good"}
    site.distribution("acme-plugin", {ADAPTERS: {**points, **odd, "zz_good": "acme_good:nested"}})
    resolver, report = discovered()
    assert len(resolver.candidates()) == 3
    assert [each.name for each in report.plugins] == ["zz_good"]
    reasons = {each.name: each.reason for each in report.errors}
    assert set(reasons) == {*BROKEN, *odd}
    assert {name: reasons[name] for name, (_, said) in BROKEN.items() if said not in reasons[name]} == {}
    assert "no module 'acme_nowhere'" in reasons["absent"]
    assert "no factory may come from" in reasons["blocked"]
    assert "module:attr" in reasons["malformed"]
    assert {each.kind for each in report.errors} == {"plugin"}


@pytest.mark.parametrize(
    "code",
    [
        "import threading; threading.Event().wait()",
        "import threading\ndef x(): threading.Event().wait()",
    ],
)
def test_a_plugin_that_hangs_is_left_behind_at_its_deadline(site: Site, code: str) -> None:
    site.module("acme_good", GOOD)
    site.module("acme_hangs", code)
    site.distribution("acme-plugin", {ADAPTERS: {"a_hangs": "acme_hangs:x", "b_good": "acme_good:candidate"}})
    resolver, report = discovered(deadline_seconds=1.0)
    assert [each.provider for each in resolver.candidates()] == ["stripe"]
    assert [(each.name, each.reason) for each in report.errors] == [
        ("a_hangs", "loading 'acme_hangs:x' took longer than its deadline of 1 s")
    ]


def test_a_plugin_name_claimed_by_two_distributions_is_loaded_for_neither(site: Site) -> None:
    site.module("acme_good", GOOD)
    site.module("acme_evil", "raise SystemExit('loaded')")
    site.distribution("acme-plugin", {ADAPTERS: {"acme": "acme_good:candidate"}})
    site.distribution("acme-plugln", {ADAPTERS: {"acme": "acme_evil:x"}})
    resolver, report = discovered()
    assert resolver.candidates() == ()
    assert [each.distribution for each in report.errors] == ["acme-plugin", "acme-plugln"]
    assert "acme_evil" not in sys.modules


def test_a_distribution_that_is_not_allowed_is_not_loaded(site: Site) -> None:
    site.module("acme_evil", "raise SystemExit('loaded')")
    site.distribution("evil", {ADAPTERS: {"evil": "acme_evil:x"}})
    resolver = Resolver(Policy())
    report = discover(resolver, plugins=True, allowed_distributions=("acme",))
    assert [each.reason for each in report.errors] == ["its distribution is not one of those that are allowed"]
    assert "acme_evil" not in sys.modules


def test_two_plugins_of_one_distribution_cannot_replace_each_other(site: Site) -> None:
    site.module("acme_good", GOOD)
    site.distribution("acme-plugin", {ADAPTERS: {"a": "acme_good:candidate", "b": "acme_good:candidate"}})
    resolver, report = discovered()
    assert len(resolver.candidates()) == 1
    assert "already offered by 'a' of acme-plugin" in report.errors[0].reason
