"""A server with an API like OpenAI's over any Chat, and one that says what a test wants."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from edgeship.engine import response_format
from edgeship.engine.api import Chat, Conversation, Sampling, Token
from edgeship.errors import ContextFull, EdgeshipError

MODEL = "test-model"
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "seed", "ignore_eos")
Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Gives each request to the test's function for its path."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # what is written goes at once, and not when the client has told of the last piece
    server: Server

    def do_GET(self) -> None:
        self.server.answers[self.path](self)

    def do_POST(self) -> None:
        self.server.clients.add(self.client_address)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, dict(self.headers), json.loads(body)))
        self.server.answers[self.path](self)

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""

    def say(self, body: Any, status: int = 200, **headers: str) -> None:
        """A whole answer: a text, or an object as JSON."""
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def begin(self) -> None:
        """The head of a stream of events."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def event(self, data: Any) -> None:
        """One event: a text, or an object as JSON."""
        self.raw(f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode())

    def raw(self, data: bytes) -> None:
        """Bytes of a stream."""
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def end(self) -> None:
        """The end of a stream."""
        self.wfile.write(b"0\r\n\r\n")

    def cut(self) -> None:
        """The connection is closed."""
        self.close_connection = True

    def wait_until_the_client_is_gone(self) -> None:
        """A client that waits sends nothing more."""
        with suppress(OSError):
            assert self.connection.recv(1) == b""
        self.server.gone.set()
        self.cut()


class Server(ThreadingHTTPServer):
    """answers: by path. asked: path, headers and body of each POST. gone: set once a client has gone early."""

    daemon_threads = True
    request_queue_size = 128  # its default of 5 refuses clients that come at once

    def __init__(self, answers: dict[str, Answer]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = answers
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        self.clients: set[Any] = set()
        self.gone = threading.Event()

    @property
    def url(self) -> str:
        """Of its API."""
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, *_: object) -> None:
        """A client that is gone is no news."""


def models(*names: str, **facts: Any) -> Answer:
    """A list of models."""
    return lambda handler: handler.say({"data": [{"id": name, **facts} for name in names]})


@contextmanager
def serving(completions: Answer, listed: Answer | None = None) -> Iterator[Server]:
    """A server that answers so."""
    answers = {"/v1/models": listed or models(MODEL), "/v1/chat/completions": completions}
    with Server(answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def answers_of(chat: Chat) -> Answer:
    """What a server over a chat answers."""

    def answer(handler: Handler) -> None:
        body = handler.server.asked[-1][2]
        try:
            steps = chat.converse(Conversation(body["messages"], body.get("tools", ())), _sampling(body))
        except EdgeshipError as error:
            code = "context_length_exceeded" if isinstance(error, ContextFull) else error.code
            handler.say({"error": {"message": f"{error.what} ({code})", "code": code}}, error.http_status)
            return
        handler.begin()
        for step in steps:
            handler.event(_chunk(step))
        handler.event({"choices": [], "usage": _usage(step)})
        handler.event("[DONE]")
        handler.end()

    return answer


def _sampling(body: dict[str, Any]) -> Sampling:
    given = {name: body[name] for name in _SAMPLING if name in body}
    held = response_format.constraint(body.get("response_format", {"type": "text"}))
    return Sampling(**given, stop=tuple(body.get("stop", ())), constraint=held)


def _chunk(step: Token) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": step.text}, "finish_reason": step.finish}]}


def _usage(step: Token) -> dict[str, Any]:
    assert step.usage
    told = asdict(step.usage)
    return {
        "prompt_tokens": told["prompt_tokens"],
        "completion_tokens": told["completion_tokens"],
        "prompt_tokens_details": {"cached_tokens": told["cached_tokens"]},
    }
