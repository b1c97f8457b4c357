"""Faults of a server, each put around its application."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

from edgeship.engine.api import AnswerSteps

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Ask = Callable[..., AnswerSteps]


class Around:
    """ASGI middleware that passes everything on; those below change what is sent."""

    def __init__(self, app: Callable[[Any, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        held: list[Event] = []

        async def changed(event: Event) -> None:
            if event["type"] == "http.response.start" and not self.streams(event):
                held.append(event)  # until the body's length is known
                return
            if event["type"] == "http.response.body":
                # An empty body between two others would end nothing, and none is changed.
                bodies = list(self.bodies(event.get("body", b""))) if event.get("body") else [b""]
                if held:
                    _say_length(held[0], len(b"".join(bodies)) + self.more_length)
                    await send(held.pop())
                more = event.get("more_body", False)
                for number, body in enumerate(bodies, 1):
                    await send({**event, "body": body, "more_body": more or number < len(bodies)})
                return
            await send(event)

        await self._app(scope, self.receiving(receive), changed)

    more_length = 0

    def receiving(self, receive: Receive) -> Receive:
        """What tells the application of the client."""
        return receive

    def bodies(self, body: bytes) -> Iterable[bytes]:
        """What is sent in place of a part of a body; one for each that is sent by itself."""
        yield body

    @staticmethod
    def streams(start: Mapping[str, Any]) -> bool:
        """Whether a response comes in parts."""
        return not any(name.lower() == b"content-length" for name, _ in start["headers"])


def _say_length(start: Event, length: int) -> None:
    others = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
    start["headers"] = [*others, (b"content-length", str(length).encode())]


class SaysAnotherLength(Around):
    """Ten bytes more are promised than are sent."""

    more_length = 10


class LeavesOutTheEnd(Around):
    """No event says that a stream is over."""

    _END = re.compile(
        rb"data: \[DONE\]\n\n|event: (?:message_stop|response\.completed|response\.incomplete)\n.*?\n\n"
        rb'|\{[^\n]*"done": ?true[^\n]*\n',
        re.DOTALL,
    )

    def bodies(self, body: bytes) -> Iterable[bytes]:
        """See Around."""
        yield self._END.sub(b"", body)


class LeavesOutFinish(Around):
    """No answer says why it ended."""

    _REASON = re.compile(rb'"(finish_reason|stop_reason|done_reason)": ?"[a-z_]+"')

    def bodies(self, body: bytes) -> Iterable[bytes]:
        """See Around."""
        yield self._REASON.sub(rb'"\1": null', body)


class TellsOtherTypes(Around):
    """Counts are texts."""

    _COUNT = re.compile(rb'"(total_tokens|output_tokens|eval_count)": ?(\d+)')

    def bodies(self, body: bytes) -> Iterable[bytes]:
        """See Around."""
        yield self._COUNT.sub(rb'"\1": "\2"', body)


class NamesNoModel(Around):
    """No answer says who gave it."""

    _MODEL = re.compile(rb'"model": ?"[^"]*"')

    def bodies(self, body: bytes) -> Iterable[bytes]:
        """See Around."""
        yield self._MODEL.sub(b'"model": null', body)


class ChangesIds(Around):
    """Each event of a stream has an id of its own."""

    _ID = re.compile(rb'"id": ?"(chatcmpl|cmpl)-[^"]*"')

    def bodies(self, body: bytes) -> Iterable[bytes]:
        """See Around."""
        yield self._ID.sub(lambda _: f'"id": "chatcmpl-{secrets.token_hex(8)}"'.encode(), body)


class CutsCharacters(Around):
    """A character that is no ASCII comes in two events, half of its bytes in each."""

    def bodies(self, body: bytes) -> Iterable[bytes]:
        """See Around."""
        for event in body.decode("utf-8", "surrogateescape").splitlines(keepends=True):
            yield from self._halves(event)

    def _halves(self, line: str) -> Iterable[bytes]:
        said = line.removeprefix("data: ").strip()
        found = json.loads(said) if said.startswith("{") else None
        choice = (found or {}).get("choices") or [{}]
        text = choice[0].get("delta", {}).get("content") or ""
        place = next((place for place, letter in enumerate(text) if not letter.isascii()), None)
        if place is None:
            yield line.encode("utf-8", "surrogateescape")
            return
        letter = text[place].encode()
        for more in (text[:place].encode() + letter[:1], letter[1:] + text[place + 1 :].encode()):
            choice[0]["delta"]["content"] = "@here@"
            yield b"data: " + json.dumps(found).encode().replace(b"@here@", self.shown(more)) + b"\n\n"

    def shown(self, text: bytes) -> bytes:
        """How a part of a text is told."""
        return text


class ReplacesCharacters(CutsCharacters):
    """The same by a server that decodes each half by itself, as most do that have this fault."""

    def shown(self, text: bytes) -> bytes:
        """See CutsCharacters."""
        return text.decode("utf-8", "replace").encode()


class NeverEnds(Around):
    """A stream stays open after its last event."""

    def bodies(self, body: bytes) -> Iterable[bytes]:
        """See Around."""
        yield body

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """See ASGI."""
        streams = False

        async def changed(event: Event) -> None:
            nonlocal streams
            if event["type"] == "http.response.start":
                streams = self.streams(event)
            if streams and event["type"] == "http.response.body" and not event.get("more_body"):
                await asyncio.sleep(3600)
            await send(event)

        await self._app(scope, receive, changed)


class NoticesNoEnd(Around):
    """That a client is gone is not noticed."""

    def receiving(self, receive: Receive) -> Receive:
        """See Around."""

        async def received() -> Event:
            event = await receive()
            if event["type"] == "http.disconnect":
                await asyncio.sleep(3600)
            return event

        return received

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """See ASGI."""
        await self._app(scope, self.receiving(receive), send)
