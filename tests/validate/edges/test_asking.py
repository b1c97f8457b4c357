"""Odd requests as they go over the connection, and clients that leave."""

from __future__ import annotations

import pytest

from edgeship.validate.edges import asking
from edgeship.validate.edges.asking import OverHttp
from edgeship.validate.edges.row import EITHER, OVER_HTTP, Asked, Known, Row, Sent, Surface, Then
from edgeship.validate.edges.texts import QUESTION, said
from edgeship.validate.over_http import place_of
from tests.validate.test_over_http import WHOLE, answering

KNOWN = Known("", ())


def row(asks: Sent | Asked) -> Row:
    return Row("row", "clients", "a client", asks, EITHER, surfaces=OVER_HTTP)


def test_a_request_is_written_as_it_is_meant() -> None:
    place = place_of("https://[::1]:8443/api/v1", "secret")
    text = asking.in_bytes(place, Sent(headers=("X-A: b",), length="-1", content_type=None), "/x", b"{}").decode()
    head, _, body = text.partition("\r\n\r\n")
    assert body == "{}"
    assert head.split("\r\n") == [
        "POST /x HTTP/1.1",
        "Host: [::1]:8443",
        "Connection: close",
        "Authorization: Bearer secret",
        "x-api-key: secret",
        "Content-Length: -1",
        "X-A: b",
    ]
    assert asking.in_bytes(place, Sent(whole=b"Host: HOST\r\n"), "/x", b"") == b"Host: [::1]:8443\r\n"


@pytest.mark.parametrize("then", ["leave", "hold"])
def test_clients_leave_and_hold(then: Then) -> None:
    done: list[str] = []
    with answering(lambda connection: connection.recv(1)) as place:
        side = OverHttp(place, "m", 10.0, OVER_HTTP)
        heard = side.ask(row(Sent(b"{", then=then)), "chat", KNOWN, lambda: done.append("asked"))
    assert heard
    assert (heard.status, heard.end) == (None, "left")
    assert done == (["asked"] if then == "hold" else [])


@pytest.mark.parametrize(("surface", "status"), [("chat", None), ("stream", 200)])
def test_a_client_leaves_a_stream_once_it_has_begun(surface: Surface, status: int | None) -> None:
    with answering(lambda connection: connection.sendall(WHOLE)) as place:
        heard = OverHttp(place, "m", 10.0, OVER_HTTP).ask(
            row(Asked(said(QUESTION), leaves=True)), surface, KNOWN, lambda: None
        )
    assert heard
    assert (heard.status, heard.end) == (status, "left")
