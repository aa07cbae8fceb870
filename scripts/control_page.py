"""Write the operations of docs/control-api.md from the table of operations: ``python -m scripts.control_page``.

``--check`` changes nothing and exits 1 if it would.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from scripts.written_page import DOCS, WrittenPage

from oneiric.core import errors
from oneiric.runtime.control import API_PREFIX, OPERATIONS, Operation

if TYPE_CHECKING:
    from collections.abc import Iterator


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


PAGE: Final = WrittenPage(
    path=DOCS / "control-api.md", script="control_page", sources="the table or the models", write=operations
)

if __name__ == "__main__":
    sys.exit(PAGE.update(sys.argv[1:]))
