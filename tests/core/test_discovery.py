"""Discovery of catalogues: everything installed, nothing imported, one broken one is one line."""

import importlib.metadata
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from oneiric.core.catalog import DiscoveryReport, discover
from oneiric.core.catalog._entry_points import entry_points_of
from oneiric.core.resolution import CandidateSource, Policy, Resolver

#: The builder of conftest.py; test directories are not packages, so its class has no name to import.
type Site = Any

CATALOGS = "oneiric.catalogs"


def catalog(*providers: str, key: str = "cache") -> str:
    entry = '[[entries]]\ndomain = "adapter"\nkey = "{}"\nprovider = "{}"\nfactory = "acme.cache:Cache"\n'
    return "schema = 1\n" + "".join(entry.format(key, provider) for provider in providers)


def discovered(**options: object) -> tuple[Resolver, DiscoveryReport]:
    resolver = Resolver(Policy())
    return resolver, discover(resolver, **options)  # type: ignore[arg-type]  # options are those of discover


def test_a_catalogue_is_registered_under_its_package(site: Site) -> None:
    directory = site.package("acme.cache", catalog=catalog("memory", "redis"))
    site.distribution("acme-cache", {CATALOGS: {"acme": "acme.cache"}})
    resolver, report = discovered()
    assert [(each.provider, each.origin, each.source) for each in resolver.candidates("adapter")] == [
        ("redis", "acme.cache", CandidateSource.LOCAL_PKG),
        ("memory", "acme.cache", CandidateSource.LOCAL_PKG),
    ]
    assert report.as_dict() == {
        "catalogs": [
            {
                "name": "acme",
                "distribution": "acme-cache",
                "package": "acme.cache",
                "path": str(directory / "catalog.toml"),
                "registered": 2,
            }
        ],
        "plugins": [],
        "errors": [],
        "registered": 2,
    }
    assert json.loads(json.dumps(report.as_dict())) == report.as_dict()


def test_nothing_installed_is_an_empty_report(site: Site) -> None:
    resolver, report = discovered()
    assert (report, resolver.revision) == (DiscoveryReport(), 0)


def test_discovery_runs_no_code_of_any_package(tmp_path: Path) -> None:
    """The sentinels are written by ``import``, which the second half of the test does, and not by discovery."""
    site = tmp_path / "site"
    package = site / "acme" / "cache"
    package.mkdir(parents=True)
    for directory in (package, package.parent):
        (directory / "__init__.py").write_text("open(__file__ + '.ran', 'w').close()\n")
    (package / "catalog.toml").write_text(catalog("memory"))
    metadata = site / "acme_cache-1.0.dist-info"
    metadata.mkdir()
    (metadata / "entry_points.txt").write_text(f"[{CATALOGS}]\nacme = acme.cache\n")
    code = (
        "import sys; from oneiric.core.catalog import discover; from oneiric.core.resolution import Resolver\n"
        "resolver = Resolver(); report = discover(resolver)\n"
        "resolver.explain('adapter', 'cache').as_dict()\n"
        "wrong = {'importlib.metadata', 'asyncio', 'acme', 'acme.cache', 'socket', 'email'} & set(sys.modules)\n"
        "print([each.name for each in report.catalogs if each.package.startswith('acme')], sorted(wrong))\n"
    )

    def run(text: str) -> str:
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(site)!r})\n{text}"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    assert run(code) == "['acme'] []\n"
    assert list(site.rglob("*.ran")) == []
    run("import acme.cache")
    assert len(list(site.rglob("*.ran"))) == 2


