"""HTTP: requests as bytes over a connection, those of no client among them, and what comes back however that ends."""

from __future__ import annotations

import base64
import json
import math
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from typing import Any, Literal
from urllib.parse import urlsplit

from edgeship.system.fields import Fields
from edgeship.validate.requests import shortened

MOST_BYTES = 16 << 20
"""An answer that is longer is read no further."""
END_S = 10.0
"""A stream is closed so long after its last event: clients wait for that before they ask again."""
_PIECE_BYTES = 1 << 16
_API = "/v1"
_BODY, _BASE64 = "body", "body_base64"


@dataclass(frozen=True)
class Place:
    """Where a server listens. api: the path of its OpenAI APIs. key: what it wants to be shown."""

    host: str
    port: int
    tls: bool
    api: str
    key: str | None = field(default=None, repr=False)

    @property
    def authority(self) -> str:
        """As the header Host has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def path(self, path: str) -> str:
        """The same path here: its /v1 is where this server's API lies, and what is beside /v1 is beside that."""
        if path.startswith(f"{_API}/"):
            return self.api + path.removeprefix(_API)
        return self.api.removesuffix(_API) + path


def place_of(url: str, key: str | None = None) -> Place:
    """The place that a URL names; its path is /v1 where it has none."""
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    return Place(parts.hostname or "", parts.port or (443 if tls else 80), tls, parts.path.rstrip("/") or _API, key)


@dataclass(frozen=True)
class Request:
    """A request that is in order. path: see `Place.path`. body: JSON, or bytes that are sent as they are.

    headers: besides those that all requests have.
    """

    path: str
    body: Mapping[str, Any] | bytes | None = None
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = ()

    def in_bytes(self, place: Place) -> bytes:
        """As it goes over a connection."""
        line = f"{self.method} {place.path(self.path)} HTTP/1.1"
        headers = [f"{name}: {value}" for name, value in self.headers]
        if self.body is None:
            return in_bytes(place, line, headers)
        content = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        headers = ["Content-Type: application/json", f"Content-Length: {len(content)}", *headers]
        return in_bytes(place, line, headers, content)

    def as_evidence(self) -> dict[str, Any]:
        """The request as evidence keeps it: bytes as the text that they are, or in Base64 where they are none."""
        kept: dict[str, Any] = {"kind": "http", "method": self.method, "path": self.path}
        kept |= {"headers": dict(self.headers)} if self.headers else {}
        if not isinstance(self.body, bytes):
            return kept | {_BODY: self.body}
        try:
            return kept | {_BODY: self.body.decode("utf-8")}
        except UnicodeDecodeError:
            return kept | {_BASE64: base64.b64encode(self.body).decode()}


def request_in(kept: Fields) -> Request:
    """What `Request.as_evidence` wrote. Raises what `kept` refuses with, and ValueError where it is no request."""
    body, encoded = kept.values.get(_BODY), kept.text(_BASE64)
    if encoded is not None:
        body = base64.b64decode(encoded, validate=True)
    elif body is not None:
        body = body.encode() if isinstance(body, str) else kept.part(_BODY).values
    named = kept.part("headers")
    headers = tuple((name, named.required_text(name)) for name in named.values)
    method, path = kept.required_text("method"), kept.required_text("path")
    parts = (method, path, *(part for header in headers for part in header))
    if not path.startswith("/") or not all(part.isascii() and part.isprintable() for part in parts):
        raise ValueError(f"{method} {path} is no request")
    return Request(path, body, method, headers)


def in_bytes(place: Place, line: str, headers: Sequence[str], content: bytes = b"") -> bytes:
    """A request as it goes over a connection. line: its first. headers: besides those that all requests have."""
    lines = [line, f"Host: {place.authority}", "Connection: close"]
    lines += [f"Authorization: Bearer {place.key}", f"x-api-key: {place.key}"] if place.key else []
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + content


End = Literal["whole", "cut", "closed", "late", "left", "unreachable"]


