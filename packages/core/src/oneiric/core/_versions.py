"""PEP 440: versions in their order, and the specifiers that pick among them."""

import re
from collections.abc import Callable
from functools import cache, total_ordering
from typing import Final

__all__ = ["Specifier", "Version", "parse_specifiers", "satisfies"]

_MAX_LENGTH: Final = 200

#: Below and above every pre-release name, for a version that has none.
_BEFORE_PRE: Final = ("", 0)
_AFTER_PRE: Final = ("z", 0)

_PRE_NAMES: Final = {"alpha": "a", "beta": "b", "c": "rc", "pre": "rc", "preview": "rc"}


@cache
def _version_pattern() -> re.Pattern[str]:
    return re.compile(
        r"v?(?:(?P<epoch>[0-9]+)!)?(?P<release>[0-9]+(?:\.[0-9]+)*)"
        r"(?:[-_.]?(?P<pre>alpha|a|beta|b|preview|pre|c|rc)[-_.]?(?P<pre_n>[0-9]+)?)?"
        r"(?P<post>-(?P<post_n1>[0-9]+)|[-_.]?(?:post|rev|r)[-_.]?(?P<post_n2>[0-9]+)?)?"
        r"(?P<dev>[-_.]?dev[-_.]?(?P<dev_n>[0-9]+)?)?"
        r"(?:\+(?P<local>[a-z0-9]+(?:[-_.][a-z0-9]+)*))?\Z",
        re.IGNORECASE | re.ASCII,
    )


@total_ordering
class Version:
    """A PEP 440 version: parsed, normalised, ordered.

    Attributes:
        epoch: 0 unless stated.
        release: The numbers, as many as were stated.
        pre: ``("a" | "b" | "rc", number)`` or None.
        post: Post-release number or None.
        dev: Development-release number or None.
        local: Parts of the local version, numbers as numbers; empty when there is none.
        text: As it was stated.

    Raises:
        ValueError: The text is not a version; the message names it.
    """

    __slots__ = ("dev", "epoch", "key", "local", "post", "pre", "release", "text")

    def __init__(self, text: str) -> None:
        match = _version_pattern().match(text.strip()) if len(text) <= _MAX_LENGTH else None
        if match is None:
            raise ValueError(f"{text[:80]!r} is not a version")
        part = match.groupdict()
        self.text = text.strip()
        self.epoch = int(part["epoch"] or 0)
        self.release = tuple(int(number) for number in part["release"].split("."))
        pre = part["pre"]
        self.pre = None if pre is None else (_PRE_NAMES.get(pre.lower(), pre.lower()), int(part["pre_n"] or 0))
        self.post = None if part["post"] is None else int(part["post_n1"] or part["post_n2"] or 0)
        self.dev = None if part["dev"] is None else int(part["dev_n"] or 0)
        local = re.split(r"[-_.]", part["local"].lower()) if part["local"] else ()
        self.local = tuple(int(piece) if piece.isdigit() else piece for piece in local)
        self.key = self._key()

    def _key(self) -> tuple[object, ...]:
        """Order as PEP 440 does: 1.dev < 1a.dev < 1a < 1rc < 1 < 1+local < 1.post."""
        pre = self.pre or _AFTER_PRE
        if self.pre is None and self.post is None and self.dev is not None:
            pre = _BEFORE_PRE
        post = -1 if self.post is None else self.post
        dev = (1, 0) if self.dev is None else (0, self.dev)
        local = tuple((1, piece, "") if isinstance(piece, int) else (0, 0, piece) for piece in self.local)
        return (self.epoch, _stripped(self.release), pre, post, dev, local)

    @property
    def is_prerelease(self) -> bool:
        """True for alpha, beta, candidate and development releases."""
        return self.pre is not None or self.dev is not None

    @property
    def base(self) -> tuple[int, tuple[int, ...]]:
        """Epoch and release, with trailing zeros dropped."""
        return self.epoch, _stripped(self.release)

    @property
    def public_key(self) -> tuple[object, ...]:
        """The ordering key without the local part."""
        return (*self.key[:-1], ())

    def __eq__(self, other: object) -> bool:
        return self.key == other.key if isinstance(other, Version) else NotImplemented

    def __lt__(self, other: "Version") -> bool:
        return self.key < other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        text = f"{self.epoch}!" if self.epoch else ""
        text += ".".join(map(str, self.release))
        text += "".join(map(str, self.pre or ()))
        text += "" if self.post is None else f".post{self.post}"
        text += "" if self.dev is None else f".dev{self.dev}"
        return text + ("+" + ".".join(map(str, self.local)) if self.local else "")

    def __repr__(self) -> str:
        return f"Version({str(self)!r})"