def test_a_broken_catalogue_is_one_line_and_the_others_are_registered(site: Site) -> None:
    site.package("acme.good", catalog=catalog("memory"))
    site.package("acme.typo", catalog=catalog("memory") + 'provder = "x"\n')
    site.package("acme.broken", catalog="schema = ")
    site.package("acme.twice", catalog=catalog("memory", "memory"))
    site.package("acme.bare")
    site.module("acme_module", "")
    packages = {
        "absent": "nowhere.at.all",
        "bare": "acme.bare",
        "broken": "acme.broken",
        "callable": "acme.good:catalog",
        "good": "acme.good",
        "module": "acme_module",
        "odd": "../../etc",
        "twice": "acme.twice",
        "typo": "acme.typo",
    }
    site.distribution("acme", {CATALOGS: packages})
    resolver, report = discovered()
    assert [each.name for each in report.catalogs] == ["good"]
    assert [each.origin for each in resolver.candidates()] == ["acme.good"]
    reasons = {each.name: each.reason for each in report.errors}
    assert list(reasons) == ["absent", "bare", "broken", "callable", "module", "odd", "twice", "typo"]
    expected = {
        "absent": "not installed",
        "bare": "has no catalog.toml",
        "broken": "is not TOML",
        "callable": "not the name of a package",
        "module": "not installed",
        "odd": "not the name of a package",
        "twice": "stated twice",
        "typo": "entry 1 is wrong",
    }
    assert {name for name, said in expected.items() if said not in reasons[name]} == set()
    assert {(each.kind, each.distribution) for each in report.errors} == {("catalog", "acme")}
    assert str(site.root) in reasons["typo"]
    assert all(str(each).startswith(f"catalog {each.name!r} of acme: ") for each in report.errors)


def test_a_name_claimed_by_two_distributions_is_refused_to_both(site: Site) -> None:
    site.package("acme.cache", catalog=catalog("memory"))
    site.package("evil.cache", catalog=catalog("memory"))
    site.package("other.cache", catalog=catalog("memory"))
    site.distribution("acme-cache", {CATALOGS: {"cache": "acme.cache"}})
    site.distribution("acme-cahce", {CATALOGS: {"cache": "evil.cache"}})
    site.distribution("other", {CATALOGS: {"other": "other.cache"}})
    resolver, report = discovered()
    assert {each.origin for each in resolver.candidates()} == {"other.cache"}
    assert [each.distribution for each in report.errors] == ["acme-cache", "acme-cahce"]
    assert all("claimed 2 times, by acme-cache and acme-cahce" in each.reason for each in report.errors)
    assert all("allowed_distributions" in (each.hint or "") for each in report.errors)
    resolver, report = discovered(allowed_distributions={"Acme_Cache", "other"})
    assert {each.origin for each in resolver.candidates()} == {"acme.cache", "other.cache"}
    assert [(each.distribution, each.reason) for each in report.errors] == [
        ("acme-cahce", "its distribution is not one of those that are allowed")
    ]


def test_one_package_named_by_two_distributions_is_registered_once(site: Site) -> None:
    site.package("acme.cache", catalog=catalog("memory"))
    site.distribution("acme-cache", {CATALOGS: {"a": "acme.cache"}})
    site.distribution("imitator", {CATALOGS: {"b": "acme.cache"}})
    resolver, report = discovered()
    assert len(resolver.candidates()) == 1
    assert [each.name for each in report.catalogs] == ["a"]
    assert "already offered by 'a' of acme-cache" in report.errors[0].reason


def test_catalogues_come_in_order_of_their_names_whatever_the_distributions_are_called(site: Site) -> None:
    for name, distribution in (("b", "a-first"), ("c", "b-second"), ("a", "z-last")):
        site.package(f"acme.{name}", catalog=catalog(name))
        site.distribution(distribution, {CATALOGS: {name: f"acme.{name}"}})
    resolver, report = discovered()
    assert [each.name for each in report.catalogs] == ["a", "b", "c"]
    assert resolver.resolve("adapter", "cache").provider == "c"


def test_each_catalogue_is_one_revision_and_a_second_discovery_adds_nothing(site: Site) -> None:
    for name in ("a", "b"):
        site.package(f"acme.{name}", catalog=catalog("x", "y", key=name))
    site.distribution("acme", {CATALOGS: {"a": "acme.a", "b": "acme.b"}})
    resolver, _ = discovered()
    assert resolver.revision == 2
    before = [each.identity for each in resolver.candidates()]
    discover(resolver)
    assert [each.identity for each in resolver.candidates()] == before


