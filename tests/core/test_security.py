"""Factory strings: their grammar, what is always refused, allow-lists, and loading."""

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneiric.core.errors import (
    ConfigurationError,
    FactoryNotAllowedError,
    FactoryNotFoundError,
    LoadError,
)
from oneiric.core.security import (
    BLOCKED_MODULES,
    FactoryAllowList,
    MissingModuleError,
    check_defined_there,
    check_factory,
    is_factory_string,
    load_factory,
)


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory on sys.path whose modules are forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("text", ["a:b", "a.b.c:D", "_private.mod_1:make_it", "oneiric.adapters.cache.redis:R"])
def test_module_and_one_attribute_is_a_factory_string(text: str) -> None:
    assert is_factory_string(text)
    assert check_factory(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a.b",
        ":b",
        "a:",
        "a:b.c",
        "a:b:c",
        "a:b\n",
        "a:b\x00",
        " a:b",
        "a :b",
        "a..b:c",
        ".a:b",
        "a.:b",
        "1a:b",
        "a:1b",
        "оs:system",  # noqa: RUF001 - a Cyrillic letter is the point
        "a:b()",
        "a/b:c",
        "a" * 300 + ":b",
        "Good:__init__.__globals__",
        None,
        5,
        b"a:b",
    ],
)
def test_anything_else_is_refused_with_a_sentence(text: object) -> None:
    assert not is_factory_string(text)
    with pytest.raises(FactoryNotAllowedError, match="module:attr") as caught:
        check_factory(text)
    assert len(str(caught.value)) < 300


@given(st.text())
def test_what_passes_the_grammar_is_ascii_with_one_colon(text: str) -> None:
    if is_factory_string(text):
        assert text.isascii()
        assert text.count(":") == 1
        assert all(part.isidentifier() for part in text.replace(":", ".").split("."))


@pytest.mark.parametrize(
    "text",
    [
        "os:system",
        "os.path:join",
        "subprocess:Popen",
        "sys:exit",
        "importlib:import_module",
        "builtins:eval",
        "__builtin__:eval",
        "shutil:rmtree",
        "pathlib:Path",
        "tempfile:mkdtemp",
        "_pickle:loads",
        "posix:system",
    ],
)
def test_a_blocked_module_is_refused_even_where_the_allow_list_names_it(text: str) -> None:
    with pytest.raises(FactoryNotAllowedError, match="no factory may come from"):
        check_factory(text, FactoryAllowList((text.partition(":")[0],)))


@pytest.mark.parametrize("module", ["oscar", "sysconf.x", "os_tools", "my.os"])
def test_a_module_that_merely_resembles_a_blocked_one_is_not(module: str) -> None:
    assert module.partition(".")[0] not in BLOCKED_MODULES
    assert check_factory(f"{module}:make")


def test_an_allowed_prefix_ends_at_a_dot() -> None:
    allowed = FactoryAllowList(("oneiric", "acme.cache."))
    permitted = ["oneiric:x", "oneiric.core.a:x", "acme.cache:x", "acme.cache.redis:x"]
    refused = ["oneiricx:x", "oneiric_evil.core:x", "acme:x", "acme.cachex:x", "notoneiric.core:x"]
    assert [text for text in permitted + refused if allowed.permits(text)] == permitted


def test_a_factory_outside_the_allow_list_is_refused_and_the_sentence_says_what_is_allowed() -> None:
    with pytest.raises(FactoryNotAllowedError, match=r"allowed: oneiric") as caught:
        check_factory("acme.cache:Redis", FactoryAllowList())
    assert "ONEIRIC_FACTORY_ALLOWLIST=oneiric,acme" in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "prefixes"),
    [
        ({}, ("oneiric",)),
        ({"ONEIRIC_FACTORY_ALLOWLIST": ""}, ()),
        ({"ONEIRIC_FACTORY_ALLOWLIST": "  "}, ()),
        ({"ONEIRIC_FACTORY_ALLOWLIST": "acme"}, ("acme",)),
        ({"ONEIRIC_FACTORY_ALLOWLIST": "oneiric., acme.cache,"}, ("oneiric", "acme.cache")),
    ],
)
def test_the_environment_variable_lists_prefixes_and_empty_denies_all(
    environ: dict[str, str], prefixes: tuple[str, ...]
) -> None:
    allowed = FactoryAllowList.from_environ(environ)
    assert allowed.prefixes == prefixes
    assert allowed.permits("oneiric.core:x") == ("oneiric" in prefixes)


