"""Ctrl-C while something is under way that must not be left half done."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ONE_S = 1.0
"""Whoever presses Ctrl-C several times within this time means one interrupt."""
_HANGS_S = 20.0
"""Who still presses it so long after the first time is not held up by what hangs, such as a pipe that nobody reads."""


class Interrupts:
    """Ctrl-C as it comes, until `hold`; from then on it is remembered, except in a block of `let_through`."""

    def __init__(self) -> None:
        self.seen = False
        self._holds = False
        self._first_s = self._raised_s = 0.0

    def hold(self) -> None:
        """From now on an interrupt is only remembered."""
        self._holds = True

    @contextmanager
    def let_through(self) -> Iterator[None]:
        """A block that an interrupt ends. Raises KeyboardInterrupt at once where one was seen before it."""
        if self.seen:
            raise KeyboardInterrupt
        held, self._holds = self._holds, False
        try:
            yield
        finally:
            self._holds = held

    def receive(self, _number: int = signal.SIGINT, _frame: FrameType | None = None) -> None:
        """The signal's handler. Raises KeyboardInterrupt."""
        now = time.monotonic()
        if not self.seen:
            self.seen, self._first_s = True, now
        if self._holds:
            if now - self._first_s < _HANGS_S:
                return
        elif self._raised_s and now - self._raised_s < _ONE_S:
            return
        self._raised_s = now
        raise KeyboardInterrupt


@contextmanager
def handled() -> Iterator[Interrupts]:
    """While it is open, SIGINT goes to the `Interrupts`; where Python handles none, as beside the main thread, nothing
    is changed."""
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    before = signal.signal(signal.SIGINT, interrupts.receive)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)
