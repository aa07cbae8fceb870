"""Documents of secrets: JSON or TOML text to a flat mapping of ids to values. No file is opened here.

Parsers quote what they could not read, and some keep the whole text on their error; so nothing of theirs is passed on,
neither their message nor, as a cause, their error.
"""

import json
import tomllib
from collections.abc import Iterator
from typing import Any, Final

from oneiric.adapters.secrets._ids import is_id
from oneiric.core import Secret
from oneiric.core.errors import ConfigurationError

__all__ = ["parse_document"]

_MAX_DEPTH: Final = 16


class _DuplicateError(ValueError):
    pass


def parse_document(data: bytes, kind: str, file: str) -> dict[str, Secret]:
    """Return the secrets of a document; tables within tables are joined by ``/``, empty values left out.

    Args:
        data: The document.
        kind: ``"json"`` or ``"toml"``.
        file: Its name, for errors.

    Raises:
        ConfigurationError: It cannot be read, holds an id twice, a malformed id or something else than strings.
    """
    read, problem = _read(data, kind)
    if problem is not None:
        raise ConfigurationError(f"{problem} (nothing of the file is shown)", f"one {kind} document", file)
    if not isinstance(read, dict):
        raise ConfigurationError("is no object of ids and values", '{"db/password": "…"}', file)
    found: dict[str, Secret] = {}
    for secret_id, value in _flat(read, "", file, 1):
        if secret_id in found:
            raise ConfigurationError(f"holds secret {secret_id!r} twice", "keep one", file)
        if value:
            found[secret_id] = Secret(value)
    return found


def _read(data: bytes, kind: str) -> tuple[Any, str | None]:
    try:
        text = data.decode("utf-8")
        read = tomllib.loads(text) if kind == "toml" else json.loads(text, object_pairs_hook=_object)
        return read, None
    except UnicodeDecodeError:
        problem = "is not UTF-8"
    except _DuplicateError:
        problem = "holds one name twice"
    except json.JSONDecodeError as error:
        problem = f"is no JSON: line {error.lineno}, column {error.colno}"
    except ValueError:  # tomllib's own is one
        problem = f"is no {kind.upper()}"
    except RecursionError:
        problem = "is nested too deeply"
    return None, problem


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise _DuplicateError
    return made


def _flat(table: dict[str, Any], prefix: str, file: str, depth: int) -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        secret_id = f"{prefix}{name}"
        if not is_id(secret_id):
            # A name is shown no more than a value: one who wrote them the wrong way round would find it in a log.
            raise ConfigurationError(
                f"holds a malformed id, below {prefix or 'the top'!r}", "ids such as db/password", file
            )
        if isinstance(value, dict):
            if depth >= _MAX_DEPTH:
                raise ConfigurationError(f"is nested past {_MAX_DEPTH} levels", "fewer levels", file)
            yield from _flat(value, f"{secret_id}/", file, depth + 1)
        elif isinstance(value, str):
            yield secret_id, value
        else:
            found = type(value).__name__
            raise ConfigurationError(f"secret {secret_id!r} is no string but {found}", "put it in quotes", file)
