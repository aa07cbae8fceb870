"""Write the tables of docs/configuration.md from the settings' own models, so that the page cannot fall behind.

Everything between the two markers is replaced; ``--check`` changes nothing and exits 1 if it would.
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oneiric.runtime.settings import OneiricSettings, setting_fields

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oneiric.runtime.settings import SettingField

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"
BEGIN: Final = "<!-- Written by scripts/configuration_page.py: change the models instead. -->"
END: Final = "<!-- End of what scripts/configuration_page.py writes. -->"
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


def written(page: str) -> str:
    """Return the page with its tables as they should be.

    Raises:
        ValueError: The page has not exactly one pair of markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} has lost its markers: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


def main(arguments: list[str]) -> int:
    """Write the page, or check it; return the exit code."""
    page = PAGE.read_text(encoding="utf-8")
    wanted = written(page)
    if "--check" in arguments:
        if page != wanted:
            print(
                "docs/configuration.md is behind the models. Try: python scripts/configuration_page.py", file=sys.stderr
            )
        return int(page != wanted)
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
