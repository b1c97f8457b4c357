"""The child of `isolated.py`: an engine, its requests from stdin and its tokens to stdout."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeship.engine import opening
from edgeship.engine.api import Conversation, Engine, Limits, Prompt
from edgeship.engine.isolated import read_sampling
from edgeship.errors import EdgeshipError
from edgeship.system import child

Send = Callable[[Mapping[str, Any]], None]


class _Server:
    """Serves each request in a thread of its own."""

    def __init__(self, engine: Engine, send: Send) -> None:
        self._engine, self._send = engine, send
        self._cancels: dict[int, threading.Event] = {}

    def serve(self, message: dict[str, Any]) -> None:
        """Begins what a message asks for."""
        number = message["id"]
        if message["kind"] == "cancel":
            if number in self._cancels:
                self._cancels[number].set()
            return
        cancel = self._cancels[number] = threading.Event()
        threading.Thread(target=self._answer, args=(number, message, cancel), daemon=True).start()

    def _answer(self, number: int, message: dict[str, Any], cancel: threading.Event) -> None:
        try:
            self._do(number, message, cancel)
        except EdgeshipError as error:
            self._send({"id": number, "error": error.to_dict()})
        finally:
            del self._cancels[number]

    def _do(self, number: int, message: dict[str, Any], cancel: threading.Event) -> None:
        kind = message["kind"]
        if kind == "stats":
            self._send({"id": number, "stats": asdict(self._engine.stats())})
        elif kind == "render":
            prompt = self._engine.render(Conversation(**message["conversation"]))
            self._send({"id": number, "tokens": prompt.tokens, "messages": prompt.messages})
        elif kind == "encode":
            self._send({"id": number, "tokens": self._engine.encode(message["text"]).tokens})
        elif kind == "score":
            import numpy as np

            np.save(message["path"], self._engine.score(message["tokens"], message["first"]))
            self._send({"id": number})
        else:
            messages = message["messages"]
            prompt = Prompt(tuple(message["tokens"]), tuple(messages) if messages else None)
            sampling = read_sampling(message["sampling"])
            steps = self._engine.stream(prompt, sampling, cancel=cancel, deadline_s=message["deadline_s"])
            self._send({"id": number})
            for token in steps:
                self._send({"id": number, "token": asdict(token)})


def main() -> None:
    """Loads, says so, and serves until the parent is gone."""
    lines = sys.stdin.buffer
    job = json.loads(lines.readline())
    write, lock = child.answering(), threading.Lock()

    def send(message: Mapping[str, Any]) -> None:
        with lock:
            write(message)

    try:
        engine = opening.load(
            Path(job["folder"]),
            engine=job["engine"],
            threads=job["threads"],
            limits=Limits(**job["limits"]),
            speculation=job["speculation"],
            home=Path(job["home"]) if job["home"] else None,
        )
    except EdgeshipError as error:
        send({"id": 0, "error": error.to_dict()})
        return
    send({"id": 0, "defaults": asdict(engine.defaults)} | {name: getattr(engine, name) for name in _FACTS})
    server = _Server(engine, send)
    for line in lines:
        server.serve(json.loads(line))
    # The parent is gone or wants an end: what still runs has nobody to go to.
    os._exit(0)


_FACTS = ("name", "context_tokens", "vocab_size", "slots", "note")

if __name__ == "__main__":
    main()
