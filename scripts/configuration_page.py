"""Write the tables of docs/configuration.md from the settings' own models: ``python -m scripts.configuration_page``.

``--check`` changes nothing and exits 1 if it would.
"""

from __future__ import annotations

import sys
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from scripts.written_page import DOCS, WrittenPage

from oneiric.runtime.settings import OneiricSettings, setting_fields

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oneiric.runtime.settings import SettingField

#: Sections that are alike; the first one stands for all.
ALIKE: Final = ("adapters", "services", "tasks", "events", "workflows", "actions")


def tables() -> str:
    """Return a heading, a sentence and a table for each section."""
    return "\n".join(line for section, fields in _sections() for line in _table(section, fields))


def _sections() -> Iterator[tuple[str, list[SettingField]]]:
    for section, fields in groupby(setting_fields(), key=lambda field: str(field.path[0])):
        if section not in ALIKE[1:]:
            yield section, list(fields)


def _table(section: str, fields: list[SettingField]) -> Iterator[str]:
    names = ALIKE if section == ALIKE[0] else (section,)
    model: Any = OneiricSettings.model_fields[section].annotation
    yield "### " + " ".join(f"`{name}`" for name in names)
    yield ""
    if len(fields) > 1:
        yield (model.__doc__ or "").partition("\n\n")[0]
        yield ""
    yield "| setting | takes | default | environment | meaning |"
    yield "|---|---|---|---|---|"
    yield from (_row(field) for field in fields)
    yield ""


def _row(field: SettingField) -> str:
    variables = " ".join(f"`{variable}`" for variable in field.variables) or "-"
    also = f" Published name: `{'`, `'.join(field.aliases)}`." if field.aliases else ""
    meaning = f"{field.description}{also}".replace("|", "\\|")
    return f"| `{field.key}` | {field.type} | {_shown(field.default)} | {variables} | {meaning} |"


def _shown(default: Any) -> str:
    if default is None:
        return "not set"
    if default in ([], {}):
        return "none"
    if isinstance(default, list):
        return ", ".join("all defaults" if part == {} else str(part) for part in default)
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)


PAGE: Final = WrittenPage(
    path=DOCS / "configuration.md", script="configuration_page", sources="the models", write=tables
)

if __name__ == "__main__":
    sys.exit(PAGE.update(sys.argv[1:]))
