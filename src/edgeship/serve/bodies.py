"""The border to the client: a request's body is read whole and checked, and who is gone is not answered.

A pure ASGI middleware. What it lets through is JSON by one reading only: no key twice, no half character, no value
nested too deep, whatever parser reads it after this.
"""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack
from typing import Any

from edgeship.errors import BodyInvalid, BodyTooLarge, BodyTooSlow
from edgeship.system import json_file

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Refuse = Callable[[Scope, Exception], Application]

HELD = "edgeship.held"
"""In the scope: what is freed when the request is over, however it ends."""
_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
_LARGE_BYTES = 1 << 16
"""A longer body is checked in a thread: nobody else waits for that."""
MOST_PARTS = 100_000
"""Objects and lists in a body, and keys: many of them take seconds to read, in which Python does nothing else."""


class Bodies:
    """Wraps an application. refuse: makes the answer to a request that cannot be read. heard: gets each body."""

    def __init__(
        self,
        app: Application,
        *,
        most_bytes: int,
        within_s: float,
        refuse: Refuse,
        heard: Callable[[bytes], object] | None = None,
    ) -> None:
        self._app, self._most_bytes, self._within_s, self._refuse = app, most_bytes, within_s, refuse
        self._heard = heard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = await self._read(scope, receive)
        except (BodyInvalid, BodyTooLarge, BodyTooSlow) as error:
            await self._refuse(scope, error)(scope, receive, send)
            return
        if body is not None:
            await _while_there(self._app, scope, body, receive, send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """The whole body; None where the client went before it was there."""
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        if stated.isdigit() and int(stated) > self._most_bytes:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._within_s):
                body = await self._received(receive)
        except TimeoutError as error:
            raise BodyTooSlow(f"the request's body did not come within {self._within_s:g} s") from error
        if body:
            await _check(body)
            if self._heard:
                self._heard(body)
            scope["headers"] = [
                *((name, value) for name, value in scope["headers"] if name != b"content-type"),
                # What was read as JSON is read so again, whatever a client calls it.
                (b"content-type", b"application/json"),
            ]
        return body

    async def _received(self, receive: Receive) -> bytes | None:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self._most_bytes:
                raise self._too_large()
            if not message.get("more_body", False):
                return bytes(body)

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"the request's body has more than {self._most_bytes} bytes", hint="Send less.")


async def _check(body: bytes) -> None:
    """Raises BodyInvalid for what is no JSON, or JSON that readers read in different ways, BodyTooLarge for many parts.

    Parts are counted wherever their signs stand, also in texts: that takes no time, and prompts have fewer by far.
    """
    if max(body.count(b"[") + body.count(b"{"), body.count(b":")) > MOST_PARTS:
        raise BodyTooLarge(
            f"the request's body has more than {MOST_PARTS} objects and lists, or keys: that many of [ and {{, or of :",
            hint="Send less.",
        )
    if body.startswith(_MARKS):
        raise BodyInvalid(
            "the request's body begins with a byte order mark", hint="Send JSON in UTF-8, without such a mark."
        )
    try:
        text = body.decode("utf-8")
        if len(body) > _LARGE_BYTES:
            await asyncio.to_thread(json_file.parse, text, finite=True)
        else:
            json_file.parse(text, finite=True)
    except UnicodeDecodeError as error:
        raise BodyInvalid(f"the request's body is not UTF-8: {error}", hint="Send JSON in UTF-8.") from error
    except ValueError as error:
        raise BodyInvalid(f"the request's body is no JSON that can be used: {error}") from error


async def _while_there(app: Application, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
    """Runs the application until it is done or the client is gone, and then frees what the request held."""
    gone = asyncio.ensure_future(_gone(receive))
    given = answered = False

    async def receive_body() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        await asyncio.shield(gone)
        return {"type": "http.disconnect"}

    async def send_on(message: Message) -> None:
        nonlocal answered
        await send(message)
        answered = message["type"] == "http.response.body" and not message.get("more_body", False)

    async with AsyncExitStack() as held:
        scope[HELD] = held
        running = asyncio.ensure_future(app(scope, receive_body, send_on))
        try:
            await asyncio.wait((running, gone), return_when=asyncio.FIRST_COMPLETED)
            if not (running.done() or answered):  # a server says of an answered client, too, that it is gone
                running.cancel()
            await asyncio.wait((running,))
        finally:
            gone.cancel()
            running.cancel()
        if not running.cancelled():
            running.result()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
