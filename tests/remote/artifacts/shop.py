"""An archive of a small shop, opened and named by an entry."""

from __future__ import annotations

from typing import Any

from tests.remote.archives import digest, packed
from tests.remote.conftest import entry

from oneiric.core.resolution import Candidate
from oneiric.core.security import FactoryAllowList
from oneiric.remote.artifacts import Artifact, ArtifactLimits, open_artifact
from oneiric.remote.manifest import FactoryPolicy, candidates_of

SHOP = {
    "acme/__init__.py": "NAME = 'acme'\n",
    "acme/util.py": "def version():\n    return 'VERSION'\n",
    "acme/cache.py": (
        "import acme.util\n"
        "from acme import util as same\n"
        "from acme.util import version\n"
        "from . import util as relative\n"
        "import json, os.path\n"
        "from os import system\n"
        "from functools import partial\n"
        "class Settings:\n    size = 1\n"
        "class Cache:\n"
        "    def version(self):\n"
        "        assert acme.util is same is relative\n"
        "        return acme.util.version()\n"
        "    def fail(self):\n        raise RuntimeError('from inside')\n"
        "class Nested:\n    class Inner: pass\n"
        "def make():\n    return Cache()\n"
        "ready = Cache()\n"
        "bound = partial(Cache)\n"
        "alias = make\n"
        "def __getattr__(name):\n    return Cache\n"
    ),
    "acme/data/words.txt": "one two",
    "acme/deep/er/leaf.py": "VALUE = 7\n",
}


def shop(version: str = "1") -> bytes:
    return packed({name: text.replace("VERSION", version) for name, text in SHOP.items()})


def opened(data: bytes, name: str = "acme-1-py3-none-any.whl", module: str = "acme.cache", **limits: int) -> Artifact:
    return open_artifact(
        data,
        sha256=digest(data),
        size=len(data),
        uri=f"https://cdn.example/{name}",
        module=module,
        limits=ArtifactLimits(**limits),
    )


def candidate(data: bytes, **changes: Any) -> Candidate:
    row = entry(uri="https://cdn.example/a.whl", sha256=digest(data), size=len(data), **changes)
    policy = FactoryPolicy(general=FactoryAllowList(("acme",)))
    (made,) = candidates_of([row], origin="m", policy=policy).candidates
    return made