@dataclass(frozen=True)
class Reply:
    """What came back. status: None where nothing did. content_type: without its parameters.

    fault: why it is no answer, or not a whole one, in words. took_s: until it ended.
    """

    status: int | None
    body: bytes
    end: End
    took_s: float
    content_type: str = ""
    fault: str | None = None

    @property
    def said(self) -> str:
        """As evidence quotes it."""
        return f"status {self.status}: {shortened(self.body.decode('utf-8', 'replace'))}"


OfBody = Callable[[bytearray], bool]
"""Says something of a body by what has come of it."""


def _never(_: bytearray) -> bool:
    return False


def exchange(
    place: Place,
    request: Request | bytes,
    within_s: float,
    *,
    silent_s: float = math.inf,
    enough: OfBody = _never,
    over: OfBody = _never,
    end_s: float = END_S,
    head: bool = False,
) -> Reply:
    """Sends a request and hears what comes within so long. silent_s: a server may say nothing for so long.

    enough: whether the client leaves; it is told once the request is sent, and then whenever more has come.
    over: whether the body has come to its end; it is to be closed within end_s then.
    head: the request is one for a head, whose answer has no body.
    """
    content = request if isinstance(request, bytes) else request.in_bytes(place)
    wait = _Wait(within_s, silent_s)
    try:
        connection = _connected(place, wait.next_s())
    except OSError as error:
        return Reply(None, b"", "unreachable", wait.took_s, fault=_broken(error))
    with connection:
        # A server may refuse, and close, before everything is sent: what it says is read all the same.
        with suppress(OSError):
            connection.sendall(content)
        if enough(bytearray()):
            return Reply(None, b"", "left", wait.took_s)
        response = HTTPResponse(connection, method="HEAD" if head else None)
        with closing(response):
            return _heard(connection, response, wait, enough, over, end_s)


def _heard(
    connection: socket.socket, response: HTTPResponse, wait: _Wait, enough: OfBody, over: OfBody, end_s: float
) -> Reply:
    body = bytearray()

    def ends(end: End, fault: str | None = None) -> Reply:
        if response.headers is None:
            return Reply(None, bytes(body), end, wait.took_s, fault=fault)
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        return Reply(response.status, bytes(body), end, wait.took_s, kind, fault)

    try:
        connection.settimeout(wait.next_s())
        response.begin()
        while len(body) < MOST_BYTES:
            connection.settimeout(wait.next_s())
            piece = response.read1(_PIECE_BYTES)
            if not piece:
                if left := response.length:
                    return ends("cut", f"it ended {left} bytes before the length that it had promised")
                return ends("whole")
            body += piece
            if enough(body):
                return ends("left")
            if over(body):
                wait.for_the_end(end_s)
        return ends("cut", f"it went on after {MOST_BYTES >> 20} MiB")
    except TimeoutError:
        return ends("late", wait.fault)
    except (OSError, HTTPException, ValueError) as error:
        return ends("closed" if response.headers is None else "cut", _broken(error))


def _connected(place: Place, within_s: float) -> socket.socket:
    plain = socket.create_connection((place.host, place.port), timeout=within_s)
    if not place.tls:
        return plain
    try:
        return ssl.create_default_context().wrap_socket(plain, server_hostname=place.host)
    except OSError:
        plain.close()
        raise


def _broken(error: Exception) -> str:
    return f"the connection broke: {error or type(error).__name__}"


class _Wait:
    """How long more is waited for what comes. fault: what is wrong where nothing has come by then."""

    def __init__(self, within_s: float, silent_s: float) -> None:
        self._begun, self._silent_s = time.monotonic(), silent_s
        self._until, self._late = self._begun + within_s, f"it came to no end within {within_s:.0f} s"
        self.fault = self._late

    @property
    def took_s(self) -> float:
        return time.monotonic() - self._begun

    def next_s(self) -> float:
        """The seconds until the next bytes must have come. Raises TimeoutError where there are none left."""
        left_s = self._until - time.monotonic()
        self.fault = self._late if left_s < self._silent_s else f"nothing came for {self._silent_s:g} s"
        if left_s <= 0:
            raise TimeoutError
        return min(left_s, self._silent_s)

    def for_the_end(self, end_s: float) -> None:
        """From now on only for the end."""
        if (until := time.monotonic() + end_s) < self._until:
            self._until, self._late = until, f"it was not closed {end_s:g} s after its last event"
