"""Many requests at one moment, from one thread that hardly does anything itself; and what is fastest to refuse them.

Run as a program, it is a server at the port that is given, which tells everybody to come back later.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any

import uvicorn
from http_client import HOST

_PATIENCE_S = 600
_SAID = b'{"error":{"message":"as many wait as may","type":"rate_limit_error","param":null,"code":"engine_busy"}}'


@dataclass(frozen=True)
class Answer:
    """status: 0 where the connection ended without one. seconds: from its connection's begin to its first bytes."""

    status: int
    seconds: float
    retry_after: bool


def ask(port: int, path: str, body: dict[str, Any], clients: int) -> list[Answer]:
    """What each of so many clients is answered to the same request, the first answer first."""
    content = json.dumps(body).encode()
    request = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content
    answers: list[Answer] = []
    with selectors.DefaultSelector() as waiting:
        for _ in range(clients):
            client = socket.socket()
            client.setblocking(False)
            began = time.perf_counter()
            client.connect_ex((HOST, port))
            waiting.register(client, selectors.EVENT_WRITE, began)
        while waiting.get_map():
            for key, ready in waiting.select(_PATIENCE_S):
                client = key.fileobj  # type: ignore[assignment]
                if ready & selectors.EVENT_WRITE:
                    client.sendall(request)
                    waiting.modify(client, selectors.EVENT_READ, key.data)
                    continue
                answers.append(_read(client, key.data))
                waiting.unregister(client)
                client.close()
    return answers


def _read(client: socket.socket, began: float) -> Answer:
    try:
        said = client.recv(65536)
    except OSError:
        said = b""
    return Answer(int(said[9:12] or 0), time.perf_counter() - began, b"retry-after:" in said.lower())


async def _refuse(_: Any, __: Any, send: Any) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_SAID)), (b"retry-after", b"1")]
    await send({"type": "http.response.start", "status": 429, "headers": headers})
    await send({"type": "http.response.body", "body": _SAID})


if __name__ == "__main__":
    uvicorn.run(_refuse, host=HOST, port=int(sys.argv[1]), lifespan="off", log_config=None, access_log=False)
