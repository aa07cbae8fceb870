"""Environment: what is installed here, told from the distributions on sys.path."""

import importlib.metadata
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from oneiric.core._distributions import iter_installed
from oneiric.core._environment import Environment
from oneiric.core._requirements import normalized

type Install = Callable[..., Path]

STANDARD_LIBRARY = [sysconfig.get_path("stdlib"), f"{sysconfig.get_path('platstdlib')}/lib-dynload"]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a distribution's metadata on an otherwise empty sys.path."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.setattr(sys, "path", [str(site), *STANDARD_LIBRARY])

    def make(name: str, version: str = "1.0", *, requires: tuple[str, ...] = (), extras: tuple[str, ...] = ()) -> Path:
        directory = site / f"{name.replace('-', '_')}-{version}.dist-info"
        directory.mkdir()
        lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {text}" for text in requires] + [f"Provides-Extra: {text}" for text in extras]
        (directory / "METADATA").write_text("\n".join(lines) + "\n\nProvides-Extra: from-the-body\n")
        return directory

    return make


def test_this_machine_names_its_python_and_system() -> None:
    environment = Environment.current()
    assert environment.os == sys.platform
    assert environment.python == ".".join(map(str, sys.version_info[:3]))
    assert environment.satisfies_python(">=3.13")
    assert not environment.satisfies_python("<3.13")


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        ("acme-cache", True),
        ("Acme.Cache", True),
        ("ACME_cache>=1.2", True),
        ("acme-cache==1.*", True),
        ("acme-cache>=1.3", False),
        ("acme-cache<1.2.3", False),
        ("acme", False),
        ("acme-cach", False),
        ("acme-cache; sys_platform == 'nowhere'", True),
        ("absent; sys_platform == 'nowhere'", True),
        ("absent; sys_platform != 'nowhere'", False),
    ],
)
def test_a_requirement_is_met_by_name_version_and_marker(install: Install, requirement: str, expected: bool) -> None:
    install("acme-cache", "1.2.3")
    assert Environment.current().is_installed(requirement) is expected


def test_an_extra_is_installed_when_everything_it_declares_is(install: Install) -> None:
    install(
        "acme-cache",
        extras=("redis", "memcached", "all", "empty", "elsewhere"),
        requires=(
            "base-library",
            "redis>=6; extra == 'redis'",
            "hiredis; extra == 'redis' and python_version >= '3'",
            'pymemcache ; extra == "memcached"',
            "acme-cache[redis,memcached]; extra == 'all'",
            "winonly; sys_platform == 'nowhere' and extra == 'elsewhere'",
        ),
    )
    install("redis", "5.9")

    def met(*extras: str) -> dict[str, bool]:
        return {extra: Environment.current().is_installed(f"acme-cache[{extra}]") for extra in extras}

    everything = ("redis", "memcached", "all", "empty", "elsewhere", "redis,memcached", "unheard-of", "from-the-body")
    assert {extra for extra, true in met(*everything).items() if true} == {"empty", "elsewhere"}
    install("hiredis")
    assert met("redis") == {"redis": False}  # redis is there, but too old
    next(iter(Path(sys.path[0]).glob("redis-*"))).rename(Path(sys.path[0]) / "redis-6.4.dist-info")
    assert met("redis", "memcached", "all", "redis,memcached") == {
        "redis": True,
        "memcached": False,
        "all": False,
        "redis,memcached": False,
    }
    install("pymemcache")
    assert met("all", "redis,memcached", "unheard-of") == {"all": True, "redis,memcached": True, "unheard-of": False}


def test_extras_that_name_one_another_end(install: Install) -> None:
    install("acme-cache", extras=("a", "b"), requires=("acme-cache[b]; extra == 'a'", "acme-cache[a]; extra == 'b'"))
    assert Environment.current().is_installed("acme-cache[a]")


def test_an_extra_with_unreadable_metadata_is_not_called_installed(install: Install) -> None:
    install("acme-cache", extras=("a",), requires=("?!; extra == 'a'",))
    assert not Environment.current().is_installed("acme-cache[a]")


def test_an_answer_is_given_once_and_kept(install: Install) -> None:
    environment = Environment.current()
    assert not environment.is_installed("acme-cache")
    install("acme-cache")
    assert not environment.is_installed("acme-cache")
    assert Environment.current().is_installed("acme-cache")


def test_a_malformed_requirement_is_refused_by_name(install: Install) -> None:
    with pytest.raises(ValueError, match="'acme cache' is not a requirement"):
        Environment.current().is_installed("acme cache")


def test_the_first_of_two_on_the_path_counts(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("acme-cache", "2.0")
    earlier = tmp_path / "earlier"
    (earlier / "acme_cache-1.0.dist-info").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(earlier), *sys.path])
    assert Environment.current().is_installed("acme-cache==1.0")
    assert [each.version for each in iter_installed()] == ["1.0"]


@pytest.mark.parametrize("metadata", ["acme_cache-1.5-py3.13.egg-info", "acme_cache.egg-info"])
def test_egg_metadata_is_found_too(install: Install, metadata: str) -> None:
    install("other")
    directory = Path(sys.path[0]) / metadata
    directory.mkdir()
    (directory / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: acme-cache\nVersion: 1.5\n")
    environment = Environment.current()
    assert environment.is_installed("acme-cache>=1.5")
    assert environment.is_installed("other")
    assert not environment.is_installed("acme-cache>=1.6")


def test_a_zip_archive_on_the_path_is_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "lib.zip"
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr("acme_cache-1.5.dist-info/METADATA", "Metadata-Version: 2.1\nName: acme-cache\nVersion: 1.5\n")
    monkeypatch.setattr(sys, "path", [str(archive), str(tmp_path / "absent"), *STANDARD_LIBRARY])
    assert Environment.current().is_installed("acme-cache==1.5")


def test_a_finder_of_another_tool_is_asked(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = install("acme-cache", "3.0")
    hidden = directory.rename(directory.parent.parent / directory.name)

    class Finder:
        @staticmethod
        def find_distributions(
            context: importlib.metadata.DistributionFinder.Context,
        ) -> list[importlib.metadata.Distribution]:
            return [importlib.metadata.PathDistribution(hidden)] if context.name in {None, "acme-cache"} else []

    assert not Environment.current().is_installed("acme-cache")
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    assert Environment.current().is_installed("acme-cache==3.0")


def test_what_is_found_here_is_what_importlib_metadata_finds() -> None:
    expected: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        expected.setdefault(normalized(distribution.name), distribution.version)
    assert {each.name: each.version for each in iter_installed()} == expected
    assert len(expected) > 5
