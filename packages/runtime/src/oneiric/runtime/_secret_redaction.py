"""Redaction: known secrets are found in text, in the forms in which they travel, and masked there.

What cannot be found this way: a secret shorter than `MIN_CHARACTERS`, one that was compressed or encrypted, one that
was cut. `Secret` itself keeps values out of what is printed; this is the second line, for the text of others.
"""

import dataclasses
import json
import threading
from base64 import b64encode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, quote_plus

from oneiric.core import Secret
from oneiric.core.errors import ConfigurationError

__all__ = ["MIN_CHARACTERS", "REDACTOR", "Redactor"]

MASK: Final = "***"
#: Shorter ones would be found everywhere in harmless text.
MIN_CHARACTERS: Final = 6
_MIN_LINE_CHARACTERS: Final = 16
_MAX_DEPTH: Final = 32
_HTML: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})

type _Span = tuple[int, int]


class Redactor:
    """Mask known secrets in text, and in mappings and lists of text.

    Found are the value itself and its forms in JSON, ``repr``, URLs, HTML, hexadecimal and base64, the last at any
    alignment, as in ``Basic`` credentials; of a value of several lines, each longer line. Safe to use from any thread.

    It holds what it masks, also after a rotation: an error that comes late may still show the old value.

    Args:
        max_secrets: How many are held; the one added longest ago goes first.

    Attributes:
        max_secrets: The same; another bound holds from the next `add` on.
    """

    # Without a __dict__, what dumps an object's attributes finds nothing here.
    __slots__ = ("_index", "_lock", "_secrets", "max_secrets")

    def __init__(self, *, max_secrets: int = 1024) -> None:
        self.max_secrets = max_secrets
        self._secrets: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()
        self._index: _Index | None = _Index(())

    def add(self, *secrets: Secret) -> None:
        """Mask *secrets* from now on. Shorter ones than `MIN_CHARACTERS` are left out."""
        values = [value for secret in secrets if len(value := _revealed(secret)) >= MIN_CHARACTERS]
        with self._lock:
            for value in values:
                if value not in self._secrets:
                    self._index = None
                self._secrets[value] = None
                self._secrets.move_to_end(value)
            while len(self._secrets) > self.max_secrets:
                self._secrets.popitem(last=False)
                self._index = None

    def collect(self, *values: object) -> None:
        """Mask every `Secret`, and pydantic's, that lies in *values*: in models, dataclasses, mappings and lists."""
        self.add(*_secrets_in(values))

    def mask[T](self, value: T) -> T:
        """Return *value* with every known secret masked; it is *value* itself where there is none.

        Text, bytes, mappings, lists, tuples and sets are looked through; anything else is returned as it is.
        """
        index = self._current()
        masked: T = _masked(value, index, 0) if index.forms else value
        return masked

    def finds(self, text: str) -> bool:
        """Say whether a known secret is in *text*."""
        return bool(self._current().spans(text))

    def _current(self) -> "_Index":
        index = self._index
        if index is None:
            with self._lock:
                index = self._index = self._index or _Index(self._secrets)
        return index

    def __len__(self) -> int:
        return len(self._secrets)

    def __repr__(self) -> str:
        return f"<Redactor of {len(self)} secrets>"


class _Index:
    """The forms of some secrets, found in text."""

    __slots__ = ("_by_head", "_shortest", "forms")

    def __init__(self, values: Any) -> None:
        self.forms = tuple({form for value in values for form in _forms(value)})
        self._shortest = min(map(len, self.forms), default=0)
        self._by_head: dict[str, list[str]] = {}
        for form in self.forms:
            self._by_head.setdefault(form[:MIN_CHARACTERS], []).append(form)

    def spans(self, text: str) -> list[_Span]:
        size = len(text)
        if size < self._shortest:
            return []
        # Few forms: a search for each. Many: a lookup at each character, whatever their number.
        is_many = len(self.forms) * (1200 + size) > 720 * size
        return sorted(self._by_character(text) if is_many else self._by_form(text))

    def _by_form(self, text: str) -> Iterator[_Span]:
        for form in self.forms:
            at = text.find(form)
            while at >= 0:
                yield at, at + len(form)
                at = text.find(form, at + 1)

    def _by_character(self, text: str) -> Iterator[_Span]:
        by_head = self._by_head
        for at in range(len(text) - MIN_CHARACTERS + 1):
            for form in by_head.get(text[at : at + MIN_CHARACTERS], ()):
                if text.startswith(form, at):
                    yield at, at + len(form)

    def mask(self, text: str) -> str:
        spans = self.spans(text)
        if not spans:
            return text
        merged: list[_Span] = []
        for start, end in spans:
            if merged and start <= merged[-1][1]:
                start, end = merged[-1][0], max(end, merged.pop()[1])  # noqa: PLW2901 - what overlaps is one
            merged.append((start, end))
        parts: list[str] = []
        done = 0
        for start, end in merged:
            parts += (text[done:start], MASK)
            done = end
        return "".join((*parts, text[done:]))


