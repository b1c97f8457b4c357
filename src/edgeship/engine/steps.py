"""The steps of one answer, as whoever asked for it is given them."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from edgeship.engine.api import FinishReason, OnStep, Token, Usage, check_cut
from edgeship.errors import EngineFailed
from edgeship.system import border

Some = TypeVar("Some")
LOOK_S = 0.02
"""How often an answer is looked at that a plain event may cut: it ends within so long."""
_log = logging.getLogger("edgeship.engine")


class Owner:
    """The process that opened an engine. A fork of it has none of its threads, and would wait for them for ever."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def here(self) -> bool:
        """Whether this is that process."""
        return os.getpid() == self._pid

    def require(self) -> None:
        """Raises EngineFailed in any other process."""
        if not self.here:
            raise EngineFailed("the model was opened before this process was forked", hint="Open it in this process.")


class Signal(threading.Event):
    """An event that nobody has to look at: it tells those who asked for it the moment it is set.

    Answers that are given one as `cancel` end at once, and none of their engine's threads wakes up to look.
    """

    def __init__(self) -> None:
        super().__init__()
        self._listeners: list[Callable[[], object]] = []
        self._adding = threading.Lock()

    def tell(self, listener: Callable[[], object]) -> None:
        """Calls this once the event is set, in the thread that sets it; at once where it is set already."""
        with self._adding:
            self._listeners.append(listener)
        if self.is_set():
            listener()

    def set(self) -> None:
        """See Event. A listener may be called more than once."""
        super().set()
        with self._adding:
            listeners = list(self._listeners)
        for listener in listeners:
            listener()


class Relay:
    """A callback that does no more than hand a step on, so that engines may call it from any thread of theirs.

    To wake up a thread for each token costs more than most callbacks do, and is taken from the model's own time.
    """

    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step

    def __call__(self, step: Token | Exception) -> None:
        self._on_step(step)


class Cut:
    """When an answer is cut, however far it is: once `cancel` is set, or `deadline_s` seconds from now.

    Raises PromptInvalid for what could cut none.
    """

    def __init__(self, cancel: threading.Event | None, deadline_s: float | None) -> None:
        check_cut(cancel, deadline_s)
        self.asked_s = time.perf_counter()
        self.deadline = None if deadline_s is None else self.asked_s + deadline_s
        self.cancel = cancel
        self._why: FinishReason | None = None

    def due(self) -> FinishReason | None:
        """Why it is to end now; None where it is not. What was due once stays so, though its event is cleared."""
        if self._why is None:
            if self.cancel and self.cancel.is_set():
                self._why = "cancelled"
            elif self.deadline is not None and time.perf_counter() >= self.deadline:
                self._why = "deadline"
        return self._why

    def look_in_s(self) -> float:
        """After how many seconds it may be due without having told so; infinity where it never is."""
        left_s = math.inf if self.deadline is None else max(0.0, self.deadline - time.perf_counter())
        return left_s if self.cancel is None or isinstance(self.cancel, Signal) else min(left_s, LOOK_S)

    def within(self, work: Callable[[], Some]) -> Some:
        """What `work` gives, see border.within. Raises TookTooLong where the answer is cut before that."""
        # To read a long prompt or constraint takes a while, and one by a stranger may take for ever.
        may_come = self.cancel is not None or self.deadline is not None
        return border.within(math.inf, work, given_up=self.due) if may_come else work()

    def usage(self, completion_tokens: int = 0) -> Usage:
        """What an answer has cost that is not begun."""
        waited_s = time.perf_counter() - self.asked_s
        return Usage(0, completion_tokens, ttft_s=waited_s, e2e_s=waited_s, queue_s=waited_s)


class Steps:
    """An iterator over what `take` waits for. Whoever drops it has no use for the rest, and `drop` is called.

    usage: what the answer has cost once so many tokens of it were given.
    """

    def __init__(
        self,
        take: Callable[[], Token | Exception],
        drop: Callable[[], object],
        usage: Callable[[int], Usage],
        cancel: threading.Event | None,
    ) -> None:
        self._take, self._drop, self._usage, self._cancel = take, drop, usage, cancel
        self._given = 0
        self._done = False

    def __iter__(self) -> Iterator[Token]:
        return self

    def __next__(self) -> Token:
        if self._done:
            raise StopIteration
        if self._cancel and self._cancel.is_set():
            # What was made beyond this moment was not asked for.
            self.close()
            return Token(None, "", "cancelled", usage=self._usage(self._given))
        step = self._take()
        self._done = isinstance(step, Exception) or step.finish is not None
        if isinstance(step, Exception):
            raise step
        self._given += step.counts
        return step

    def close(self) -> None:
        """Ends the answer, unless it has ended."""
        if not self._done:
            self._done = True
            self._drop()

    __del__ = close


class Handle:
    """Stands for an answer whose steps are called back: there is nothing to read. Closing it ends the answer."""

    def __init__(self, drop: Callable[[], object]) -> None:
        self._drop = drop

    def close(self) -> None:
        """Ends the answer, unless it has ended."""
        self._drop()

    def __iter__(self) -> Iterator[Token]:
        return self

    def __next__(self) -> Token:
        raise StopIteration


def give(step: Token | Exception, on_step: OnStep) -> bool:
    """Whether a callback took a step. Whatever it raises is logged: it costs its own answer and no other."""
    try:
        on_step(step)
    except BaseException:  # SystemExit and asyncio's CancelledError are no Exceptions
        _log.exception("an answer ends, since the callback that it was given to failed")
        return False
    return True


def call_back(steps: Iterator[Token], on_step: OnStep, drop: Callable[[], object]) -> Handle:
    """Gives each step to `on_step`, from a thread of its own.

    For Foundry Local, which has a thread for each answer anyway.
    """

    def work() -> None:
        for step in _with_error(steps):
            if not give(step, on_step):
                return

    threading.Thread(target=work, name="edgeship steps", daemon=True).start()
    return Handle(drop)


def _with_error(steps: Iterator[Token]) -> Iterator[Token | Exception]:
    try:
        yield from steps
    except Exception as error:
        yield error
