"""Import from verified bytes, under a root of their own: neither `sys.path` nor any other module's name is touched.

The modules of an artifact live below ``_oneiric_remote_<sha256>``, so two versions of one package stand side by side
while one replaces the other. Inside, a package imports itself by the name it was written with: ``import acme.util`` in
an artifact that holds ``acme`` is that artifact's own. What code asks of ``importlib`` itself is not redirected.
"""

import builtins
import io
import sys
import threading
import zipfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.abc import ExecutionLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.resources.abc import Traversable, TraversableResources
from importlib.util import decode_source, spec_from_loader
from types import ModuleType
from typing import Any, Final

__all__ = ["ROOT_PREFIX", "mount", "mounted", "unmount"]

ROOT_PREFIX: Final = "_oneiric_remote_"


class _Loader(ExecutionLoader):
    """Loads one module from the bytes of an artifact."""

    def __init__(self, tree: "_Tree", name: str, path: str | None, *, is_package: bool) -> None:
        self._tree = tree
        self._name = name
        self._path = path
        self._is_package = is_package

    def get_filename(self, fullname: str) -> str:
        shown = self._path or fullname.partition(".")[2].replace(".", "/")
        return f"{self._tree.root}/{shown}"

    def is_package(self, fullname: str) -> bool:  # noqa: ARG002 - a loader of one module
        return self._is_package

    def get_source(self, fullname: str) -> str:  # noqa: ARG002 - as above
        return "" if self._path is None else decode_source(self._tree.files[self._path])

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = self._tree.builtins
        super().exec_module(module)

    def get_resource_reader(self, fullname: str) -> TraversableResources | None:  # noqa: ARG002 - as above
        return _Resources(self._tree, self._name) if self._is_package else None


class _Resources(TraversableResources):
    """The files beside a package's code, for `importlib.resources`."""

    def __init__(self, tree: "_Tree", name: str) -> None:
        self._tree = tree
        self._directory = name.replace(".", "/")

    def files(self) -> Traversable:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for path, content in self._tree.files.items():
                if not self._directory or path.startswith(f"{self._directory}/"):
                    archive.writestr(path, content)
        return zipfile.Path(zipfile.ZipFile(packed), f"{self._directory}/" if self._directory else "")


class _Tree:
    """The modules of one artifact."""

    def __init__(self, root: str, files: Mapping[str, bytes]) -> None:
        self.root = root
        self.files = files
        self.packages: set[str] = set()
        for path in files:
            parent = path.rpartition("/")[0] if path.endswith(".py") else ""
            while parent and parent not in self.packages:
                self.packages.add(parent)
                parent = parent.rpartition("/")[0]
        self.tops = {path.partition("/")[0].removesuffix(".py") for path in files if path.endswith(".py")}
        self.builtins: dict[str, Any] = {**vars(builtins), "__import__": self._import}

    def spec(self, fullname: str) -> ModuleSpec | None:
        """Return the spec of a module, or None when the artifact has no such module."""
        name = fullname.removeprefix(self.root).removeprefix(".")
        path = name.replace(".", "/")
        if not name or path in self.packages:
            initial = f"{path}/__init__.py"
            loader = _Loader(self, name, initial if name and initial in self.files else None, is_package=True)
        elif f"{path}.py" in self.files:
            loader = _Loader(self, name, f"{path}.py", is_package=False)
        else:
            return None
        return spec_from_loader(fullname, loader)

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - the names of the built-in it stands for
        locals: Mapping[str, object] | None = None,  # noqa: A002 - as above
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Import as the built-in does, the artifact's own packages from the artifact."""
        top = name.partition(".")[0]
        if level or top not in self.tops:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        if fromlist:
            return builtins.__import__(f"{self.root}.{name}", globals, locals, fromlist, 0)
        import_module(f"{self.root}.{name}")
        return sys.modules[f"{self.root}.{top}"]


class _Finder(MetaPathFinder):
    """Finds the modules of artifacts that are mounted, and answers for no other name."""

    def __init__(self) -> None:
        self.trees: dict[str, _Tree] = {}

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - the names decide, not where the parent lies
        target: ModuleType | None = None,  # noqa: ARG002 - as above
    ) -> ModuleSpec | None:
        if not fullname.startswith(ROOT_PREFIX):
            return None
        tree = self.trees.get(fullname.partition(".")[0])
        spec = None if tree is None else tree.spec(fullname)
        if spec is None:
            # Nobody else may answer for a name of ours.
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return spec


_finder: Final = _Finder()
_lock: Final = threading.Lock()


def mount(sha256: str, files: Mapping[str, bytes]) -> str:
    """Make the modules of an artifact importable, and return the name of their root; again is the same root.

    Args:
        sha256: The artifact's digest.
        files: Path → verified bytes.
    """
    root = f"{ROOT_PREFIX}{sha256}"
    with _lock:
        if _finder not in sys.meta_path:
            sys.meta_path.insert(0, _finder)
        known = _finder.trees.get(root)
        if known is None or not files.keys() <= known.files.keys():
            # The same single file may be offered as several modules.
            _finder.trees[root] = _Tree(root, files if known is None else {**known.files, **files})
    return root


def unmount(sha256: str) -> None:
    """Forget an artifact's modules; instances made of them live on, and import no more of them."""
    root = f"{ROOT_PREFIX}{sha256}"
    with _lock:
        _finder.trees.pop(root, None)
        for name in [name for name in sys.modules if name == root or name.startswith(f"{root}.")]:
            del sys.modules[name]


def mounted() -> tuple[str, ...]:
    """Return the digests of the artifacts that are mounted."""
    return tuple(root.removeprefix(ROOT_PREFIX) for root in _finder.trees)
