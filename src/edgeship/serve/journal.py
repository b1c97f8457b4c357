"""The outermost border: each request gets an id and leaves one line in the log, and no failure passes unanswered.

A pure ASGI middleware. The line is logged as "edgeship.serve.access"; it never holds what was asked or answered.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders

from edgeship.serve import exchange as exchanges
from edgeship.serve.bodies import Application, Message, Receive, Refuse, Scope, Send
from edgeship.serve.exchange import Exchange

_log = logging.getLogger("edgeship.serve.access")
_prompts = logging.getLogger("edgeship.serve.prompts")
_SANE = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_MOST_PATH = 200
PROBES = ("/health", "/ready", "/metrics")
"""What is asked every few seconds is logged only where it went wrong, or where all is."""
_GONE = 499
"""What logs of the field call an answer that nobody waited for."""
# The page brings a policy of its own; nothing else that is sent is meant to be shown.
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
}


class Journal:
    """Wraps an application. refuse: makes the answer to a request that failed. count: is told how each one ended."""

    def __init__(self, app: Application, *, refuse: Refuse, count: Callable[[Scope, int], object]) -> None:
        self._app, self._refuse, self._count = app, refuse, count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = exchanges.begin(scope, _request_id(Headers(scope=scope)))
        status = 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(message, scope, exchange)
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except Exception as error:
            if status:  # half an answer is out, and cannot be taken back
                raise
            await self._refuse(scope, error)(scope, receive, send_on)
        finally:
            self._count(scope, status or _GONE)
            _write(scope, exchange, status or _GONE)


def _request_id(headers: Headers) -> str:
    """The one that the client gave, where it can stand in a log."""
    given = headers.get("x-request-id", "")
    return given if _SANE.fullmatch(given) else f"req_{uuid.uuid4().hex}"


def _add_headers(message: Message, scope: Scope, exchange: Exchange) -> None:
    headers = MutableHeaders(raw=message.setdefault("headers", []))
    headers["x-request-id"] = exchange.id
    if scope["path"].startswith("/v1/messages"):
        headers["request-id"] = exchange.id  # Anthropic's name for it
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)


def _write(scope: Scope, exchange: Exchange, status: int) -> None:
    level = logging.DEBUG if scope["path"].startswith(PROBES) and status < 400 else logging.INFO
    if not _log.isEnabledFor(level):
        return
    client = scope.get("client")
    facts: dict[str, Any] = {
        "client": client[0] if client else None,
        "method": scope["method"],
        "path": scope["path"][:_MOST_PATH],
        "status": status,
        **exchanges.facts(exchange),
    }
    facts = {name: value for name, value in facts.items() if value is not None}
    told = " ".join(f"{name}={value!r}" for name, value in facts.items())
    _log.log(level, "%s", told, extra={"facts": facts})


def log_body(body: bytes) -> None:
    """Logs what a request asks, as "edgeship.serve.prompts": only where the server was told to."""
    _prompts.info("request %s asks %s", exchanges.current_id(), body.decode("utf-8", "replace"))
