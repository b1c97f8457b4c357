"""A client of any server that speaks OpenAI's API, in as little code as may be: the machine is measured, and not it."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

HOST = "127.0.0.1"
_PATIENCE_S = 600


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        return int(free.getsockname()[1])


def complete(port: int, prompt: list[int], new: int, *, model: str = "any", **more: Any) -> Iterator[int]:
    """An answer of `new` tokens to a prompt: 1 for each event that brings text, as they come.

    What is left over when an event says what was used comes last: tokens that added no text, and left no event. The
    likeliest tokens, unless `more` says otherwise. Raises Refused, and Broken where the answer ends with an error.
    """
    told = 0
    for event in events(port, "/v1/completions", _body(prompt, new, model=model, **more)):
        if "error" in event:
            raise Broken(event["error"]["message"])
        if usage := event.get("usage"):
            yield from [1] * (usage["completion_tokens"] - told)
            return
        if _has_text(event):
            told += 1
            yield 1


def told(port: int, prompt: list[int], new: int, *, model: str = "any", **more: Any) -> dict[str, int]:
    """What such an answer comes to: events with text, and the tokens of prompt and answer as the server counts them."""
    found = list(events(port, "/v1/completions", _body(prompt, new, model=model, **more)))
    usage = found[-1]["usage"]
    return {
        "text_events": sum(map(_has_text, found)),
        "new_tokens": usage["completion_tokens"],
        "prompt_tokens": usage["prompt_tokens"],
    }


def _body(prompt: list[int], new: int, **more: Any) -> dict[str, Any]:
    body = {"prompt": prompt, "max_tokens": new, "temperature": 0, "ignore_eos": True, "stream": True}
    return body | {"stream_options": {"include_usage": True}} | more


def _has_text(event: dict[str, Any]) -> bool:
    return any(choice["text"] for choice in event.get("choices", ()))


def events(port: int, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The events of a stream. Raises Refused for an answer that is none."""
    connection = http.client.HTTPConnection(HOST, port, timeout=_PATIENCE_S)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    try:
        response = connection.getresponse()
        if response.status != 200:
            raise Refused(response.status, response.read().decode())
        for line in response:
            if line.startswith(b"data: ") and not line.startswith(b"data: [DONE]"):
                yield json.loads(line[6:])
    finally:
        connection.close()  # before the end it cancels


def posted(port: int, path: str, body: dict[str, Any]) -> int:
    """The status that a request is answered with, once the whole answer is there."""
    connection = http.client.HTTPConnection(HOST, port, timeout=_PATIENCE_S)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


class Broken(Exception):
    """An answer that ended with an error."""


class Refused(Exception):
    """An answer that is no stream: its status, and what it says."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"{status}: {said}")
        self.status = status


def status_of(port: int, path: str) -> tuple[int, float]:
    """The status that a GET is answered with, and after how many seconds."""
    started = time.perf_counter()
    connection = http.client.HTTPConnection(HOST, port, timeout=_PATIENCE_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        return response.status, time.perf_counter() - started
    finally:
        connection.close()