def test_portions_of_a_namespace_are_all_looked_into(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for root, family in ((site.root, "cache"), (tmp_path / "editable" / "src", "queue")):
        directory = root / "acmespace" / "adapters" / family
        directory.mkdir(parents=True)
        (directory / "catalog.toml").write_text(catalog("memory", key=family))
    monkeypatch.setattr(sys, "path", [str(tmp_path / "editable" / "src"), *sys.path])
    site.distribution("acme-cache", {CATALOGS: {"cache": "acmespace.adapters.cache"}})
    site.distribution("acme-queue", {CATALOGS: {"queue": "acmespace.adapters.queue"}})
    resolver, report = discovered()
    assert report.errors == ()
    assert resolver.keys("adapter") == ("cache", "queue")


def test_a_regular_package_hides_the_namespace_portions_behind_it(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = tmp_path / "later" / "acmens" / "family"
    hidden.mkdir(parents=True)
    (hidden / "catalog.toml").write_text(catalog("hidden"))
    regular = site.root / "acmens" / "family"
    regular.mkdir(parents=True)
    (regular / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "later")])
    site.distribution("acme", {CATALOGS: {"family": "acmens.family"}})
    resolver, report = discovered()
    assert resolver.candidates() == ()
    assert "has no catalog.toml" in report.errors[0].reason


def test_a_distribution_in_a_zip_archive_is_found_and_read(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "lib.zip"
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr("zacme/__init__.py", "raise SystemExit('imported')")
        writer.writestr("zacme/cache/__init__.py", "raise SystemExit('imported')")
        writer.writestr("zacme/cache/catalog.toml", catalog("memory"))
        writer.writestr("zacme-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: zacme\nVersion: 1.0\n")
        writer.writestr("zacme-1.0.dist-info/entry_points.txt", f"[{CATALOGS}]\nzacme = zacme.cache\n")
    monkeypatch.setattr(sys, "path", [str(archive), *sys.path])
    resolver, report = discovered()
    assert report.errors == ()
    assert [each.origin for each in resolver.candidates()] == ["zacme.cache"]
    assert report.catalogs[0].path == f"{archive}/zacme/cache/catalog.toml"


def test_an_older_copy_later_on_the_path_does_not_claim_its_name_again(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.package("acme.cache", catalog=catalog("memory"))
    site.distribution("acme-cache", {CATALOGS: {"acme": "acme.cache"}}, version="2.0")
    older = tmp_path / "older" / "Acme.Cache-1.0.dist-info"
    older.mkdir(parents=True)
    (older / "entry_points.txt").write_text(f"[{CATALOGS}]\nacme = acme.gone\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "older")])
    _, report = discovered()
    assert (len(report.catalogs), report.errors) == (1, ())


def test_entry_points_are_read_as_importlib_metadata_reads_them(site: Site) -> None:
    directory = site.distribution("acme")
    ours_among_others = f"[{CATALOGS}]\n  one=acme.one\n# two = x\ntwo =  acme.two\n"
    text = f"# comment\n[other]\na = b\n\n{ours_among_others}[{CATALOGS}.more]\nc = d\n"
    (directory / "entry_points.txt").write_text(text)
    site.distribution("bystander", {"console_scripts": {"oneiric.catalogs": "x:y"}})
    ours = {(each.name, each.value, each.distribution) for each in entry_points_of({CATALOGS})}
    theirs = {
        (each.name, each.value, each.dist.name if each.dist else "")
        for each in importlib.metadata.entry_points(group=CATALOGS)
    }
    assert ours == theirs == {("one", "acme.one", "acme"), ("two", "acme.two", "acme")}


def test_the_entry_points_of_this_environment_are_those_of_importlib_metadata() -> None:
    groups = ("console_scripts", "pytest11")
    theirs = {
        (each.group, each.name, each.value) for group in groups for each in importlib.metadata.entry_points(group=group)
    }
    assert {(each.group, each.name, each.value) for each in entry_points_of(groups)} == theirs
    assert len(theirs) > 3