@pytest.mark.parametrize("entry", ["*", "a b", "a:b", "../x", "..", "x" * 500])
def test_a_malformed_allow_list_entry_is_a_configuration_error(entry: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a dotted module name"):
        FactoryAllowList.from_environ({"ONEIRIC_FACTORY_ALLOWLIST": f"oneiric,{entry}"})


def test_a_bare_string_is_not_a_list_of_prefixes() -> None:
    with pytest.raises(ConfigurationError, match="sequence"):
        FactoryAllowList("oneiric")  # type: ignore[arg-type]  # the mistake under test


def test_loading_returns_the_attribute(modules: Path) -> None:
    (modules / "acme_good.py").write_text("class Cache: pass\ndef __getattr__(name): return {'lazy': 1}[name]\n")
    assert load_factory("acme_good:Cache").__name__ == "Cache"
    assert load_factory("acme_good:lazy") == 1


def test_a_missing_attribute_names_the_module_and_the_nearest_attributes(modules: Path) -> None:
    (modules / "acme_near.py").write_text("class MemoryCache: pass\n")
    with pytest.raises(FactoryNotFoundError, match="'acme_near' has no attribute 'MemoryCash'") as caught:
        load_factory("acme_near:MemoryCash")
    assert caught.value.hint == "acme_near:MemoryCache"


def test_a_missing_module_names_the_nearest_one(modules: Path) -> None:
    package = modules / "acme_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "memory.py").touch()
    with pytest.raises(FactoryNotFoundError, match=r"there is no module 'acme_package\.memroy'") as caught:
        load_factory("acme_package.memroy:Cache")
    assert caught.value.hint == "acme_package.memory"
    with pytest.raises(FactoryNotFoundError, match="there is no module 'acme_packag'") as caught:
        load_factory("acme_packag.memory:Cache")
    assert "acme_package" in str(caught.value.hint)


def test_a_module_that_imports_something_not_installed_is_told_from_a_missing_module(modules: Path) -> None:
    (modules / "acme_sdk.py").write_text("import no_such_sdk.client\n")
    with pytest.raises(MissingModuleError, match="needs module 'no_such_sdk'") as caught:
        load_factory("acme_sdk:Cache")
    assert caught.value.name == "no_such_sdk"
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert not isinstance(caught.value, FactoryNotFoundError)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise ValueError('boom')", "ValueError: boom"),
        ("import sys; sys.exit(3)", r"sys\.exit\(3\)"),
        ("def f(): f()\nf()", "RecursionError"),
        ("class Odd(BaseException): pass\nraise Odd('x')", "Odd: x"),
        ("from math import nothing_of_the_kind", "ImportError"),
        ("def (", "SyntaxError"),
    ],
)
def test_whatever_an_import_raises_becomes_a_load_error_with_its_cause(modules: Path, code: str, said: str) -> None:
    (modules / "acme_bad.py").write_text(code)
    with pytest.raises(LoadError, match=said) as caught:
        load_factory("acme_bad:Cache")
    assert caught.value.__cause__ is not None
    assert not isinstance(caught.value, FactoryNotFoundError)


def test_ctrl_c_during_an_import_passes(modules: Path) -> None:
    (modules / "acme_interrupted.py").write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load_factory("acme_interrupted:Cache")


def printed(code: str) -> str:
    """What a fresh interpreter prints for *code*."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


def test_a_blocked_module_is_not_even_imported() -> None:
    code = (
        "import sys\nfrom oneiric.core.security import load_factory\n"
        "try: load_factory('ftplib:FTP')\nexcept Exception as e: print(type(e).__name__, 'ftplib' in sys.modules)\n"
    )
    assert printed(code).split() == ["FactoryNotAllowedError", "False"]


def test_only_what_a_module_defines_itself_passes_for_its_own(modules: Path) -> None:
    (modules / "acme_own.py").write_text(
        "from os import system\nfrom functools import partial\nfrom collections import OrderedDict as Cache\n"
        "class Own: pass\ndef make(): pass\npart = partial(make)\nalias = Own\ninstance = Own()\nnumber = 3\n"
    )
    judged = {}
    for name in ("Own", "make", "system", "part", "Cache", "alias", "instance", "number"):
        text = f"acme_own:{name}"
        try:
            check_defined_there(load_factory(text), text)
            judged[name] = True
        except FactoryNotAllowedError:
            judged[name] = False
    assert [name for name, passed in judged.items() if passed] == ["Own", "make"]


def test_a_missing_module_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(MissingModuleError("acme:X", "redis")))  # noqa: S301 - our own bytes
    assert (error.factory, error.name) == ("acme:X", "redis")


def test_importing_the_rules_loads_nothing_heavy() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "import oneiric.core.security, oneiric.core._requirements, oneiric.core._environment\n"
        "heavy = {'importlib.metadata', 'tomllib', 'asyncio', 'ipaddress', 'urllib.parse', 'difflib', 'pathlib',"
        " 'socket', 'ssl', 'email', 'zipfile'}\n"
        "print(sorted(heavy & (set(sys.modules) - before)))"
    )
    assert printed(code).strip() == "[]"


def test_where_it_is_asked_only_what_a_module_itself_defines_is_loaded(modules: Path) -> None:
    (modules / "strict_shop.py").write_text(
        "from os import system\n"
        "from functools import partial\n"
        "class Cache: pass\n"
        "def make(): return Cache()\n"
        "alias = make\n"
        "ready = Cache()\n"
        "bound = partial(Cache)\n"
        "def __getattr__(name): return Cache\n"
    )
    assert load_factory("strict_shop:Cache", defined_there=True) is load_factory("strict_shop:Cache")
    assert load_factory("strict_shop:make", defined_there=True)
    for attribute in ("system", "partial", "alias", "ready", "bound", "anything"):
        assert load_factory(f"strict_shop:{attribute}")
        with pytest.raises(FactoryNotAllowedError, match="not a class or function defined in"):
            load_factory(f"strict_shop:{attribute}", defined_there=True)
