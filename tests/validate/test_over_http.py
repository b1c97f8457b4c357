"""What goes over a socket, and what comes back however that ends."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from edgeship.system.fields import Fields
from edgeship.validate import over_http
from edgeship.validate.over_http import Request

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nHi"


@contextmanager
def answering(does: Callable[[socket.socket], object]) -> Iterator[over_http.Place]:
    """A server that does this with one connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1 << 16)
                does(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield over_http.place_of(f"http://127.0.0.1:{listening.getsockname()[1]}/v1")
        thread.join(10)


@pytest.mark.parametrize(
    ("said", "status", "body", "end"),
    [
        (WHOLE, 200, b"Hi", "whole"),
        (b"HTTP/1.1 400 No\r\n\r\nbecause", 400, b"because", "whole"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nHi", 200, b"Hi", "cut"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nHi\r\n0\r\n\r\n", 200, b"Hi", "whole"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nHi\r\n5\r\nH", 200, b"Hi", "cut"),
        (b"", None, b"", "closed"),
        (b"nonsense\r\n\r\n", None, b"", "closed"),
    ],
)
def test_what_comes_back(said: bytes, status: int | None, body: bytes, end: str) -> None:
    with answering(lambda connection: connection.sendall(said)) as place:
        reply = over_http.exchange(place, b"GET / HTTP/1.1\r\n\r\n", 10)
    assert (reply.status, reply.end) == (status, end)
    assert reply.body.startswith(body)


def test_who_says_nothing_is_late() -> None:
    with answering(lambda _: time.sleep(0.3)) as place:
        assert over_http.exchange(place, b"x", 0.1).end == "late"


def dripping(first: bytes, piece: bytes) -> Callable[[socket.socket], None]:
    """An answer that goes on for a second, piece by piece, unless nobody listens any more."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + first)
        with suppress(OSError):
            for _ in range(20):
                time.sleep(0.05)
                connection.sendall(piece)

    return answer


def test_a_drop_now_and_then_does_not_put_off_the_end() -> None:
    with answering(dripping(b"", b".")) as place:
        assert over_http.exchange(place, b"x", 0.3).end == "late"


def test_who_says_nothing_for_long_is_told_from_who_comes_to_no_end() -> None:
    with answering(lambda _: time.sleep(0.3)) as place:
        assert over_http.exchange(place, b"x", 10, silent_s=0.1).fault == "nothing came for 0.1 s"
    with answering(lambda _: time.sleep(0.3)) as place:
        assert over_http.exchange(place, b"x", 0.1).fault == "it came to no end within 0 s"


def test_what_is_over_is_to_be_closed_whatever_else_comes() -> None:
    with answering(dripping(b"the end\n", b": still here\n")) as place:
        reply = over_http.exchange(place, b"x", 10, over=lambda body: b"the end" in body, end_s=0.2)
    assert (reply.end, reply.fault) == ("late", "it was not closed 0.2 s after its last event")
    assert reply.body.startswith(b"the end")


def test_an_answer_without_an_end_is_read_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(over_http, "MOST_BYTES", 1 << 20)
    body = b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000

    def pours(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.sendall(body)

    with answering(pours) as place:
        reply = over_http.exchange(place, b"x", 10)
    assert (reply.end, reply.fault) == ("cut", "it went on after 1 MiB")


@pytest.mark.parametrize(("after", "status"), [(1, None), (2, 200)])
def test_clients_leave_when_they_have_enough(after: int, status: int | None) -> None:
    told: list[bytes] = []

    def enough(body: bytearray) -> bool:
        told.append(bytes(body))
        return len(told) == after

    with answering(lambda connection: connection.sendall(WHOLE)) as place:
        reply = over_http.exchange(place, b"x", 10, enough=enough)
    assert (reply.status, reply.end, told[0]) == (status, "left", b"")
    assert all(body.startswith(b"H") for body in told[1:])


def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        place = over_http.place_of(f"http://127.0.0.1:{taken.getsockname()[1]}")
        reply = over_http.exchange(place, b"x", 5)
    assert reply.end == "unreachable"
    assert (reply.fault or "").startswith("the connection broke")


def test_a_request_is_written_as_it_is_meant() -> None:
    place = over_http.place_of("https://[::1]:8443/api/v1", "secret")
    assert (place.host, place.port, place.tls, place.authority) == ("::1", 8443, True, "[::1]:8443")
    assert "secret" not in repr(place)
    assert (place.path("/v1/models"), place.path("/api/chat")) == ("/api/v1/models", "/api/api/chat")
    asked = Request("/v1/messages", {"a": 1}, headers=(("X-A", "b"),))
    head, _, body = asked.in_bytes(place).decode().partition("\r\n\r\n")
    assert body == '{"a": 1}'
    assert head.split("\r\n") == [
        "POST /api/v1/messages HTTP/1.1",
        "Host: [::1]:8443",
        "Connection: close",
        "Authorization: Bearer secret",
        "x-api-key: secret",
        "Content-Type: application/json",
        "Content-Length: 8",
        "X-A: b",
    ]
    assert b"Content-" not in Request("/health", method="GET").in_bytes(place)


def test_an_api_may_lie_elsewhere() -> None:
    place = over_http.place_of("http://localhost/openai/v2")
    assert (place.path("/v1/models"), place.path("/metrics")) == ("/openai/v2/models", "/openai/v2/metrics")


def refused(why: str) -> Exception:
    return LookupError(why)


@pytest.mark.parametrize(
    "asked",
    [
        Request("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "né 🙂"}]}),
        Request("/v1/messages", b'{"model": ', headers=(("anthropic-version", "2023-06-01"),)),
        Request("/v1/messages", b"\xff\x00\xfe{"),
        Request("/v1/models", b"", method="PUT"),
        Request("/metrics", method="GET"),
    ],
)
def test_what_evidence_keeps_is_sent_again_byte_for_byte(asked: Request) -> None:
    kept = json.loads(json.dumps(asked.as_evidence()))
    place = over_http.place_of("http://localhost:1")
    assert over_http.request_in(Fields(kept, refused)).in_bytes(place) == asked.in_bytes(place)


@pytest.mark.parametrize(
    "kept",
    [
        {},
        {"path": "/x"},
        {"method": "GET", "path": "x"},
        {"method": "GET", "path": "/x\r\nHost: elsewhere"},
        {"method": "GET", "path": "/x", "headers": {"X-A": "b\nX-B: c"}},
        {"method": "GET", "path": "/x", "headers": {"X-A": 1}},
        {"method": "POST", "path": "/x", "body": [1]},
        {"method": "POST", "path": "/x", "body_base64": "no base64"},
    ],
)
def test_what_is_no_request_is_not_sent(kept: dict[str, Any]) -> None:
    with pytest.raises((LookupError, ValueError)):
        over_http.request_in(Fields(kept, refused))
