"""The published description of the control API: OpenAPI 3.1, made from the table of operations."""

from typing import Any, Final

from pydantic import BaseModel

from oneiric.runtime.control import API_PREFIX, OPERATIONS, Operation

__all__ = ["openapi_document"]

_ERRORS: Final = {
    "400": "The request cannot be read.",
    "401": "Authentication is required.",
    "403": "This caller, host name or origin is refused.",
    "404": "There is no such path, key or provider.",
    "405": "The path is asked with another method.",
    "408": "The request took too long to arrive.",
    "409": "The running system cannot be changed as asked; what served before serves on.",
    "413": "The body is too long.",
    "415": "The body is no plain JSON.",
    "422": "A field is wrong.",
    "431": "The head is too long, or holds too many headers.",
    "500": "Something failed inside; the log says what, under the id in the message.",
    "503": "Not now: a store, a secret source or a slot is unavailable, or too much is asked at once.",
}
_ERROR_SCHEMA: Final = {
    "type": "object",
    "required": ["error"],
    "additionalProperties": False,
    "properties": {
        "error": {
            "type": "object",
            "required": ["type", "message", "hint"],
            "additionalProperties": False,
            "properties": {
                "type": {"type": "string", "description": "A class of oneiric.core.errors, or the server's own."},
                "message": {"type": "string"},
                "hint": {"type": ["string", "null"], "description": "What to try."},
            },
        }
    },
}
_SECURITY: Final = {
    "hmac": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Oneiric-Signature",
        "description": "HMAC-SHA256 with X-Oneiric-Key, X-Oneiric-Timestamp and X-Oneiric-Nonce.",
    },
    "oidc": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
}
_TEMPLATE: Final = "#/components/schemas/{model}"


def openapi_document() -> dict[str, Any]:
    """Return the document; the same table always makes the same one."""
    schemas: dict[str, Any] = {"Error": _ERROR_SCHEMA}
    paths: dict[str, Any] = {}
    for operation in sorted(OPERATIONS, key=lambda each: (each.path, each.method)):
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Oneiric control API",
            "version": "1",
            "description": "Ask and change a running system.",
            "license": {"name": "BSD-3-Clause", "identifier": "BSD-3-Clause"},
        },
        "servers": [{"url": API_PREFIX}],
        # The empty one: over the control socket, and on loopback where http.auth.kind is none.
        "security": [{}, {"hmac": []}, {"oidc": []}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": _SECURITY,
            "responses": {
                f"Error{status}": {
                    "description": meaning,
                    "content": {"application/json": {"schema": {"$ref": _TEMPLATE.format(model="Error")}}},
                }
                for status, meaning in _ERRORS.items()
            },
        },
    }


def _described(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    kind = "text/event-stream" if operation.streams else "application/json"
    answer = {"schema": _schema(operation.response, schemas)}
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "x-changes": operation.changes,
        "responses": {
            "200": {"description": (operation.response.__doc__ or "").strip(), "content": {kind: answer}},
            **{status: {"$ref": f"#/components/responses/Error{status}"} for status in _ERRORS},
        },
    }
    asked = _schema(operation.request, schemas)
    if operation.method == "POST":
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": asked}}}
    else:
        described["parameters"] = _parameters(schemas.pop(operation.request.__name__))
    return described


def _schema(model: type[BaseModel], schemas: dict[str, Any]) -> dict[str, str]:
    stated = model.model_json_schema(ref_template=_TEMPLATE)
    schemas |= stated.pop("$defs", {})
    schemas[model.__name__] = stated
    return {"$ref": _TEMPLATE.format(model=model.__name__)}


def _parameters(stated: dict[str, Any]) -> list[dict[str, Any]]:
    required = stated.get("required", [])
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            "description": schema.get("description", ""),
            "schema": {field: value for field, value in schema.items() if field != "description"},
        }
        for name, schema in stated.get("properties", {}).items()
    ]
