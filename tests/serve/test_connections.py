"""What one connection can take from the server, whoever is at its other end."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI

from edgeship.serve.connections import MOST_HEAD_BYTES, Connection
from tests import waiting
from tests.serve.serving import connected, posted, scripted_app, serving

PATH = "/v1/chat/completions"
HEALTH = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
LONG = MOST_HEAD_BYTES * 4
LONG_ONE = [{"role": "user", "content": "long"}]
ALL: dict[str, Any] = {"model": "scripted", "messages": LONG_ONE, "stream": True, "n": 16, "max_tokens": 5000}


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return scripted_app({"long": "x" * 100_000, "hello": "Good day."}, context_tokens=200_000)


@pytest.fixture(scope="module")
def url(app: FastAPI) -> Iterator[str]:
    with serving(lambda: app) as url:
        yield url


def answer_to(url: str, sent: bytes) -> bytes:
    """All that comes until the server closes the connection."""
    with connected(url) as client:
        received = b""
        try:
            client.sendall(sent)
            while piece := client.recv(1 << 16):
                received += piece
        except ConnectionError:  # the server did not read all of it
            pass
    return received


@pytest.mark.parametrize(
    "sent",
    [
        HEALTH + b"X: " + b"a" * LONG,
        HEALTH + b"X: a\r\n" * (LONG // 6),
        b"GET /" + b"a" * LONG,
        CHUNKED + b"1;" + b"a" * LONG,
        CHUNKED + b"1\r\n{\r\n0\r\nX: " + b"a" * LONG,
    ],
)
def test_what_belongs_to_no_body_is_read_up_to_a_size(app: FastAPI, url: str, sent: bytes) -> None:
    received = answer_to(url, sent)  # a system may drop an answer when more comes than is read
    assert not received or b" 431 " in received or b" 400 " in received
    assert httpx2.get(f"{url}/health/live").status_code == 200
    waiting.until(lambda: not sum(map(len, app.state.server.line.counts())))


def test_what_is_no_http_is_told_by_our_log_alone(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "edgeship.serve"):
        assert answer_to(url, b"\x16\x03\x01\x02\r\n\r\n")
    told = {(record.name, record.getMessage()) for record in caplog.records}
    assert ("edgeship.serve", "what a client sent is refused: what came is no HTTP/1.1 request") in told
    assert not [name for name, _ in told if name.startswith("uvicorn")]


@pytest.mark.parametrize("garbage", [b"zz\r\nfoo", b"-1\r\nfoo", b"ffffffffffffffffff\r\nfoo"])
def test_what_is_no_http_is_refused_in_the_words_of_the_api(url: str, garbage: bytes) -> None:
    head, _, body = answer_to(url, CHUNKED + garbage).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request")
    assert json.loads(body)["type"] == "error"
    head, _, body = answer_to(url, b"\x16\x03\x01\x02\r\n\r\n").partition(b"\r\n\r\n")
    assert json.loads(body)["error"]["code"] == "http_invalid"


def test_a_request_that_comes_before_the_last_one_is_answered_is_left_to_another_connection(url: str) -> None:
    hello = posted(PATH, {"model": "scripted", "messages": [{"role": "user", "content": "hello"}]})
    received = answer_to(url, hello + (HEALTH + b"\r\n") * 5000)
    assert received.count(b"HTTP/1.1 200") == 1
    assert b"Good day." in received


def test_a_client_that_goes_ends_its_answer_whatever_it_sent_after_its_request(app: FastAPI, url: str) -> None:
    with connected(url) as client:
        client.sendall(posted(PATH, ALL) + HEALTH + b"\r\n")
        assert client.recv(100)
    waiting.until(lambda: not sum(map(len, app.state.server.line.counts())))


def test_who_does_not_read_keeps_nobody_waiting_and_is_gone_at_last(app: FastAPI) -> None:
    async def scenario(client: socket.socket, listener: socket.socket) -> None:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, http=Connection))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        client.connect(listener.getsockname())
        client.sendall(posted(PATH, ALL | {"max_tokens": 300}))
        line = app.state.server.line
        while not any(lane.running for lane in line._lanes.values()):
            await asyncio.sleep(0.01)
        while any(lane.running for lane in line._lanes.values()):  # its answers are made, all the same
            await asyncio.sleep(0.01)
        assert line.counts() == ({"scripted": 1}, {})
        (connection,) = server.server_state.connections
        assert isinstance(connection, Connection)
        connection.look(1.0, 1.0)
        for _ in range(4):
            connection.look(1.0, 1.0)
        assert not connection.transport.is_closing()
        connection.look(1.0, 1.0)
        while sum(map(len, line.counts())):
            await asyncio.sleep(0.01)
        server.should_exit = True
        await serving

    with socket.socket() as client, socket.create_server(("127.0.0.1", 0)) as listener:
        # Whose connections the system takes little by that nobody reads.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        asyncio.run(asyncio.wait_for(scenario(client, listener), 60))
