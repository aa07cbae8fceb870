"""What is published is what is served: the OpenAPI document, the page, and the answers themselves."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from scripts.control_page import PAGE

from oneiric.core import Secret
from oneiric.runtime.control import API_PREFIX, OPERATIONS, HmacSigner, Operation, string_to_sign
from oneiric.runtime.control._signing import signature_of
from oneiric.runtime.http.openapi import openapi_document

from .conftest import Serve

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = openapi_document()
SLOT = {"domain": "adapter", "key": "cache"}
CALLED = [operation for operation in OPERATIONS if not operation.streams]


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (str(node["$ref"]) for _ in [0] if "$ref" in node)
        for inner in node.values():
            yield from references(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from references(inner)


def at(pointer: str) -> Any:
    found: Any = DOCUMENT
    for part in pointer.removeprefix("#/").split("/"):
        found = found[part]
    return found


def schema_of(*path: str) -> dict[str, Any]:
    """A schema of the document, with the document's own schemas to refer to."""
    found: Any = DOCUMENT
    for part in path:
        found = found[part]
    return {**found, "components": DOCUMENT["components"]}


def test_it_is_a_whole_document() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    assert DOCUMENT["info"]["title"]
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT
    assert openapi_document() == DOCUMENT


def test_every_reference_leads_somewhere_and_every_schema_is_one() -> None:
    for pointer in set(references(DOCUMENT)):
        assert at(pointer)
    for name, schema in DOCUMENT["components"]["schemas"].items():
        assert not name.startswith("_"), "a name that only the source knows"
        Draft202012Validator.check_schema(schema)


def test_every_schema_is_used() -> None:
    used = {pointer.rpartition("/")[2] for pointer in references(DOCUMENT)}

    assert set(DOCUMENT["components"]["schemas"]) <= used


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.name)
def test_every_operation_is_described(operation: Operation) -> None:
    described = DOCUMENT["paths"][operation.path][operation.method.lower()]

    assert (described["operationId"], described["summary"]) == (operation.name, operation.summary)
    assert ("requestBody" in described) == (operation.method == "POST")
    if operation.method == "GET":
        assert {each["name"] for each in described["parameters"]} == set(operation.request.model_fields)
    assert {"200", "400", "401", "403", "404", "405", "408", "409", "413", "415", "422", "431", "500"} <= set(
        described["responses"]
    )


@pytest.mark.parametrize("operation", CALLED, ids=lambda each: each.name)
async def test_answers_and_errors_are_as_published(serve: Serve, operation: Operation) -> None:
    fields: Any = {name: value for name, value in SLOT.items() if name in operation.request.model_fields}
    async with serve() as system:
        await system.plane.lifecycle.activate("adapter", "cache")
        path = f"{API_PREFIX}{operation.path}"
        travel = "json" if operation.method == "POST" else "params"
        right: dict[str, Any] = {travel: fields}
        wrong: dict[str, Any] = {travel: {**fields, "nope": "1"}}
        good = await system.ask(operation.method, path, **right)
        bad = await system.ask(operation.method, path, **wrong)

    method = operation.method.lower()
    published = ("paths", operation.path, method, "responses", "200", "content", "application/json", "schema")
    Draft202012Validator(schema_of(*published)).validate(good.json())
    assert bad.status_code == 422
    Draft202012Validator(schema_of("components", "schemas", "Error")).validate(bad.json())


async def test_it_is_served_as_it_is_made(serve: Serve) -> None:
    async with serve() as system:
        answer = await system.ask("GET", f"{API_PREFIX}/openapi.json")

    assert answer.json() == DOCUMENT


def test_the_page_holds_every_operation_as_it_is() -> None:
    assert PAGE.update(["--check"]) == 0


def test_the_pages_signature_is_the_one_the_client_makes() -> None:
    page = (ROOT / "docs" / "control-api.md").read_text(encoding="utf-8")
    body = b'{"domain": "adapter", "key": "cache"}'
    text = string_to_sign(
        method="POST", target="/api/v1/swap", body=body, timestamp="1700000000", nonce="a-nonce-of-my-own"
    )

    assert signature_of(text, Secret("0123456789abcdef")) in page
    assert set(HmacSigner("ops", Secret("x" * 16)).headers("GET", "/", b"")) == {
        name
        for name in ("X-Oneiric-Key", "X-Oneiric-Timestamp", "X-Oneiric-Nonce", "X-Oneiric-Signature")
        if name in page
    }
