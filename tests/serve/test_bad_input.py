"""What a server on the open net gets: it is refused in the API's words, quickly enough, and leaves nothing held."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from tests import waiting
from tests.serve.serving import connected, posted, scripted_app, serving

PATH = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]
ASK: dict[str, Any] = {"model": "scripted", "messages": HELLO}


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return scripted_app()


@pytest.fixture(scope="module")
def url(app: FastAPI) -> Iterator[str]:
    with serving(lambda: app) as url:
        yield url


@pytest.fixture(autouse=True)
def nothing_is_held(app: FastAPI, url: str) -> Iterator[None]:
    """After each of them nobody is in the line, and the next one is answered."""
    yield
    waiting.until(lambda: not sum(map(len, app.state.server.line.counts())))
    assert httpx2.post(url + PATH, json=ASK | {"max_tokens": 2}, timeout=60).status_code == 200


RECURSIVE = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}
EXPLODING = {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(20_000)}}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"messages": []}, 400),
        ({"messages": [{}]}, 400),
        ({"messages": [{"role": "user", "content": 1}]}, 400),
        ({"messages": [{"role": "root", "content": "x"}]}, 400),
        ({"messages": HELLO * 5000}, 400),
        ({"messages": [{"role": "user", "content": "x" * 1_000_000}]}, 400),
        ({"messages": HELLO, "tools": [{"type": "function", "function": {"name": f"f{n}"}} for n in range(1000)]}, 400),
        ({"messages": HELLO, "guided_json": RECURSIVE}, 400),
        ({"messages": HELLO, "logit_bias": {"1" * 5000: 1}}, 400),
        ({"messages": HELLO, "logit_bias": {"1": 1, "01": -1}}, 400),
        ({"messages": HELLO, "response_format": {"type": "json_object", "schema": {}}}, 400),
        ({"messages": HELLO, "guided_json": EXPLODING}, 400),
        ({"messages": HELLO, "guided_json": {"type": "nonsense"}}, 400),
        ({"messages": HELLO, "guided_regex": "("}, 400),
        ({"messages": HELLO, "guided_regex": "(a|aa|aaa){1000,100000}"}, 400),
        ({"messages": HELLO, "guided_regex": "x" * 300_000}, 400),
        ({"messages": HELLO, "guided_grammar": 'root ::= root "a"'}, 400),
        ({"messages": HELLO, "guided_choice": ["x" * 1000] * 1000}, 400),
        ({"messages": HELLO, "logit_bias": {str(n): 1 for n in range(90_000)}}, 400),
        ({"messages": HELLO, "stop": ["x"] * 1000}, 400),
        ({"messages": HELLO, "n": 10_000}, 400),
        ({"messages": HELLO, "max_tokens": 10**30}, 400),
        ({"messages": HELLO, "seed": -1}, 400),
        ({"messages": HELLO, "temperature": 1e300}, 400),
        ({"messages": [{"role": "user", "content": "a\0b"}]}, 200),
        ({"messages": [{"role": "user", "content": ""}]}, 200),
        ({"messages": HELLO, "guided_regex": "(a+)+b", "max_tokens": 20}, 200),
    ],
    ids=lambda value: str(value)[:70],
)
def test_requests_that_ask_for_too_much_or_nonsense(url: str, body: dict[str, Any], status: int) -> None:
    response = httpx2.post(url + PATH, json={"model": "scripted"} | body, timeout=60)
    assert response.status_code == status, response.text[:500]
    if status != 200:
        error = response.json()["error"]
        assert error["type"] == "invalid_request_error"
        assert "Traceback" not in response.text
        assert ".py" not in response.text


def test_a_schema_that_nests_too_deeply(url: str) -> None:
    nested: Any = {}
    for _ in range(150):
        nested = {"properties": {"a": nested}}
    response = httpx2.post(url + PATH, json=ASK | {"guided_json": nested}, timeout=60)
    assert response.status_code == 400


def test_a_hundred_megabytes_are_refused_before_they_came(url: str) -> None:
    with connected(url) as client:
        client.sendall(f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {100 << 20}\r\n\r\n{{".encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 413")


def test_chunks_that_are_none(url: str) -> None:
    with connected(url) as client:
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.sendall(head.encode() + b"zz\r\nnonsense\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 400")


def test_no_http_at_all(url: str) -> None:
    for content in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET\r\n\r\n", b"\0" * 100, b"A" * 200_000):
        with connected(url) as client:
            client.sendall(content)
            assert client.recv(1000)[:12] in (b"HTTP/1.1 400", b"")


def test_an_old_client_is_answered(url: str) -> None:
    body = json.dumps(ASK).encode()
    with connected(url) as client:
        client.sendall(f"POST {PATH} HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        received = b""
        while piece := client.recv(10_000):
            received += piece
    assert b" 200 OK" in received
    assert b"Good day to you." in received


def test_a_client_that_has_said_all_and_closes_its_half_is_gone_or_answered(url: str) -> None:
    with connected(url) as client:
        client.sendall(posted(PATH, ASK))
        client.shutdown(1)
        assert client.recv(1000)[:15] in (b"HTTP/1.1 200 OK", b"")


def test_bodies_that_stop_half_way(url: str) -> None:
    for _ in range(20):
        with connected(url) as client:
            client.sendall(posted(PATH, ASK)[:-5])
