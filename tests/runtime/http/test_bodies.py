"""Bodies and queries: strict JSON and known fields, or a refusal that says what is wrong and never what was sent."""

import json
from typing import Any

import pytest

from oneiric.runtime.control import API_PREFIX

from .conftest import Serve

SWAP = f"{API_PREFIX}/swap"
JSON = {"Content-Type": "application/json"}
GOOD = '{"domain": "adapter", "key": "cache"}'

BODIES: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", 400),
    "no JSON": (b"domain=adapter", 400),
    "half": (GOOD[:-1].encode(), 400),
    "two documents": (GOOD.encode() * 2, 400),
    "a comment": (b"{} // x", 400),
    "a trailing comma": (b'{"domain": "adapter",}', 400),
    "single quotes": (b"{'domain': 'adapter'}", 400),
    "a key twice": (b'{"domain": "adapter", "key": "cache", "domain": "service"}', 400),
    "a key twice below": (b'{"domain": {"a": 1, "a": 2}}', 400),
    "NaN": (b'{"domain": NaN}', 400),
    "Infinity": (b'{"domain": -Infinity}', 400),
    "a number beyond all": (b'{"domain": 1e999}', 400),
    "a number of many digits": (b'{"domain": ' + b"9" * 10_000 + b"}", 400),
    "depth 33": (b'{"domain": ' + b"[" * 32 + b"]" * 32 + b"}", 400),
    "depth 100000": (b"[" * 100_000, 400),
    "objects 100000 deep": (b'{"a":' * 100_000, 400),
    "UTF-16": (GOOD.encode("utf-16"), 400),
    "a byte order mark": (b"\xef\xbb\xbf" + GOOD.encode(), 400),
    "bytes that are no text": (b'{"domain": "\xff\xfe"}', 400),
    "a control character": (b'{"domain": "a\nb"}', 400),
    "a list": (b"[]", 422),
    "a string": (b'"adapter"', 422),
    "null": (b"null", 422),
    "depth 32": (b'{"domain": ' + b"[" * 31 + b"]" * 31 + b"}", 422),
    "an empty object": (b"{}", 422),
    "a number for a text": (b'{"domain": 1, "key": "cache"}', 422),
    "a text for a truth": (b'{"domain": "adapter", "key": "cache", "force": "yes"}', 422),
    "an unknown field": (b'{"domain": "adapter", "key": "cache", "provdier": "x"}', 422),
    "a name that cannot be": (b'{"domain": "adapter", "key": "../../etc/passwd"}', 422),
    "a name with a line break": (b'{"domain": "adapter\\n", "key": "cache"}', 422),
    "a name with a NUL": (b'{"domain": "adapter", "key": "ca\\u0000che"}', 422),
    "half a character": (b'{"domain": "adapter", "key": "cache", "by": "\\ud800"}', 422),
    "half a character as a field": (b'{"\\ud800": 1}', 422),
    "much too long": (b'{"domain": "adapter", "key": "' + b"a" * 10_000 + b'"}', 422),
}


@pytest.mark.parametrize(("body", "status"), BODIES.values(), ids=BODIES)
async def test_a_body_that_is_wrong_is_refused_and_changes_nothing(serve: Serve, body: bytes, status: int) -> None:
    async with serve() as system:
        answer = await system.ask("POST", SWAP, content=body, headers=JSON)
        statuses = system.plane.lifecycle.all_statuses()

    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (status, "InvalidRequest")
    assert set(error) == {"type", "message", "hint"}
    assert len(answer.content) < 2000
    assert statuses == ()


@pytest.mark.parametrize(
    "kind",
    [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml", ""],
)
async def test_what_a_page_can_send_without_asking_is_refused(serve: Serve, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    async with serve() as system:
        answer = await system.ask("POST", SWAP, content=GOOD, headers=headers)

    assert (answer.status_code, answer.json()["error"]["type"]) == (415, "UnsupportedMediaType")


async def test_a_compressed_body_is_refused(serve: Serve) -> None:
    async with serve() as system:
        answer = await system.ask("POST", SWAP, content=GOOD, headers=JSON | {"Content-Encoding": "gzip"})

    assert answer.status_code == 415


async def test_the_charset_may_be_named(serve: Serve) -> None:
    async with serve() as system:
        headers = {"Content-Type": "Application/JSON; charset=utf-8"}
        assert (await system.ask("POST", SWAP, content=GOOD, headers=headers)).status_code == 200


async def test_what_was_sent_is_not_said_back(serve: Serve) -> None:
    body: dict[str, Any] = {"domain": "S3CR3T one", "key": "S3CR3T two", "by": 7, "until": "S3CR3T three"}
    async with serve() as system:
        answer = await system.ask("POST", f"{API_PREFIX}/pause", json=body)

    assert answer.status_code == 422
    assert "S3CR3T" not in answer.text
    assert "until: Input should be a valid number" in answer.json()["error"]["message"]
    assert "S3CR3T" not in str(system.lines)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("domain=adapter&key=cache", 200),
        ("domain=adapter&key=cache&capabilities=a&capabilities=b&require_all=false", 200),
        ("domain=adapter&key=cache&at=1e3", 200),
        ("domain=adapter&key=cache&at=nan", 422),
        ("domain=adapter&key=cache&at=inf", 422),
        ("domain=adapter&key=cache&at=-1", 422),
        ("domain=adapter", 422),
        ("domain=adapter&key=", 422),
        ("domain=adapter&key=cache&key=cache", 400),
        ("domain=adapter&key=cache&nope=1", 422),
        ("domain=adapter&key=%FF", 400),
        ("domain=adapter&key=%00", 422),
        ("&".join(f"a{n}=1" for n in range(300)), 400),
        ("domain=adapter&key=cache&" + "capabilities=a&" * 150, 422),
    ],
)
async def test_a_query_is_read_strictly(serve: Serve, query: str, status: int) -> None:
    async with serve() as system:
        answer = await system.ask("GET", f"{API_PREFIX}/explain?{query}")

    assert answer.status_code == status, answer.text


async def test_a_get_with_a_body_and_a_post_with_a_query_are_refused(serve: Serve) -> None:
    async with serve() as system:
        get = await system.ask("GET", f"{API_PREFIX}/status", content=b"{}")
        post = await system.ask("POST", f"{SWAP}?force=true", content=GOOD, headers=JSON)

    assert (get.status_code, post.status_code) == (400, 400)


async def test_numbers_that_json_knows_are_taken(serve: Serve) -> None:
    body = {"domain": "adapter", "key": "cache", "until": 2_000_000_000}
    async with serve() as system:
        answer = await system.ask("POST", f"{API_PREFIX}/pause", content=json.dumps(body), headers=JSON)

    assert answer.json()["until"] == 2_000_000_000
