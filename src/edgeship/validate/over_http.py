"""Asks a server as a client of no particular API would: what it says is kept byte for byte, and so is how it ends."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from edgeship.validate.server import Server

_PIECE_BYTES = 1 << 16
MOST_BYTES = 16 << 20
"""An answer that is longer is read no further."""


@dataclass(frozen=True)
class Asked:
    """A request. body: JSON, or bytes that are sent as they are. headers: besides the usual ones."""

    path: str
    body: Mapping[str, Any] | bytes | None = None
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = ()

    def as_evidence(self) -> dict[str, Any]:
        """The request as evidence keeps it."""
        body = self.body.decode("utf-8", "replace") if isinstance(self.body, bytes) else self.body
        return {"kind": "http", "method": self.method, "path": self.path, "body": body}


@dataclass(frozen=True)
class Said:
    """What a server said. status: 0 where it said nothing.

    fault: why the answer is none, or not whole, in words; None where it came as HTTP has it. took_s: until its end.
    """

    status: int
    content_type: str
    body: bytes
    fault: str | None
    took_s: float


def ask(
    server: Server,
    asked: Asked,
    *,
    silent_s: float,
    over: Callable[[bytes], bool] | None = None,
    end_s: float = 0.0,
) -> Said:
    """What a server says. silent_s: it may say nothing for so long.

    over: tells whether a body has come to its end; then it is to be closed within end_s.
    """
    begun, body, status, kind = time.perf_counter(), b"", 0, ""
    fault: str | None = None
    try:
        with asking(server, asked, silent_s) as (sock, response):
            status, kind = response.status, response.headers.get("content-type", "")
            while piece := response.read1(_PIECE_BYTES):
                body += piece
                if len(body) > MOST_BYTES:
                    fault = f"it went on after {MOST_BYTES >> 20} MiB"
                    break
                if over and over(body):
                    sock.settimeout(end_s)
            if response.length:  # it promised more than it sent
                fault = f"it ended {response.length} bytes before the length that it had promised"
    except TimeoutError:
        ended = over and over(body)
        fault = f"it was not closed {end_s:g} s after its last event" if ended else f"nothing came for {silent_s:g} s"
    except (OSError, http.client.HTTPException) as error:
        fault = f"the connection broke: {error or type(error).__name__}"
    return Said(status, kind.partition(";")[0].strip().lower(), body, fault, time.perf_counter() - begun)


@contextmanager
def asking(server: Server, asked: Asked, silent_s: float) -> Iterator[tuple[socket.socket, http.client.HTTPResponse]]:
    """A response that has begun, and its connection, which is closed at the end of the block, wherever it has got to.

    Raises OSError, http.client.HTTPException.
    """
    parts = urlsplit(server.url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=silent_s)
    body = asked.body if isinstance(asked.body, bytes | None) else json.dumps(asked.body).encode()
    headers = {"Content-Type": "application/json", "Connection": "close", **dict(asked.headers)}
    if server.api_key:
        headers |= {"Authorization": f"Bearer {server.api_key}", "x-api-key": server.api_key}
    try:
        connection.connect()
        sock: socket.socket = connection.sock  # which is the response's alone once that has begun
        connection.request(asked.method, f"{parts.path}{asked.path}", body, headers)
        response = connection.getresponse()
        try:
            yield sock, response
        finally:
            response.close()
    finally:
        connection.close()
