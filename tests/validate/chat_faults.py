"""Faults of a model or its engine, each put around a chat."""

# ruff: noqa: ARG002 - of what a fault is told it reads what it needs

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from edgeship.engine.api import AnswerSteps, Chat, Conversation, Engine, OnStep, Prompt, Sampling, Stats, Token
from edgeship.errors import EngineBusy
from edgeship.package.conversation import text_of

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Ask = Callable[..., AnswerSteps]


class Fault:
    """Around a chat: none. What goes wrong is said by those below."""

    def __init__(self, inner: Chat) -> None:
        self.inner = inner

    def asked(self, conversation: Conversation) -> None:
        """A conversation comes."""

    def sampling(self, sampling: Sampling) -> Sampling:
        """How it is answered."""
        return sampling

    def cut_by(self, how: Mapping[str, Any]) -> Mapping[str, Any]:
        """What may end an answer early: `cancel` and `deadline_s`."""
        return how

    def drop(self, steps: AnswerSteps) -> None:
        """Nobody reads an answer on."""
        steps.close()

    def begin(self) -> None:
        """An answer begins."""

    def step(self, step: Token, number: int) -> Token:
        """Its step of that number, from 0 on."""
        return step

    def end(self, *, whole: bool) -> None:
        """It has ended. whole: by itself."""

    def stats(self, stats: Stats) -> Stats:
        """What is told of it all."""
        return stats


class LeaksMemory(Fault):
    """50 kB of each request stay."""

    def __init__(self, inner: Chat) -> None:
        super().__init__(inner)
        self._kept: list[bytes] = []

    def begin(self) -> None:
        """See Fault."""
        self._kept.append(b"x" * 50_000)


class LeaksHandles(Fault):
    """Of every tenth request a handle stays."""

    def __init__(self, inner: Chat) -> None:
        super().__init__(inner)
        self._kept: list[IO[bytes]] = []
        self._begun = 0

    def begin(self) -> None:
        """See Fault."""
        self._begun += 1
        if self._begun % 10 == 0:
            self._kept.append(Path(os.devnull).open("rb"))  # noqa: SIM115 - that it stays open is the fault


class LeaksThreads(Fault):
    """Of every twentieth request a thread stays."""

    def __init__(self, inner: Chat) -> None:
        super().__init__(inner)
        self._begun = 0

    def begin(self) -> None:
        """See Fault."""
        self._begun += 1
        if self._begun % 20 == 0:
            threading.Thread(target=threading.Event().wait, daemon=True).start()


class LeaksCut(LeaksMemory):
    """50 kB of each answer that is cut stay."""

    def begin(self) -> None:
        """See Fault."""

    def end(self, *, whole: bool) -> None:
        """See Fault."""
        if not whole:
            super().begin()


class HoldsMuch(Fault):
    """It takes 200 MB more than it needs."""

    def __init__(self, inner: Chat) -> None:
        super().__init__(inner)
        self._held = b"x" * 200_000_000


class IgnoresMaxTokens(Fault):
    """Answers are as long as they are."""

    def sampling(self, sampling: Sampling) -> Sampling:
        """See Fault."""
        return replace(sampling, max_tokens=None)


class IgnoresSeed(Fault):
    """Each answer has a seed of its own."""

    def sampling(self, sampling: Sampling) -> Sampling:
        """See Fault."""
        return replace(sampling, seed=secrets.randbits(32))


class FailsOnEmpty(Fault):
    """An empty message is nothing that somebody thought of."""

    def asked(self, conversation: Conversation) -> None:
        """See Fault."""
        if not text_of(conversation.messages[-1].get("content")):
            raise IndexError("string index out of range")


class SlowsQuadratically(Fault):
    """Each token takes time for each one before it."""

    _BACK_S = 5e-6

    def step(self, step: Token, number: int) -> Token:
        """See Fault."""
        if number == 0:
            before = step.prompt_tokens or 0
            time.sleep(self._BACK_S * before * before / 2)
        time.sleep(self._BACK_S * number)
        return step


class Slow(Fault):
    """Each step takes 20 ms more."""

    def step(self, step: Token, number: int) -> Token:
        """See Fault."""
        time.sleep(0.02)
        return step


class SeesNeighbours(Fault):
    """Answers that are made side by side read otherwise."""

    def __init__(self, inner: Chat) -> None:
        super().__init__(inner)
        self._running = 0

    def begin(self) -> None:
        """See Fault."""
        self._running += 1

    def step(self, step: Token, number: int) -> Token:
        """See Fault."""
        return replace(step, text=step.text.swapcase()) if self._running > 1 else step

    def end(self, *, whole: bool) -> None:
        """See Fault."""
        self._running -= 1


