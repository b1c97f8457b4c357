"""An answer's steps on their way from the engine's thread to whoever asked for them: in order, and evenly.

While an engine reads a prompt it makes no tokens, and those of the steps before have to last.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edgeship.engine.api import AnswerSteps, OnStep, Token, Usage
from edgeship.engine.steps import Handle, Relay, Steps, give
from edgeship.system import border

Step = Token | Exception
CALLBACK_S = 5.0
"""A callback that has not come back after so long is not waited for when its engine is closed."""


class PacedSteps(ABC):
    """Steps that come out at least `gap_s` apart; none is held for longer than `most_s`.

    The end of an answer, which is an exception or a step that finishes it, is never held, nor what stands before it.
    """

    def __init__(self) -> None:
        self.gap_s = self.most_s = 0.0
        self._due_s = -math.inf

    def put(self, step: Step) -> None:
        """A step was made; for the engine's thread."""
        now = time.perf_counter()
        self._due_s = min(max(now, self._due_s + self.gap_s), now + self.most_s)
        self._add(self._due_s, step)

    def ahead_s(self) -> float:
        """For how long what is held back will last."""
        return max(0.0, self._due_s - time.perf_counter())

    @abstractmethod
    def given(
        self, drop: Callable[[], object], usage: Callable[[int], Usage], cancel: threading.Event | None
    ) -> AnswerSteps:
        """What whoever asked is given; see Steps."""
        ...

    @abstractmethod
    def _add(self, due_s: float, step: Step) -> None: ...


class ReadSteps(PacedSteps):
    """Steps for a thread that waits for them."""

    def __init__(self) -> None:
        super().__init__()
        self._steps: queue.SimpleQueue[tuple[float, Step]] = queue.SimpleQueue()
        self._over = threading.Event()

    def take(self) -> Step:
        """The next step, once it is there and due."""
        due_s, step = border.take(self._steps)
        left_s = due_s - time.perf_counter()
        if left_s > 0:
            self._over.wait(left_s)
        return step

    def given(
        self, drop: Callable[[], object], usage: Callable[[int], Usage], cancel: threading.Event | None
    ) -> AnswerSteps:
        """See PacedSteps."""
        return Steps(self.take, drop, usage, cancel)

    def empty(self) -> bool:
        """Whether nothing is on its way."""
        return self._steps.empty()

    def _add(self, due_s: float, step: Step) -> None:
        self._steps.put((due_s, step))
        if _ends(step):
            self._over.set()


class CalledSteps(PacedSteps):
    """Steps for a callback. failed: is called where the callback raises, and then no step follows."""

    def __init__(self, callbacks: Callbacks, on_step: OnStep, failed: Callable[[], object]) -> None:
        super().__init__()
        self._callbacks, self._on_step, self._failed = callbacks, on_step, failed
        self._steps: deque[tuple[float, Step]] = deque()
        self._broken = False

    def given(
        self,
        drop: Callable[[], object],
        usage: Callable[[int], Usage],  # noqa: ARG002 - the last step tells it
        cancel: threading.Event | None,  # noqa: ARG002 - whoever makes the steps looks at it
    ) -> AnswerSteps:
        """See PacedSteps: the callback has the steps."""
        return Handle(drop)

    @property
    def next_due_s(self) -> float:
        """When the next step is due; infinity where there is none."""
        if self._steps and _ends(self._steps[-1][1]):
            return 0.0
        return self._steps[0][0] if self._steps else math.inf

    def take_due(self, now: float) -> list[Step]:
        """The steps that are due."""
        found = []
        while self.next_due_s <= now:
            found.append(self._steps.popleft()[1])
        return found

    def call(self, step: Step) -> None:
        """Gives a step to the callback."""
        if not (self._broken or give(step, self._on_step)):
            self._broken = True
            self._failed()

    def _add(self, due_s: float, step: Step) -> None:
        is_due = _ends(step) or due_s <= time.perf_counter()
        # Only the thread that makes the steps adds any, so that none comes between.
        if is_due and isinstance(self._on_step, Relay) and self._callbacks.has_none_of(self):
            self.call(step)
            return
        with self._callbacks.changing(self):
            self._steps.append((due_s, step))


class Callbacks:
    """One thread that gives the steps of all answers to their callbacks, each step when it is due.

    It is not the engine's thread: a callback that takes its time holds up other callbacks, and not the model. A Relay
    takes none, and is called by whoever makes the steps, unless these are held back.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._changed = threading.Condition()
        self._waiting: dict[CalledSteps, None] = {}  # those that have steps left, by who came first
        self._given: set[CalledSteps] = set()  # those whose steps the thread has in hand
        self._thread: threading.Thread | None = None
        self._closed = False

    def steps(self, on_step: OnStep | None, drop: Callable[[], object]) -> PacedSteps:
        """The steps of one answer, for `on_step`, or to be read where there is none.

        drop: is called where the callback raises.
        """
        return ReadSteps() if on_step is None else CalledSteps(self, on_step, drop)

    @contextmanager
    def changing(self, steps: CalledSteps) -> Iterator[None]:
        """While steps are added to these."""
        with self._changed:
            yield
            self._waiting[steps] = None
            if self._thread is None:
                self._thread = threading.Thread(target=self._deliver, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify()

    def has_none_of(self, steps: CalledSteps) -> bool:
        """Whether none of these is on its way."""
        with self._changed:
            return steps not in self._waiting and steps not in self._given

    def close(self) -> None:
        """Waits until all steps were delivered, and no longer than a callback may take."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread and self._thread is not threading.current_thread():
            self._thread.join(CALLBACK_S)

    def _deliver(self) -> None:
        while due := self._wait():
            for steps, step in due:
                steps.call(step)

    def _wait(self) -> list[tuple[CalledSteps, Step]]:
        """Steps that are due, once there are any; none where it is closed and nothing is left."""
        with self._changed:
            while True:
                now = time.perf_counter()
                due = [(steps, step) for steps in self._waiting for step in steps.take_due(now)]
                self._waiting = {steps: None for steps in self._waiting if steps.next_due_s < math.inf}
                self._given = {steps for steps, _ in due}
                if due or (self._closed and not self._waiting):
                    return due
                next_due_s = min((steps.next_due_s for steps in self._waiting), default=math.inf)
                self._changed.wait(None if next_due_s == math.inf else next_due_s - now)


def _ends(step: Step) -> bool:
    return isinstance(step, Exception) or step.finish is not None
