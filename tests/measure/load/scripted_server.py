"""A server that answers as it is told to, and notes when it sent what: figures are held against its own clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.chat_server import MODEL, Handler, Server, models
from tests.chat_server import Answer as Answers

FIRST_S, GAP_S = 0.15, 0.02


@dataclass
class Sent:
    """What the server did for one request, by time.perf_counter(). tokens: when each was sent."""

    asked_s: float
    tokens: list[float] = field(default_factory=list)
    end_s: float = 0.0

    @property
    def ttft_s(self) -> float:
        return self.tokens[0] - self.asked_s

    @property
    def tpot_s(self) -> float:
        return (self.tokens[-1] - self.tokens[0]) / (len(self.tokens) - 1)

    @property
    def gaps_s(self) -> list[float]:
        return [after - before for before, after in zip(self.tokens, self.tokens[1:], strict=False)]


@dataclass
class Script:
    """How it answers.

    merge: tokens in a chunk. empty: whether each token is followed by an empty chunk. thoughts: tokens of thinking
    that come first. ends_after: tokens after which it ends, whatever was asked. usage: told tokens for each one made;
    None tells none. continuous: whether it takes continuous_usage_stats. tokenizes: whether it has /tokenize, by which
    each word is a token. cached: prompt tokens that usage calls cached. model: the name in chunks. role_first: whether
    a chunk without text comes before all others. fails: how often, and with what, it fails instead.
    """

    merge: int = 1
    empty: bool = False
    thoughts: int = 0
    ends_after: int | None = None
    usage: float | None = 1.0
    continuous: bool = False
    refuses: tuple[str, ...] = ()
    tokenizes: bool = False
    cached: int = 0
    model: str = MODEL
    sent: list[Sent] = field(default_factory=list)
    gap_s: float = GAP_S
    first_s: float = FIRST_S
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, handler: Handler) -> None:
        """A chat completion."""
        seen = Sent(time.perf_counter())
        body = handler.server.asked[-1][2]
        if any(name in body or name in body.get("stream_options", {}) for name in self.refuses):
            handler.say({"error": {"message": "unknown field"}}, 400)
            return
        wanted = body["max_tokens"]
        count = min(wanted, self.ends_after or wanted)
        handler.begin()
        handler.event(self._chunk({"role": "assistant", "content": ""}))
        waiting: list[str] = []
        for number in range(count):
            time.sleep(self.first_s if number == 0 else self.gap_s)
            seen.tokens.append(time.perf_counter())
            waiting.append(f"word{number} ")
            if len(waiting) == self.merge or number == count - 1:
                name = "reasoning_content" if number < self.thoughts else "content"
                usage = self._usage(body, number + 1) if self.continuous and _wants_all(body) else None
                handler.event(self._chunk({name: "".join(waiting)}, usage=usage))
                waiting = []
                if self.empty:
                    handler.event(self._chunk({"content": ""}))
        handler.event(self._chunk({}, finish="length" if count == wanted else "stop"))
        seen.end_s = time.perf_counter()
        if self.usage is not None:
            handler.event({"model": self.model, "choices": [], "usage": self._usage(body, count)})
        handler.event("[DONE]")
        handler.end()
        if wanted > 8:  # neither a first try nor a warm-up
            with self.lock:
                self.sent.append(seen)

    def tokenize(self, handler: Handler) -> None:
        """As vLLM has it: a word is a token, and the template has three more."""
        body = handler.server.asked[-1][2]
        words = _words(body["messages"]) + 3 if "messages" in body else len(body["prompt"].split())
        handler.say({"count": words, "tokens": list(range(words))})

    def _chunk(self, delta: dict[str, Any], finish: str | None = None, usage: Any = None) -> dict[str, Any]:
        choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
        return {"model": self.model, "choices": choices} | ({"usage": usage} if usage else {})

    def _usage(self, body: dict[str, Any], count: int) -> dict[str, Any]:
        assert self.usage is not None
        return {
            "prompt_tokens": _words(body["messages"]) + 3,
            "completion_tokens": round(count * self.usage),
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }


@contextmanager
def scripted(script: Script, **others: Answers) -> Iterator[Server]:
    """The server, listening. others: what it answers instead, by the last part of a path."""
    answers: dict[str, Answers] = {"/v1/models": models(MODEL), "/v1/chat/completions": script.answer}
    if script.tokenizes:
        answers["/tokenize"] = script.tokenize
    absent = ("/tokenize", "/apply-template")
    answers = dict.fromkeys(absent, _absent) | answers
    answers |= {f"/v1/chat/{name}": answer for name, answer in others.items()}
    with Server(answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def _absent(handler: Handler) -> None:
    handler.say({"error": "no such path"}, 404)


def _wants_all(body: dict[str, Any]) -> bool:
    return bool(body.get("stream_options", {}).get("continuous_usage_stats"))


def _words(messages: list[dict[str, Any]]) -> int:
    return sum(len(message["content"].split()) for message in messages)
