"""Write the operations of docs/control-api.md from the table of operations, so that the page cannot fall behind.

Everything between the two markers is replaced; ``--check`` changes nothing and exits 1 if it would.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oneiric.core import errors
from oneiric.runtime.control import API_PREFIX, OPERATIONS, Operation

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "control-api.md"
BEGIN: Final = "<!-- Written by scripts/control_page.py: change the table or the models instead. -->"
END: Final = "<!-- End of what scripts/control_page.py writes. -->"


def operations() -> str:
    """Return a table of all operations, then a section for each."""
    return "\n".join([*_overview(), *(line for operation in OPERATIONS for line in _section(operation))])


def _overview() -> Iterator[str]:
    yield "| operation | request | changes | what it does |"
    yield "|---|---|---|---|"
    for each in OPERATIONS:
        changes = "yes" if each.changes else "-"
        request = f"{each.method} {API_PREFIX}{each.path}"
        yield f"| [`{each.name}`](#{each.name}) | `{request}` | {changes} | {each.summary} |"
    yield ""


def _section(operation: Operation) -> Iterator[str]:
    yield f"### {operation.name}"
    yield ""
    yield f"`{operation.method} {API_PREFIX}{operation.path}`: {operation.summary}"
    yield ""
    if operation.errors:
        stated = (f"`{name}` ({getattr(errors, name).http_status})" for name in operation.errors)
        yield f"May answer {', '.join(stated)}."
        yield ""
    yield from _fields("field", operation.request.model_json_schema(), is_request=True)
    yield from _fields("answer", operation.response.model_json_schema(), is_request=False)


def _fields(title: str, schema: dict[str, Any], *, is_request: bool) -> Iterator[str]:
    properties = schema.get("properties", {})
    if not properties:
        return
    required = set(schema.get("required", ()))
    yield f"| {title} | takes | meaning |" if is_request else f"| {title} | is | meaning |"
    yield "|---|---|---|"
    for name, stated in properties.items():
        must = " (required)" if is_request and name in required else ""
        meaning = stated.get("description") or "-"
        yield f"| `{name}`{must} | {_type(stated)} | {meaning} |".replace("\\|", "|")
    yield ""


def _type(stated: dict[str, Any]) -> str:
    if "anyOf" in stated:
        return " or ".join(_type(each) for each in stated["anyOf"])
    if "$ref" in stated:
        return f"`{stated['$ref'].rpartition('/')[2]}`"
    if "const" in stated:
        return f"`{str(stated['const']).lower()}`"
    if "enum" in stated:
        return ", ".join(f"`{each}`" for each in stated["enum"])
    if stated.get("type") == "array":
        return f"list of {_type(stated.get('items', {}))}"
    return str(stated.get("type", "anything"))


def written(page: str) -> str:
    """Return the page with its tables as they should be.

    Raises:
        ValueError: The page has not exactly one pair of markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} has lost its markers: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{operations()}\n{END}{after}"


def main(arguments: list[str]) -> int:
    """Write the page, or check it; return the exit code."""
    page = PAGE.read_text(encoding="utf-8")
    wanted = written(page)
    if "--check" in arguments:
        if page != wanted:
            print("docs/control-api.md is behind the table. Try: python scripts/control_page.py", file=sys.stderr)
        return int(page != wanted)
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