class KeepsSlots(Fault):
    """An answer that is cut keeps its slot."""

    _WAIT_S = 0.5

    def __init__(self, inner: Chat) -> None:
        super().__init__(inner)
        slots = inner.slots if isinstance(inner, Engine) else 1
        self._slots, self._kept = threading.Semaphore(slots), 0

    def begin(self) -> None:
        """See Fault."""
        if not self._slots.acquire(timeout=self._WAIT_S):
            raise EngineBusy("every slot is taken")

    def end(self, *, whole: bool) -> None:
        """See Fault."""
        if whole:
            self._slots.release()
        else:
            self._kept += 1

    def stats(self, stats: Stats) -> Stats:
        """See Fault."""
        return replace(stats, running=stats.running + self._kept)


class IgnoresCancel(Fault):
    """An answer that is cancelled, or that nobody reads on, goes on to its end."""

    def __init__(self, inner: Chat) -> None:
        super().__init__(inner)
        self._going_on: list[AnswerSteps] = []

    def cut_by(self, how: Mapping[str, Any]) -> Mapping[str, Any]:
        """See Fault."""
        return {**how, "cancel": None}

    def drop(self, steps: AnswerSteps) -> None:
        """See Fault. Steps that nothing refers to would end."""
        self._going_on.append(steps)


class IgnoresDeadlines(Fault):
    """An answer that is out of time goes on to its end."""

    def cut_by(self, how: Mapping[str, Any]) -> Mapping[str, Any]:
        """See Fault."""
        return {**how, "deadline_s": None}


class LiesAboutUsage(Fault):
    """Half of what was made is told."""

    def step(self, step: Token, number: int) -> Token:
        """See Fault."""
        if step.usage is None:
            return step
        return replace(step, usage=replace(step.usage, completion_tokens=(step.usage.completion_tokens + 1) // 2))


class LeaksStops(Fault):
    """Of a text that ends an answer the first half is told."""

    def step(self, step: Token, number: int) -> Token:
        """See Fault."""
        stop = step.stopped_by or ""
        return replace(step, text=step.text + stop[: (len(stop) + 1) // 2])


class FaultyChat:
    """A chat with a fault around it; an engine where the other is one."""

    def __init__(self, inner: Chat, kind: type[Fault]) -> None:
        self._inner, self._fault = inner, kind(inner)
        self.name, self.defaults, self.note = inner.name, inner.defaults, inner.note
        self.codec, self.context_tokens = inner.codec, inner.context_tokens
        if isinstance(inner, Engine):
            self.context_cut, self.vocab_size, self.slots = inner.context_cut, inner.vocab_size, inner.slots
            self.render, self.encode, self.score = inner.render, inner.encode, inner.score
            self.stream = self._stream

    def converse(self, conversation: Conversation, sampling: Sampling, **how: Any) -> AnswerSteps:
        """See Chat."""
        self._fault.asked(conversation)
        return self._answer(partial(self._inner.converse, conversation), sampling, **how)

    def _stream(self, prompt: Prompt, sampling: Sampling, **how: Any) -> AnswerSteps:
        assert isinstance(self._inner, Engine)
        return self._answer(partial(self._inner.stream, prompt), sampling, **how)

    def stats(self) -> Stats:
        """See Chat."""
        return self._fault.stats(self._inner.stats())

    def close(self) -> None:
        """See Chat."""
        self._inner.close()

    def __enter__(self) -> FaultyChat:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, ask: Ask, sampling: Sampling, *, on_step: OnStep | None = None, **how: Any) -> AnswerSteps:
        self._fault.begin()
        course = _Course(self._fault)
        try:
            steps = ask(
                self._fault.sampling(sampling),
                on_step=None if on_step is None else lambda step: on_step(course.changed(step)),
                **self._fault.cut_by(how),
            )
        except BaseException:
            course.over(whole=True)
            raise
        return _Steps(steps, course, self._fault)


class _Course:
    """One answer on its way through a fault."""

    def __init__(self, fault: Fault) -> None:
        self._fault, self._number, self._over, self._lock = fault, -1, False, threading.Lock()

    def changed(self, step: Token | Exception) -> Token | Exception:
        """The step as it is told."""
        if isinstance(step, Exception):
            self.over(whole=True)
            return step
        self._number += 1
        told = self._fault.step(step, self._number)
        if step.finish is not None:
            self.over(whole=step.finish not in ("cancelled", "deadline"))
        return told

    def over(self, *, whole: bool) -> None:
        """It has ended."""
        with self._lock:
            if self._over:
                return
            self._over = True
        self._fault.end(whole=whole)


class _Steps:
    def __init__(self, steps: AnswerSteps, course: _Course, fault: Fault) -> None:
        self._steps, self._course, self._fault = steps, course, fault

    def __iter__(self) -> _Steps:
        return self

    def __next__(self) -> Token:
        step = self._course.changed(next(self._steps))
        assert isinstance(step, Token)
        return step

    def close(self) -> None:
        """See AnswerSteps."""
        self._fault.drop(self._steps)
        self._course.over(whole=False)


# --- around the application ------------------------------------------------------------------------------------------
