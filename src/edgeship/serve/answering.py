"""From an engine's threads to the event loop: the steps of the answers to one request, in the order they come in.

No thread waits for an answer. When a request ends, because its client is gone or for any other reason, so do its
answers.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from typing import Protocol

from edgeship.engine.answer import Answer, collect
from edgeship.engine.api import AnswerSteps, OnStep, Token
from edgeship.engine.steps import Relay, Signal
from edgeship.errors import DeadlinePassed, ServerEnding

Ask = Callable[[threading.Event, float | None, OnStep], AnswerSteps]
"""Begins an answer: is given what cancels it, after how many seconds it is cut, and what its steps go to."""


class Course(Protocol):
    """What the answers to one request go through, each by its number."""

    async def take(self, number: int) -> float | None:
        """Waits until an answer may begin; after how many seconds it is cut. Raises what it cannot begin for."""

    def tell(self, number: int, step: Token | Exception) -> object:
        """A step of an answer came, or what it failed with: also one that nobody takes any more."""


class Answers(AsyncIterator[tuple[int, Token]]):
    """Answers to one request, and their steps with the number of the answer that each belongs to.

    Raises, at the step where it happens, what ends an answer before its time; the others are then ended.
    """

    def __init__(self, executor: Executor, course: Course) -> None:
        self._executor, self._course = executor, course
        self._loop = asyncio.get_running_loop()
        self._steps: asyncio.Queue[tuple[int, Token | Exception]] = asyncio.Queue()
        self._cancel = Signal()
        self._begun: list[AnswerSteps] = []
        self._following: asyncio.Task[None] | None = None
        self._open = 0

    async def begin(self, asks: Sequence[Ask]) -> None:
        """Begins the first of these answers, and sees to it that the others follow, one after another.

        Raises what the first cannot begin for; then none is left.
        """
        self._open = len(asks)
        try:
            await self._start(0, asks[0])
        except BaseException:  # a cancelled request too: the answer in hand is ended by its event
            self.close()
            raise
        if len(asks) > 1:
            self._following = self._loop.create_task(self._follow(asks))

    def close(self) -> None:
        """Ends the answers that have not ended."""
        self._stop()
        for steps in self._begun:
            steps.close()

    def end(self) -> None:
        """Ends the answers since the server ends, and says so to whoever waits for their steps."""
        self._stop()
        self._steps.put_nowait((0, _ending()))

    async def __anext__(self) -> tuple[int, Token]:
        if not self._open:
            raise StopAsyncIteration
        index, step = await self._steps.get()
        if isinstance(step, Exception):
            self.close()
            raise step
        if step.finish is not None:
            self._open -= 1
        if error := _cut_short(step):
            self.close()
            raise error
        return index, step

    async def whole(self) -> list[Answer]:
        """All answers, once they are complete."""
        return [collect(steps) for steps in await self.steps()]

    async def steps(self) -> list[list[Token]]:
        """The steps of each answer, once all are complete."""
        steps: dict[int, list[Token]] = {}
        async for index, step in self:
            steps.setdefault(index, []).append(step)
        return [steps[index] for index in sorted(steps)]

    async def _start(self, index: int, ask: Ask) -> None:
        within_s = await self._course.take(index)
        start = functools.partial(ask, self._cancel, within_s, self._to(index))
        self._begun.append(await self._loop.run_in_executor(self._executor, start))

    async def _follow(self, asks: Sequence[Ask]) -> None:
        for index, ask in enumerate(asks[1:], 1):
            try:
                await self._start(index, ask)
            except Exception as error:
                self._came(index, error)
                return

    def _stop(self) -> None:
        """No more are begun, and those that are end."""
        self._cancel.set()
        if self._following:
            self._following.cancel()

    def _to(self, index: int) -> OnStep:
        def take(step: Token | Exception) -> None:
            self._loop.call_soon_threadsafe(self._came, index, step)

        return Relay(take)

    def _came(self, index: int, step: Token | Exception) -> None:
        self._course.tell(index, step)
        self._steps.put_nowait((index, step))


def _ending() -> ServerEnding:
    return ServerEnding("the answer was ended before it was complete, since the server is being stopped")


def _cut_short(step: Token) -> Exception | None:
    """What a client is told of an answer that was cut from outside, since no API has a word for it."""
    if step.finish == "deadline":
        return DeadlinePassed("the answer was not complete within the time that it was given")
    if step.finish == "cancelled":
        return _ending()
    return None
