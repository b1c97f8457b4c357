"""A server that runs: uvicorn in a thread, over scripted models or whatever a test opens."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI

from edgeship import targets
from edgeship.engine.api import Chat
from edgeship.engine.codec import Codec
from edgeship.package.tool_formats import HERMES
from edgeship.serve import ServeOptions, app
from edgeship.serve.connections import Connection
from edgeship.serve.models import ModelCard, Opened, Pool
from edgeship.settings import resolve
from tests.bigram import open_bigram
from tests.scripted import CallingEngine, ScriptedEngine

PLACE = {"location": "San Francisco"}
ANSWERS = {
    "hello": "Good day to you.",
    "json": '{"a": 1}',
    "héllo": "Grüß Gott 🙂.",
    # With a tool of that name, these are calls.
    "weather?": HERMES.written([("weather", PLACE)]),
    "weather and time?": "I look.\n" + HERMES.written([("weather", PLACE), ("time", {})]),
    "What is the weather in San Francisco?": HERMES.written([("get_weather", PLACE)]),
    "rain": "It rains.",
}


def card(name: str, *, aliases: tuple[str, ...] = (), folder: Path | None = None) -> ModelCard:
    """A model of that name, whatever its target is."""
    target = targets.Target("folder", str(folder or name), resolve())
    return ModelCard(name, target, aliases, 1_700_000_000, None, folder)


def talker(codec: Codec | None = None, **facts: Any) -> Chat:
    """A chat that nobody asks for an answer, and no engine. codec: what tells its tokens."""
    return cast(Chat, SimpleNamespace(codec=codec, close=lambda: None, **facts))


def opened(codec: Codec | None = None, **facts: Any) -> Opened:
    """The model "model", which is such a chat."""
    return Opened(card("model"), talker(codec, **facts))


def pool_of(answers: Mapping[str, str], **how: Any) -> Pool:
    """The one model "scripted", also called "alias"; how: of its engine."""

    def open_chat(_: ModelCard) -> Chat:
        return ScriptedEngine(answers, **how)

    return Pool([card("scripted", aliases=("alias",))], settings=resolve(), open_chat=open_chat)


def scripted_app(answers: Mapping[str, str] = ANSWERS, options: ServeOptions | None = None, **how: Any) -> FastAPI:
    """An application with the model of `pool_of`."""
    return app.over(pool_of(answers, **how), options or ServeOptions())


def calling_app(arguments: str = '{"location": "San Francisco"}') -> FastAPI:
    """The same, with a model that calls the first tool that it is given."""

    def open_chat(_: ModelCard) -> Chat:
        return CallingEngine(ANSWERS, arguments)

    return app.over(Pool([card("scripted")], settings=resolve(), open_chat=open_chat), ServeOptions())


def connected(url: str) -> socket.socket:
    """A connection to a server, for what no client would send."""
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return socket.create_connection((parts.hostname, parts.port), timeout=30)


def posted(path: str, body: Mapping[str, Any]) -> bytes:
    """A request as it goes over a connection."""
    content = json.dumps(body).encode()
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


def bigram_app(folder: Path, options: ServeOptions | None = None) -> FastAPI:
    """The same, with the model "bigram", which has the tokenizer of a package; see tests/bigram.py."""
    pool = Pool([card("bigram", folder=folder)], settings=resolve(), open_chat=lambda _: open_bigram(folder))
    return app.over(pool, options or ServeOptions())


@contextmanager
def serving(make: Callable[[], FastAPI]) -> Iterator[str]:
    """The URL of an application while it is served on a free port."""
    server = uvicorn.Server(uvicorn.Config(make(), host="127.0.0.1", port=0, log_config=None, http=Connection))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        thread.join(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