def _masked(value: Any, index: _Index, depth: int) -> Any:
    if isinstance(value, str):
        return index.mask(value)
    if isinstance(value, bytes | bytearray):
        text = value.decode("utf-8", "surrogateescape")
        masked = index.mask(text)
        return value if masked is text else type(value)(masked.encode("utf-8", "surrogateescape"))
    if not isinstance(value, Mapping | list | tuple | set | frozenset):
        return value
    if depth >= _MAX_DEPTH:
        return "…"  # deeper than any log line that was meant, or a loop
    if isinstance(value, Mapping):
        return {_masked(name, index, depth + 1): _masked(below, index, depth + 1) for name, below in value.items()}
    kind = next(kind for kind in (list, tuple, set, frozenset) if isinstance(value, kind))
    return kind(_masked(below, index, depth + 1) for below in value)


def _forms(value: str) -> Iterator[str]:
    lines = [line.strip() for line in value.splitlines()] if "\n" in value else []
    for text in (value, *(line for line in lines if len(line) >= _MIN_LINE_CHARACTERS)):
        for form in (*_written(text), *_encoded(text.encode("utf-8", "surrogatepass"))):
            if len(form) >= MIN_CHARACTERS:
                yield form


def _written(text: str) -> Iterator[str]:
    in_json = json.dumps(text)[1:-1]
    yield from (text, in_json, json.dumps(in_json)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1])
    yield from (repr(text)[1:-1], text.translate(_HTML))
    data = text.encode("utf-8", "surrogatepass")
    for quoted in (quote(data, safe=""), quote(data), quote_plus(data)):
        yield quoted
        # Only what follows a percent sign: the rest is text, whose case matters.
        yield "%".join(
            part if not place else part[:2].lower() + part[2:] for place, part in enumerate(quoted.split("%"))
        )


def _encoded(data: bytes) -> Iterator[str]:
    yield from (repr(data)[2:-1], data.hex(), data.hex().upper())
    for before in range(3):
        # The characters that depend on the secret alone, whatever stands before and after it in the encoded bytes.
        cut = (0, 2, 3)[before]
        ends_within = (before + len(data)) % 3 != 0
        for encode in (b64encode, urlsafe_b64encode):
            text = encode(b"\0" * before + data).decode("ascii").rstrip("=")
            yield text[cut : len(text) - ends_within]


def _revealed(secret: Secret) -> str:
    try:
        return secret.reveal()
    except ConfigurationError:
        return ""  # a template, whose secrets are not fetched yet: they come by themselves


_PLAIN: Final = frozenset({str, int, float, bool, bytes, type(None)})


def _secrets_in(value: Any) -> Iterator[Secret]:
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        value = waiting.pop()
        kind = type(value)
        if kind in _PLAIN:  # nearly everything there is in settings
            continue
        if isinstance(value, Secret):
            yield value
        elif hasattr(kind, "get_secret_value"):
            found = value.get_secret_value()
            if isinstance(found, str):
                yield Secret(found)
        elif id(value) not in seen:
            seen.add(id(value))
            waiting += _members(value)


def _members(value: Any) -> list[Any]:
    if isinstance(value, dict | Mapping):
        return list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, type):
        return []
    if hasattr(type(value), "model_fields"):  # a pydantic model; nothing is imported to say so
        return list(vars(value).values())
    if dataclasses.is_dataclass(value):
        return [getattr(value, field.name) for field in dataclasses.fields(value) if hasattr(value, field.name)]
    return []


#: The process's own: its log is one, whoever writes to it, and masks by this.
REDACTOR: Final = Redactor()
