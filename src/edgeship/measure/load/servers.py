"""Asks a server with an API like OpenAI's, and notes each event of its stream as it comes."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from edgeship.engine.api import Token, Usage
from edgeship.engine.remote import RemoteChat
from edgeship.engine.steps import Relay
from edgeship.errors import EdgeshipError, PromptInvalid
from edgeship.measure.load import chunks
from edgeship.measure.load.chats import cut_short, failure_of
from edgeship.measure.load.driver import Closable
from edgeship.measure.load.records import Reply
from edgeship.measure.load.workload import Question
from edgeship.system import border

_USAGE = {"include_usage": True}
_EVERY_USAGE = {**_USAGE, "continuous_usage_stats": True}
# What is asked besides OpenAI's own fields, from most to least: the first that a server does not refuse.
_ASKED_BESIDE: tuple[dict[str, Any], ...] = (
    {"ignore_eos": True, "stream_options": _EVERY_USAGE},
    {"ignore_eos": True, "stream_options": _USAGE},
    {"stream_options": _EVERY_USAGE},
    {"stream_options": _USAGE},
    {},
)
_FIRST_TOKENS = 4
_HELLO = ({"role": "user", "content": "Hello"},)


class _Events:
    """See Reader: keeps the events, and leaves to read them for later."""

    def __init__(self, asked_s: float) -> None:
        self._asked_s = asked_s
        self.events: chunks.Events = []

    def push(self, data: str) -> None:
        self.events.append((time.perf_counter(), data))

    def end(self) -> Token:
        return Token(None, "", "stop", usage=self.usage())

    def usage(self) -> Usage:
        waited_s = time.perf_counter() - self._asked_s
        return Usage(0, 0, waited_s, waited_s)


class ServerAsker:
    """See Asker.

    answers: whether the server answered a first short request. beside: what is asked besides OpenAI's own fields: what
    the server takes of it, found by that.
    """

    def __init__(self, chat: RemoteChat, timeout_s: float) -> None:
        self.chat, self._timeout_s = chat, timeout_s
        self.answers, self.beside = self._tried()

    def _tried(self) -> tuple[bool, Mapping[str, Any]]:
        for self.beside in _ASKED_BESIDE:
            failure = self._answer(Question(messages=_HELLO, new_tokens=_FIRST_TOKENS, ignore_eos=True)).failure
            if failure is None or failure.kind != PromptInvalid.code:
                return failure is None, self.beside
        return False, _ASKED_BESIDE[0]  # it refuses for another reason, which the requests will tell

    @property
    def takes_ignore_eos(self) -> bool:
        """Whether the server takes the wish for answers that do not end early; whether it obeys shows in them."""
        return "ignore_eos" in self.beside

    def ask(self, question: Question, timeout_s: float, done: Callable[[Callable[[], Reply]], object]) -> Closable:
        """See Asker.ask."""
        readers: list[_Events] = []

        def reader(asked_s: float) -> _Events:
            readers.append(_Events(asked_s))
            return readers[0]

        def take(step: Token | Exception) -> None:
            done(partial(self._read, readers[0].events, step, time.perf_counter(), timeout_s))

        return self.chat.send(self._body(question), reader, deadline_s=timeout_s, on_step=Relay(take))

    def _body(self, question: Question) -> dict[str, Any]:
        given = {"max_tokens": question.new_tokens, "temperature": question.temperature}
        beside = {name: value for name, value in self.beside.items() if name != "ignore_eos" or question.ignore_eos}
        return {
            "model": self.chat.model,
            "messages": [dict(message) for message in question.messages],
            "stream": True,
            **{name: value for name, value in given.items() if value is not None},
            **beside,
        }

    def _read(self, events: chunks.Events, step: Token | Exception, end_s: float, timeout_s: float) -> Reply:
        failure = cut_short(step, timeout_s, began=bool(events)) if isinstance(step, Token) else failure_of(step)
        return chunks.read(events, self.chat.names, self.chat.model, end_s, failure)

    def _answer(self, question: Question) -> Reply:
        """One answer, waited for."""
        inbox: queue.SimpleQueue[Callable[[], Reply]] = queue.SimpleQueue()
        self.ask(question, self._timeout_s, inbox.put)
        return border.take(inbox)()

    # --- counting ----------------------------------------------------------------------------------------------------

    def counter(self) -> tuple[Callable[[str], int | None], bool]:
        """What counts the tokens of a prompt with this text as its only message, and whether it costs next to nothing.

        By the server's tokenizer, where it can be asked; else by the usage of a request, which gives None where the
        server tells none. A server that does not answer is not asked.
        """
        if not self.answers:
            return lambda _: None, False
        for way in (self._prompt_by_vllm, self._prompt_by_llama):
            if _tried(way, "Hello") is not None:
                return _until_it_fails(partial(_tried, way)), True
        return self._prompt_by_usage, False

    def count(self, text: str) -> int | None:
        """The tokens of a text, by the server's tokenizer; None where it cannot be asked."""
        for way in (self._text_by_vllm, self._text_by_llama):
            found = _tried(way, text)
            if found is not None:
                return found
        return None

    def _prompt_by_vllm(self, text: str) -> int:
        found = self.chat.tell("/tokenize", {"model": self.chat.model, "messages": _messages(text)})
        return int(found["count"])

    def _prompt_by_llama(self, text: str) -> int:
        prompt = self.chat.tell("/apply-template", {"messages": _messages(text)})["prompt"]
        found = self.chat.tell("/tokenize", {"content": prompt, "add_special": True, "parse_special": True})
        return len(found["tokens"])

    def _text_by_vllm(self, text: str) -> int:
        body = {"model": self.chat.model, "prompt": text, "add_special_tokens": False}
        return int(self.chat.tell("/tokenize", body)["count"])

    def _text_by_llama(self, text: str) -> int:
        return len(self.chat.tell("/tokenize", {"content": text, "add_special": False})["tokens"])

    def _prompt_by_usage(self, text: str) -> int | None:
        return self._answer(Question(messages=tuple(_messages(text)), new_tokens=1)).prompt_tokens


def _messages(text: str) -> Sequence[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _until_it_fails(count: Callable[[str], int | None]) -> Callable[[str], int | None]:
    """The same, which gives None once it did: each prompt would wait for a tokenizer that hangs."""
    told = True

    def counted(text: str) -> int | None:
        nonlocal told
        found = count(text) if told else None
        told = found is not None
        return found

    return counted


def _tried(way: Callable[[str], int], text: str) -> int | None:
    """What a way of counting gives; None where the server does not know it."""
    try:
        return way(text)
    except (EdgeshipError, LookupError, TypeError, ValueError):
        return None
