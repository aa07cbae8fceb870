"""What pydantic found, in words of our own: from the place and kind of a problem, never from the value."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from pydantic_core import ErrorDetails

from oneiric.core import Secret
from oneiric.core.errors import ConfigurationError
from oneiric.runtime.settings._model import OneiricSettings
from oneiric.runtime.settings._origin import Origin, Path, refuse, walk
from oneiric.runtime.settings._schema import nearest
from oneiric.runtime.settings._section import RULE
from oneiric.runtime.settings._template import SecretTemplate
from oneiric.runtime.settings._unknown import unknown_setting

__all__ = ["AUTHORED", "first_of", "located", "problems_in"]

_SENTENCES: Final = {
    "missing": "is required",
    "extra_forbidden": "is not a known setting",
    "string_type": "must be text",
    "dict_type": "must be a table of settings",
    "model_type": "must be a table of settings",
    "model_attributes_type": "must be a table of settings",
    "dataclass_type": "must be a table of settings",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "set_type": "must be a list",
    "finite_number": "must be a finite number",
    "int_from_float": "must be a whole number",
    "path_type": "must be a path",
    "url_type": "must be a URL",
    "url_parsing": "must be a URL",
    "none_required": "must be null",
}
_PREFIXES: Final = {
    "bool": "must be true or false",
    "int": "must be a whole number",
    "float": "must be a number",
}
#: Kinds whose context states a rule of the model, and never the value.
_RULES: Final = {
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
    "too_short": "must have at least {min_length} elements",
    "too_long": "must have at most {max_length} elements",
    "url_scheme": "must be a URL with scheme {expected_schemes}",
}
#: Kinds whose sentence was written by the model's author, who may have put the value into it.
AUTHORED: Final = frozenset({"value_error", "assertion_error"})


def problems_in(
    details: Iterable[ErrorDetails],
    *,
    annotation: Any,
    data: Any,
    base: Path = (),
    origin_of: Callable[[Path], Origin],
) -> list[ConfigurationError]:
    """Return an error for each setting that a validation refused.

    Args:
        details: From ``ValidationError.errors(include_input=False)``.
        annotation: The model.
        data: What was validated.
        base: Where *data* stands in the settings.
        origin_of: Tells where a value of the settings came from.
    """
    found: dict[Path, ErrorDetails] = {}
    for detail in details:
        found.setdefault(located(detail["loc"], data, detail["type"]), detail)
    problems = []
    for path, detail in found.items():
        problem, hint = _sentence(detail, data), None
        if detail["type"] == "extra_forbidden":
            is_ours = annotation is OneiricSettings
            problem, hint = unknown_setting(path) if is_ours else (problem, nearest(annotation, path, base))
        elif detail["type"] == "string_type" and isinstance(_at(data, path), bool | int | float):
            hint = "quote it"
        problems.append(refuse(problem, hint, (*base, *path), origin_of((*base, *path))))
    return problems


def first_of(problems: list[ConfigurationError]) -> ConfigurationError:
    """Return the first of several errors; it names the keys of the others."""
    first, others = problems[0], [problem.key for problem in problems[1:]]
    if not others:
        return first
    more = f" (and {len(others)} more: {', '.join(key for key in others[:3] if key)})"
    return ConfigurationError(first.args[0] + more, first.hint, first.file, first.line, first.key)


def _sentence(detail: ErrorDetails, data: Any) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in _SENTENCES:
        return _SENTENCES[kind]
    if kind in _RULES:
        return _RULES[kind].format_map(context)
    if kind == RULE:
        return detail["msg"]
    prefix, _, rest = kind.partition("_")
    if prefix in _PREFIXES and rest in {"type", "parsing", "parsing_size"}:
        return _PREFIXES[prefix]
    written = detail["msg"].partition(", ")[2]
    if kind in AUTHORED and written and not _echoes(written, data):
        return f"is refused: {written[:300]}"
    return f"is not valid ({kind})"


def _echoes(sentence: str, data: Any) -> bool:
    """Tell whether a sentence may repeat part of a value: four characters in a row, or a short value."""
    sentence = sentence.lower()
    for _, value in walk(data):
        if isinstance(value, dict | list | bool | SecretTemplate | None):
            continue
        text = (value.reveal() if isinstance(value, Secret) else str(value)).lower()
        pieces = {text[start : start + 4] for start in range(max(1, len(text) - 3))} if text else set()
        if any(piece in sentence for piece in pieces):
            return True
    return False


def located(loc: tuple[int | str, ...], data: Any, kind: str) -> Path:
    """Return the part of pydantic's location that is a path in the data: the rest names union branches."""
    path: list[str | int] = []
    for part in loc:
        is_place = isinstance(data, list | tuple) and isinstance(part, int) and part < len(data)
        if not is_place and not (isinstance(data, Mapping) and part in data):
            return (*path, part) if kind == "missing" and part == loc[-1] else tuple(path)
        data = data[part]
        path.append(part)
    return tuple(path)


def _at(data: Any, path: Path) -> Any:
    for part in path:
        data = data[part]
    return data
