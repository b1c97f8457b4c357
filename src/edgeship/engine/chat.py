"""From token ids to an answer: text, stop texts, and what it cost. Pure; every engine shares it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from edgeship.engine.api import Engine, FinishReason, Prompt, Sampling, Token, Usage


class TextStream(Protocol):
    """Turns token ids into text, one at a time."""

    def push(self, token: int) -> str:
        """The text that is complete now and was not before."""
        ...

    def flush(self) -> str:
        """What is left: the visible form of a character that stayed incomplete."""
        ...


class StopFilter:
    """Lets text through up to the first stop text, and holds back what may still become one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        """What may be shown now. Sets `found` once a stop text is complete: push nothing after that."""
        text = self._held + text
        cut = find_stop(text, self._stops)
        self.found = cut is not None
        if cut is None:
            cut = len(text) - held_length(text, self._stops)
        self._held = "" if self.found else text[cut:]
        return text[:cut]

    def flush(self) -> str:
        """What was held back and is now known to be no stop text."""
        held, self._held = self._held, ""
        return held


def find_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the stop text that is complete first begins; None where there is none.

    First by its end, so that the outcome does not depend on how the text was cut into tokens.
    """
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    return min(ends)[1] if ends else None


def held_length(text: str, stops: Sequence[str]) -> int:
    """Characters at the end of `text` that may be the beginning of a stop text."""
    longest = max((len(stop) for stop in stops), default=0) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(len(stop) > length and stop.startswith(text[-length:]) for stop in stops):
            return length
    return 0


def answer_tokens(
    ids: Generator[int, None, None],
    text: TextStream,
    *,
    limit: int,
    end_ids: Collection[int] = (),
    stop: Sequence[str] = (),
    cancel: threading.Event | None = None,
) -> Iterator[Token]:
    """The answer that `ids` makes: up to `limit` of them, ended by one of `end_ids`, a stop text or `cancel`.

    An `ids` that ends by itself has been cancelled. It is closed when the answer ends or is dropped.
    """
    stops = StopFilter(stop)

    def rest() -> str:
        shown = stops.push(text.flush())
        return shown + stops.flush()

    with closing(ids):
        for count, token in enumerate(_until(cancel, ids), start=1):
            if token in end_ids:
                yield Token(token, rest(), "stop")
                return
            shown = stops.push(text.push(token))
            if stops.found:
                yield Token(token, shown, "stop")
                return
            if count == limit:
                yield Token(token, shown + rest(), "length")
                return
            yield Token(token, shown)
        yield Token(None, rest(), "cancelled")


def _until(cancel: threading.Event | None, ids: Iterator[int]) -> Iterator[int]:
    while not (cancel and cancel.is_set()):
        try:
            yield next(ids)
        except StopIteration:
            return


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    text: str
    tokens: tuple[int, ...]
    finish: FinishReason
    usage: Usage


def ask(
    engine: Engine,
    prompt: Prompt,
    sampling: Sampling,
    *,
    cancel: threading.Event | None = None,
    tell: Callable[[str], object] | None = None,
) -> Answer:
    """The whole answer, timed; `tell` gets each piece of its text as it comes. Raises as Engine.stream."""
    start = time.perf_counter()
    first_s: float | None = None
    texts: list[str] = []
    ids: list[int] = []
    finish: FinishReason = "cancelled"
    for token in engine.stream(prompt, sampling, cancel):
        if token.id is not None:
            ids.append(token.id)
            first_s = first_s or time.perf_counter() - start
        if token.text:
            texts.append(token.text)
            if tell:
                tell(token.text)
        finish = token.finish or finish
    e2e_s = time.perf_counter() - start
    usage = Usage(len(prompt.tokens), len(ids), first_s or e2e_s, e2e_s)
    return Answer("".join(texts), tuple(ids), finish, usage)
