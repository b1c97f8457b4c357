"""What comes back over a socket, however that ends."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from edgeship.validate.edges import wire
from edgeship.validate.edges.row import Sent

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nHi"


@contextmanager
def answering(does: Callable[[socket.socket], object]) -> Iterator[wire.Place]:
    """A server that does this with one connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1 << 16)
                does(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield wire.place_of(f"http://127.0.0.1:{listening.getsockname()[1]}/v1")
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
        reply = wire.exchange(place, b"GET / HTTP/1.1\r\n\r\n", 10)
    assert (reply.status, reply.end) == (status, end)
    assert reply.body.startswith(body)


def test_who_says_nothing_is_late() -> None:
    with answering(lambda _: time.sleep(0.3)) as place:
        assert wire.exchange(place, b"x", 0.1).end == "late"


def test_a_drop_now_and_then_does_not_put_off_the_end() -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(20):
            time.sleep(0.05)
            try:
                connection.sendall(b".")
            except OSError:
                return

    with answering(drip) as place:
        assert wire.exchange(place, b"x", 0.3).end == "late"


def test_clients_leave_and_hold() -> None:
    done: list[str] = []
    for then in ("leave", "leave-midway"):
        with answering(lambda connection: connection.sendall(WHOLE)) as place:
            assert wire.exchange(place, b"x", 10, then=then).end == "left"
    with answering(lambda connection: connection.recv(1)) as place:
        assert wire.exchange(place, b"x", 10, then="hold", meanwhile=lambda: done.append("asked")).end == "left"
    assert done == ["asked"]


def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        place = wire.place_of(f"http://127.0.0.1:{taken.getsockname()[1]}")
        assert wire.exchange(place, b"x", 5).end == "unreachable"


def test_a_request_is_written_as_it_is_meant() -> None:
    place = wire.place_of("https://[::1]:8443/api/v1", "secret")
    assert (place.host, place.port, place.tls, place.authority) == ("::1", 8443, True, "[::1]:8443")
    assert (place.path("chat"), place.path("ollama")) == ("/api/v1/chat/completions", "/api/api/chat")
    text = wire.in_bytes(place, Sent(headers=("X-A: b",), length="-1", content_type=None), "/x", b"{}").decode()
    head, _, body = text.partition("\r\n\r\n")
    assert body == "{}"
    assert head.split("\r\n") == [
        "POST /x HTTP/1.1",
        "Host: [::1]:8443",
        "Connection: close",
        "Authorization: Bearer secret",
        "Content-Length: -1",
        "X-A: b",
    ]
    assert wire.in_bytes(place, Sent(whole=b"Host: HOST\r\n"), "/x", b"") == b"Host: [::1]:8443\r\n"
