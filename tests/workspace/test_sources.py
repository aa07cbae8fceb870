"""What holds for every source file of ours, read as text or as a syntax tree."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(ROOT.glob("packages/*/src/**/*.py"))
TESTS = sorted(ROOT.glob("tests/**/*.py"))
MOST_LINES = 400
MOST_LINES_OF_TESTS = 600
MOST_LINES_OF_A_FUNCTION = 50
# They run whatever the bytes or the text say.
UNSAFE_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "joblib"}
UNSAFE_CALLS = {"eval", "exec"}
ANY_ERROR = {"Exception", "BaseException"}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module(path: Path) -> str:
    parts = path.with_suffix("").parts
    dotted = parts[parts.index("src") + 1 :]
    return ".".join(dotted[:-1] if dotted[-1] == "__init__" else dotted)


def is_public(path: Path) -> bool:
    return not any(part.startswith("_") for part in module(path).split("."))  # so is __main__


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def test_there_are_sources() -> None:
    assert SOURCES


def test_a_module_is_one_idea() -> None:
    long = {name(path): count for path in SOURCES if (count := len(path.read_text().splitlines())) > MOST_LINES}

    assert long == {}, f"past {MOST_LINES} lines a module is two ideas: give the second one a module of its own"


def test_a_file_of_tests_has_one_subject() -> None:
    long = {name(path): count for path in TESTS if (count := len(path.read_text().splitlines())) > MOST_LINES_OF_TESTS}

    assert TESTS
    assert long == {}, f"past {MOST_LINES_OF_TESTS} lines nobody finds a test: split the file by subject"


def test_a_function_fits_a_screen() -> None:
    long = {
        f"{name(path)}:{node.lineno} {node.name}": length
        for path in SOURCES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := lines_of_code(node)) > MOST_LINES_OF_A_FUNCTION
    }

    assert long == {}, f"past {MOST_LINES_OF_A_FUNCTION} lines below its docstring a function is two"


def lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body[1:] if ast.get_docstring(function) and len(function.body) > 1 else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1


def unsafe(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        match node:
            case ast.Import(names=names):
                found = [alias.name for alias in names if alias.name.split(".")[0] in UNSAFE_MODULES]
            case ast.ImportFrom(module=str(source), level=0) if source.split(".")[0] in UNSAFE_MODULES:
                found = [source]
            case ast.Call(func=ast.Name(id=called)) if called in UNSAFE_CALLS:
                found = [called]
            case _:
                found = []
        yield from (f"{name(path)}:{getattr(node, 'lineno', 0)} {what}" for what in found)


def test_nothing_runs_what_data_says() -> None:
    assert [line for path in SOURCES for line in unsafe(path)] == []


def unexplained(path: Path) -> Iterator[str]:
    """Handlers that take any error, do not hand it on as it is, and do not say why on their line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ExceptHandler) and takes_any(node):
            last = node.body[-1]
            hands_on = isinstance(last, ast.Raise) and last.exc is None
            if not hands_on and "  # " not in lines[node.lineno - 1]:
                yield f"{name(path)}:{node.lineno}"


def takes_any(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or (isinstance(kind, ast.Name) and kind.id in ANY_ERROR) for kind in kinds)


def test_who_takes_any_error_says_why() -> None:
    assert [line for path in SOURCES for line in unexplained(path)] == []


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(source), level=0, names=names):
                yield from (f"{source}.{alias.name}" for alias in names)
            case _:
                pass


def test_core_imports_the_standard_library_and_itself() -> None:
    """Also where only a type checker looks; of urllib the part that parses (import-linter sees no difference)."""
    core = [path for path in SOURCES if module(path).startswith("oneiric.core")]
    foreign = [
        f"{name(path)}: {found}"
        for path in core
        for found in imported(path)
        if found.split(".")[0] not in sys.stdlib_module_names | {"oneiric"}
        or (found.startswith("oneiric.") and not found.startswith("oneiric.core"))
        or found.startswith(("urllib.request", "urllib.error"))
    ]

    assert core
    assert foreign == []


def undocumented(body: list[ast.stmt], within: str = "") -> Iterator[str]:
    """Classes, functions and methods that have a public name and no docstring; nested functions are nobody's."""
    for node in body:
        match node:
            case ast.ClassDef(name=one) if not one.startswith("_"):
                yield from () if ast.get_docstring(node) else (f"{node.lineno} {within}{one}",)
                yield from undocumented(node.body, f"{within}{one}.")
            case ast.FunctionDef(name=one) | ast.AsyncFunctionDef(name=one) if not one.startswith(("_", "test_")):
                if not ast.get_docstring(node) and not is_documented_elsewhere(node):
                    yield f"{node.lineno} {within}{one}"
            case _:
                pass


def is_documented_elsewhere(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether it is one of several definitions that share a docstring: an overload, or a property's setter."""
    return any(ast.unparse(each).endswith(("overload", ".setter")) for each in function.decorator_list)


def test_what_a_user_sees_says_what_it_is() -> None:
    """Also in modules with an underscore, whose names are exported elsewhere: ruff takes those for private.

    A test of a contract says it by its name.
    """
    assert [f"{name(path)}:{line}" for path in SOURCES for line in undocumented(tree(path).body)] == []


def bound(body: list[ast.stmt]) -> Iterator[str]:
    """Every name a module defines itself: not what it imports, which is its own business."""
    for node in body:
        match node:
            case ast.FunctionDef(name=one) | ast.AsyncFunctionDef(name=one) | ast.ClassDef(name=one):
                yield one
            case ast.TypeAlias(name=ast.Name(id=one)) | ast.AnnAssign(target=ast.Name(id=one)):
                yield one
            case ast.Assign(targets=targets):
                yield from (target.id for target in targets if isinstance(target, ast.Name))
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                pass
            case ast.If(body=inner, orelse=other) | ast.Try(body=inner, orelse=other):
                yield from bound(inner)
                yield from bound(other)
            case _:
                pass


def offers_something(path: Path) -> bool:
    """A package that only says what it is, in its docstring, has no names to list."""
    return any(not isinstance(node, ast.Expr) for node in tree(path).body)


PUBLIC = [path for path in SOURCES if is_public(path) and offers_something(path)]


@pytest.mark.parametrize("path", PUBLIC, ids=module)
def test_all_lists_each_public_name_once_and_each_exists(path: Path) -> None:
    loaded = importlib.import_module(module(path))
    defined = {one for one in bound(tree(path).body) if not one.startswith("_")}

    assert hasattr(loaded, "__all__"), f"{name(path)} is a public module: it says what it offers in __all__"
    exported = list(loaded.__all__)
    assert len(exported) == len(set(exported))
    assert [one for one in exported if one.startswith("_") or not hasattr(loaded, one)] == []
    assert defined - set(exported) == set(), "public by name and not in __all__: export it or give it an underscore"


@pytest.mark.parametrize("path", PUBLIC, ids=module)
def test_all_is_sorted(path: Path) -> None:
    exported = list(importlib.import_module(module(path)).__all__)

    assert exported == sorted(exported, key=as_ruff_sorts)


def as_ruff_sorts(one: str) -> tuple[int, str]:
    """Constants, then classes, then the rest: the order ruff's RUF022 writes."""
    if one.isupper():
        return 0, one
    return (1, one) if one[0].isupper() else (2, one)