def _stripped(release: tuple[int, ...]) -> tuple[int, ...]:
    end = len(release)
    while end > 1 and release[end - 1] == 0:
        end -= 1
    return release[:end]


class Specifier:
    """One clause of a specifier set, such as ``>=3.13`` or ``==1.*``.

    Raises:
        ValueError: The text is not a clause; the message names it.
    """

    __slots__ = ("operator", "text", "version", "wildcard")

    def __init__(self, text: str) -> None:
        match = _clause_pattern().match(text) if len(text) <= _MAX_LENGTH else None
        if match is None:
            raise ValueError(f"{text[:80]!r} is not a version specifier")
        self.operator, self.text = match.group(1), match.group(2)
        self.wildcard = self.operator in {"==", "!="} and self.text.endswith(".*")
        if self.operator == "===":
            self.version = None
            return
        self.version = Version(self.text.removesuffix(".*") if self.wildcard else self.text)
        if not self._is_sound(self.version):
            raise ValueError(f"{text[:80]!r} is not a version specifier")

    def _is_sound(self, version: Version) -> bool:
        """Refuse what PEP 440 gives no meaning: a local part to compare with, half a compatible release."""
        if self.wildcard:
            return not (version.local or version.is_prerelease or version.post is not None)
        if self.operator == "~=" and len(version.release) < 2:
            return False
        return self.operator in {"==", "!="} or not version.local

    def contains(self, version: Version) -> bool:
        """Say whether *version* meets the clause; a pre-release counts as the version it is."""
        wanted = self.version
        if wanted is None:
            return version.text.lower() == self.text.lower()
        if self.operator in {"==", "!="}:
            return self._equals(version, wanted) == (self.operator == "==")
        return _ORDERINGS[self.operator](version, wanted)

    def _equals(self, version: Version, wanted: Version) -> bool:
        if self.wildcard:
            return _starts_with(version, wanted, len(wanted.release))
        return version == wanted if wanted.local else version.public_key == wanted.key

    def __str__(self) -> str:
        return f"{self.operator}{self.text}"


@cache
def _clause_pattern() -> re.Pattern[str]:
    return re.compile(r"\s*(===|~=|==|!=|<=|>=|<|>)\s*([^\s,;)]+)\s*\Z", re.ASCII)


def _below(version: Version, wanted: Version) -> bool:
    """``<2`` does not mean the pre-releases of 2, nor ``<2.post1`` those of 2.post1."""
    if not version < wanted:
        return False
    if wanted.is_prerelease or not version.is_prerelease or version.base != wanted.base:
        return True
    return wanted.post is not None and (version.pre is not None or version.post != wanted.post)


def _above(version: Version, wanted: Version) -> bool:
    """``>2`` means neither the post-releases nor the local builds of 2."""
    is_its_build = bool(version.local) and version.public_key == wanted.key
    has_posts = wanted.post is None and wanted.dev is None
    is_its_post = has_posts and version.post is not None and (version.base, version.pre) == (wanted.base, wanted.pre)
    return version > wanted and not is_its_build and not is_its_post


def _compatible(version: Version, wanted: Version) -> bool:
    return version.public_key >= wanted.key and _starts_with(version, wanted, len(wanted.release) - 1)


_ORDERINGS: Final[dict[str, Callable[[Version, Version], bool]]] = {
    "<=": lambda version, wanted: version.public_key <= wanted.key,
    ">=": lambda version, wanted: version.public_key >= wanted.key,
    "<": _below,
    ">": _above,
    "~=": _compatible,
}


def _starts_with(version: Version, prefix: Version, count: int) -> bool:
    padded = version.release + (0,) * count
    return version.epoch == prefix.epoch and padded[:count] == prefix.release[:count]


def parse_specifiers(text: str) -> tuple[Specifier, ...]:
    """Return the clauses of a comma-separated set; empty when *text* is.

    Raises:
        ValueError: A clause is malformed; the message names it.
    """
    return tuple(Specifier(clause) for clause in text.split(",")) if text.strip() else ()


def satisfies(version: str, specifiers: str) -> bool:
    """Say whether *version* meets every clause of *specifiers*.

    Raises:
        ValueError: The version or a clause is malformed; the message names it.
    """
    parsed = Version(version)
    return all(clause.contains(parsed) for clause in parse_specifiers(specifiers))
