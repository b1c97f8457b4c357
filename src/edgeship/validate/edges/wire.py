"""HTTP as no client would send it: requests byte by byte over a socket, and what comes back however that ends."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Literal
from urllib.parse import urlsplit

from edgeship.validate.edges.row import Sent, Surface, Then

MODEL = b"MODEL"
"""In a body that is sent byte by byte: the model's name as JSON."""
HOST = b"HOST"
_MOST_BYTES, _PIECE_BYTES = 16 << 20, 1 << 16
_PATHS: dict[Surface, str] = {
    "chat": "/chat/completions",
    "stream": "/chat/completions",
    "completions": "/completions",
    "responses": "/responses",
    "messages": "/messages",
}
_OLLAMA = "/api/chat"


@dataclass(frozen=True)
class Place:
    """Where a server listens. api: the path of its OpenAI APIs. key: what it wants to be shown."""

    host: str
    port: int
    tls: bool
    api: str
    key: str | None = None

    @property
    def authority(self) -> str:
        """As the header Host has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def path(self, surface: Surface) -> str:
        """Of one API."""
        if surface == "ollama":
            return self.api.removesuffix("/v1") + _OLLAMA
        return self.api + _PATHS[surface]


def place_of(url: str, key: str | None = None) -> Place:
    """The place that a URL names; its path is /v1 where it has none."""
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    return Place(parts.hostname or "", parts.port or (443 if tls else 80), tls, parts.path.rstrip("/") or "/v1", key)


@dataclass(frozen=True)
class Reply:
    """What came back. status: None where nothing did. end: how it ended; see Heard."""

    status: int | None
    body: bytes
    end: Literal["whole", "cut", "closed", "late", "left", "unreachable"]
    took_s: float


def posted(place: Place, path: str, body: bytes) -> bytes:
    """An ordinary request."""
    return in_bytes(place, Sent(), path, body)


def in_bytes(place: Place, sent: Sent, path: str, body: bytes) -> bytes:
    """A request as it goes over the connection."""
    if sent.whole is not None:
        return sent.whole.replace(HOST, place.authority.encode())
    lines = [f"{sent.method} {sent.path or path} {sent.version}", f"Host: {place.authority}", "Connection: close"]
    lines += [f"Authorization: Bearer {place.key}"] if place.key else []
    lines += [f"Content-Type: {sent.content_type}"] if sent.content_type is not None else []
    length = str(len(body)) if sent.length == "true" else sent.length
    lines += [f"Content-Length: {length}"] if length is not None else []
    return "\r\n".join([*lines, *sent.headers, "", ""]).encode("latin-1") + body


def exchange(
    place: Place,
    content: bytes,
    within_s: float,
    *,
    then: Then = "read",
    meanwhile: Callable[[], object] = lambda: None,
    head: bool = False,
) -> Reply:
    """Sends bytes and hears what comes. meanwhile: is done while a client that holds its connection is silent.

    head: the request is one for a head, whose answer has no body.
    """
    begun = time.monotonic()
    until = begun + within_s
    try:
        connection = _connected(place, within_s)
    except OSError:
        return Reply(None, b"", "unreachable", time.monotonic() - begun)
    with connection:
        # A server may refuse, and close, before everything is sent: what it says is read all the same.
        with suppress(OSError):
            connection.sendall(content)
        if then == "hold":
            meanwhile()
        if then in ("leave", "hold"):
            return Reply(None, b"", "left", time.monotonic() - begun)
        status, body, end = _heard(connection, until, leaves=then == "leave-midway", head=head)
        return Reply(status, body, end, time.monotonic() - begun)


def _connected(place: Place, within_s: float) -> socket.socket:
    plain = socket.create_connection((place.host, place.port), timeout=within_s)
    if not place.tls:
        return plain
    try:
        return ssl.create_default_context().wrap_socket(plain, server_hostname=place.host)
    except OSError:
        plain.close()
        raise


_End = Literal["whole", "cut", "closed", "late", "left"]


def _heard(connection: socket.socket, until: float, *, leaves: bool, head: bool) -> tuple[int | None, bytes, _End]:
    status, body = None, b""
    response = HTTPResponse(connection, method="HEAD" if head else None)
    try:
        _wait_no_longer(connection, until)
        response.begin()
        status = response.status
        while len(body) < _MOST_BYTES:
            _wait_no_longer(connection, until)
            piece = response.read1(_PIECE_BYTES)
            if not piece:
                break
            body += piece
            if leaves:
                return status, body, "left"
        left = response.length
        return status, body, "cut" if left and not head else "whole"
    except TimeoutError:
        return status, body, "late"
    except (OSError, HTTPException, ValueError):
        return status, body, "closed" if status is None else "cut"
    finally:
        response.close()


def _wait_no_longer(connection: socket.socket, until: float) -> None:
    left_s = until - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    connection.settimeout(left_s)
