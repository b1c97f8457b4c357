"""The child of `isolated.py`: a chat, asked by messages and answering by messages, each under its call's number."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from edgeship.engine import opening
from edgeship.engine.api import AnswerSteps, Chat, Conversation, Engine, Limits, Prompt, Token
from edgeship.engine.steps import Relay
from edgeship.engine.wire import read_prompt, read_sampling, spellings
from edgeship.system import worker

Send = Callable[[Mapping[str, Any]], None]

# Calls that are taken up at the same time; answers in the making need no thread.
_THREADS = 32
_FACTS = ("name", "context_tokens", "note")
_FACTS_OF_ENGINES = ("context_cut", "vocab_size", "slots")


def main() -> None:
    """Loads, says so, and serves until the parent is gone."""
    messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    opened: list[Chat] = []
    parent = worker.Parent(messages.put, lambda: _close(opened))
    try:
        chat = _load(parent.job)
    except BaseException as error:
        parent.send({"id": 0, **worker.failure(error)})
        return
    opened.append(chat)
    server = _Server(chat, parent.send)
    parent.send({"id": 0, **server.facts()})
    while True:
        server.take(messages.get())


def _close(opened: Sequence[Chat]) -> None:
    for chat in opened:
        # An engine of ours leaves nothing behind; Foundry Local has files of its own.
        if not isinstance(chat, Engine):
            chat.close()


def _load(job: Mapping[str, Any]) -> Chat:
    load = opening.load if job["shows_tokens"] else opening.load_chat
    return load(
        Path(job["folder"]),
        engine=job["engine"],
        threads=job["threads"],
        limits=Limits(**job["limits"]),
        speculation=job["speculation"],
        home=Path(job["home"]) if job["home"] else None,
    )


class _Server:
    """Takes calls up in threads of a pool; whatever one of them raises is its own answer."""

    def __init__(self, chat: Chat, send: Send) -> None:
        assert chat.codec, "what a package's folder is opened as has one"
        self._chat, self._codec, self._send = chat, chat.codec, send
        self._pool = ThreadPoolExecutor(_THREADS)
        self._cancels: dict[int, threading.Event] = {}

    def facts(self) -> dict[str, Any]:
        """What is to be said of the chat once it is loaded."""
        names = (*_FACTS, *_FACTS_OF_ENGINES) if isinstance(self._chat, Engine) else _FACTS
        found = {name: getattr(self._chat, name) for name in names}
        of_codec = {"template": self._codec.template, "thinks": self._codec.thinks}
        return found | of_codec | {"defaults": asdict(self._chat.defaults)}

    def take(self, message: dict[str, Any]) -> None:
        """Begins what a message asks for."""
        number, kind = message["id"], message["kind"]
        if kind == "cancel":
            if cancel := self._cancels.get(number):
                cancel.set()
            return
        if kind in ("stream", "converse"):
            self._cancels[number] = threading.Event()
        self._pool.submit(self._do, number, kind, message)

    def _do(self, number: int, kind: str, message: dict[str, Any]) -> None:
        try:
            self._send({"id": number, **getattr(self, f"_{kind}")(message)})
        except BaseException as error:  # a panic in Rust is no Exception, and its caller waits all the same
            self._cancels.pop(number, None)
            self._send({"id": number, **worker.failure(error)})

    # --- one method for each kind of call: from its message to what is answered --------------------------------------

    def _stats(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"stats": asdict(self._chat.stats())}

    def _render(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"tokens": self._codec.render(Conversation(**message["conversation"])).tokens}

    def _encode(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"tokens": self._codec.encode(message["text"], special=message["special"]).tokens}

    def _decode(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"text": self._codec.decode(message["tokens"], special=message["special"])}

    def _spell(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"spelled": spellings(self._codec.spell(message["tokens"]))}

    def _places(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"places": self._codec.places(message["tokens"], message["text"])}

    def _config(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"config": self._codec.config}

    def _score(self, message: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        np.save(message["path"], self._engine().score(message["tokens"], message["first"]))
        return {}

    def _converse(self, message: dict[str, Any]) -> dict[str, Any]:
        conversation = Conversation(**message["conversation"])
        if isinstance(self._chat, Engine):
            return self._answer(message, self._chat.render(conversation))
        self._begin(message, partial(self._chat.converse, conversation))
        return {"prompt_tokens": len(self._codec.render(conversation).tokens)}

    def _stream(self, message: dict[str, Any]) -> dict[str, Any]:
        return self._answer(message, read_prompt(message["prompt"]))

    def _answer(self, message: dict[str, Any], prompt: Prompt) -> dict[str, Any]:
        self._begin(message, partial(self._engine().stream, prompt))
        return {"prompt_tokens": len(prompt.tokens)}

    def _engine(self) -> Engine:
        assert isinstance(self._chat, Engine), "nobody asks a chat for tokens"
        return self._chat

    def _begin(self, message: dict[str, Any], ask: Callable[..., AnswerSteps]) -> None:
        number = message["id"]

        def tell(step: Token | Exception) -> None:
            if isinstance(step, Exception) or step.finish:
                self._cancels.pop(number, None)
            said = worker.failure(step) if isinstance(step, Exception) else {"token": asdict(step)}
            self._send({"id": number, **said})

        ask(read_sampling(message["sampling"]), cancel=self._cancels[number], on_step=Relay(tell))


if __name__ == "__main__":
    main()
