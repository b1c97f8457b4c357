"""An answer's steps on their way from the engine's thread to whoever asked for them: in order, and evenly."""

from __future__ import annotations

import queue
import threading
import time

from edgeship.engine.api import OnStep, Token


class Flow:
    """Steps go in as they are made and come out at least `gap_s` apart; none is held for longer than `most_s`.

    While an engine reads a prompt it makes no tokens, and those of the steps before have to last. The end of an answer
    is never held, nor what stands before it.
    """

    def __init__(self, on_step: OnStep | None = None) -> None:
        self._on_step = on_step
        self.gap_s = self.most_s = 0.0
        self._steps: queue.SimpleQueue[tuple[float, Token | Exception]] = queue.SimpleQueue()
        self._due_s = 0.0
        self._over = threading.Event()

    def put(self, step: Token | Exception) -> None:
        """For the engine's thread; an exception or a step that finishes is the last."""
        if self._on_step:
            self._on_step(step)
            return
        now = time.perf_counter()
        self._due_s = min(max(now, self._due_s + self.gap_s), now + self.most_s)
        self._steps.put((self._due_s, step))
        if isinstance(step, Exception) or step.finish:
            self._over.set()

    def take(self) -> Token | Exception:
        """The next step, once it is there and due."""
        due_s, step = self._steps.get()
        left_s = due_s - time.perf_counter()
        if left_s > 0:
            self._over.wait(left_s)
        return step

    def ahead_s(self) -> float:
        """For how long what is held back will last."""
        return max(0.0, self._due_s - time.perf_counter())

    def empty(self) -> bool:
        """Whether nothing is on its way."""
        return self._steps.empty()
