"""The control API: each operation of the table as a route; requests in, models checked, answers out."""

import json
from typing import Any, Final, get_origin
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from oneiric.runtime.control import API_PREFIX, OPERATIONS, ControlPlane, Operation
from oneiric.runtime.http._asgi import ASGIApp, Receive, RefusalError, Scope, Send, header
from oneiric.runtime.http._auth import Identity
from oneiric.runtime.http._events import EventStream
from oneiric.runtime.http._json import parse_body
from oneiric.runtime.http._scope import IDENTITY

__all__ = ["Api"]

_MOST_FIELDS: Final = 200
_MOST_PROBLEMS: Final = 5
#: Streams that are sent at once; each holds a connection.
_MOST_STREAMS: Final = 32


class Api:
    """An ASGI application of the operations, for requests that were let in.

    Args:
        plane: What answers.
        heartbeat_seconds: How often a stream without events says that it is alive.
    """

    def __init__(self, plane: ControlPlane, *, heartbeat_seconds: float) -> None:
        self._plane, self._heartbeat_seconds = plane, heartbeat_seconds
        self._openapi: bytes | None = None
        self._streams = 0
        routes = [self._route(operation) for operation in OPERATIONS]
        routes.append(Route(f"{API_PREFIX}/openapi.json", self._describe, methods=["GET"]))
        self._router = Router(routes=routes, redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request.

        Raises:
            RefusalError: There is no such route, or the request is wrong.
            OneiricError: What the operation raised.
        """
        scope["app"] = self  # what is not found is raised then, and answered like every other error
        try:
            await self._router(scope, receive, send)
        except HTTPException as error:
            raise _refusal(error) from error

    def _route(self, operation: Operation) -> Route:
        async def endpoint(request: Request) -> Any:
            return await self._answer(operation, request)

        return Route(f"{API_PREFIX}{operation.path}", endpoint, methods=[operation.method], name=operation.name)

    async def _answer(self, operation: Operation, request: Request) -> ASGIApp:
        if request.method == "HEAD":
            raise RefusalError(405, "HEAD is not served here", f"{operation.method}", {"Allow": operation.method})
        asked = await _asked(operation, request)
        if operation.streams:
            return self._stream(asked)
        answer: BaseModel = await getattr(self._plane, operation.name)(asked)
        body = json.dumps(answer.model_dump(), allow_nan=False, default=str)
        return Response(body, media_type="application/json")

    def _stream(self, asked: Any) -> ASGIApp:
        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if self._streams >= _MOST_STREAMS:
                raise RefusalError(503, "too many streams are open", "try again later", {"Retry-After": "5"})
            self._streams += 1
            try:
                stream = EventStream(self._plane.events(asked), heartbeat_seconds=self._heartbeat_seconds)
                await stream(scope, receive, send)
            finally:
                self._streams -= 1

        return counted

    async def _describe(self, request: Request) -> Response:
        if request.method == "HEAD":
            raise RefusalError(405, "HEAD is not served here", "GET", {"Allow": "GET"})
        if self._openapi is None:
            from oneiric.runtime.http.openapi import openapi_document  # noqa: PLC0415 - few ask for it

            self._openapi = json.dumps(openapi_document()).encode()
        return Response(self._openapi, media_type="application/json")


async def _asked(operation: Operation, request: Request) -> BaseModel:
    """Return the request as its model.

    Raises:
        RefusalError: Its form is wrong (400, 415), or a field is (422).
    """
    is_post = operation.method == "POST"
    fields = await _body_fields(request) if is_post else await _query_fields(operation, request)
    if operation.streams and "after" not in fields:
        after = header(request.scope, b"last-event-id")
        fields |= {} if after is None else {"after": after}
    try:
        # JSON says what is a number; a query is text, and is read.
        asked = operation.request.model_validate(fields, strict=is_post)
    except ValidationError as error:
        raise RefusalError(422, f"{operation.name}: {_problems(error)}", f"GET {API_PREFIX}/openapi.json") from None
    return asked.model_copy(update={"by": _named(asked, request)}) if operation.changes else asked


def _named(asked: Any, request: Request) -> str:
    """Return who asks, for explanations and logs: over the network never only who they say they are."""
    identity: Identity = request.scope["state"][IDENTITY]
    if identity.via == "socket":
        return str(asked.by or identity)
    return f"{asked.by} ({identity})" if asked.by else str(identity)


async def _body_fields(request: Request) -> dict[str, Any]:
    if request.scope["query_string"]:
        raise RefusalError(400, "the fields travel in the body, and a query was given", "a JSON object as the body")
    kind = (header(request.scope, b"content-type") or "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusalError(415, f"the body must be application/json, not {kind[:100] or 'unnamed'!r}", "Content-Type")
    if (header(request.scope, b"content-encoding") or "identity").lower() != "identity":
        raise RefusalError(415, "the body must not be compressed", "no Content-Encoding")
    return parse_body(await request.body())


async def _query_fields(operation: Operation, request: Request) -> dict[str, Any]:
    if await request.body():
        raise RefusalError(400, "the fields travel in the query, and a body was given", "no body")
    try:
        query = request.scope["query_string"].decode("ascii")
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise RefusalError(400, "the query cannot be read", "name=value&name=value, percent-encoded UTF-8") from None
    fields: dict[str, Any] = {}
    for name, value in pairs:
        stated = operation.request.model_fields.get(name)
        if stated is not None and get_origin(stated.annotation) is list:
            fields.setdefault(name, []).append(value)
        elif name in fields:
            raise RefusalError(400, f"the query gives {name[:100]!r} twice", "give it once")
        else:
            fields[name] = value
    return fields


def _problems(error: ValidationError) -> str:
    """Return what is wrong with which fields; never what they hold."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    said = [f"{'.'.join(str(part)[:100] for part in each['loc']) or 'request'}: {each['msg']}" for each in found]
    more = f"; and {len(said) - _MOST_PROBLEMS} more" if len(said) > _MOST_PROBLEMS else ""
    return "; ".join(said[:_MOST_PROBLEMS]) + more


def _refusal(error: HTTPException) -> RefusalError:
    if error.status_code == 405:
        return RefusalError(405, "this path is asked with another method", None, error.headers)
    if error.status_code == 404:
        return RefusalError(404, "there is no such operation", f"GET {API_PREFIX}/openapi.json")
    return RefusalError(error.status_code, str(error.detail), None, error.headers)
