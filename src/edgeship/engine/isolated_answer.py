"""An answer that is made in another process, as it is seen from here: cut in time, whatever that process does."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

from edgeship.engine.api import AnswerSteps, FinishReason, OnStep, Token, Usage
from edgeship.engine.pacing import Callbacks
from edgeship.engine.steps import Cut, Signal
from edgeship.engine.wire import read_token
from edgeship.system import border

Message = dict[str, Any]


class Answer:
    """An answer on its way here, which whoever asked may cut at any moment.

    cut_at: when it was cut. on_cut: is called then.
    """

    def __init__(
        self,
        callbacks: Callbacks,
        cancel: threading.Event | None,
        deadline_s: float | None,
        on_step: OnStep | None,
        prompt_tokens: int = 0,
    ) -> None:
        self._cut = Cut(cancel, deadline_s)
        self.cut_at: float | None = None
        self.on_cut: Callable[[], object] = lambda: None
        self._prompt_tokens = prompt_tokens
        self._steps = callbacks.steps(on_step, self._drop)
        self._lock = threading.RLock()
        self._begun = threading.Event()
        self._refused: Exception | None = None
        self._over = False
        self._made = self._thought = 0
        self._first: float | None = None
        if isinstance(cancel, Signal):
            cancel.tell(self.look)

    # --- for the threads that hear the child and look at the time ----------------------------------------------------

    def take(self, message: Message | Exception) -> None:
        """What the child says of it, or why it says no more."""
        with self._lock:
            if isinstance(message, Exception):
                self._fail(message)
            elif "token" in message:
                self.look()
                self._put(read_token(message["token"]))
            else:
                self._prompt_tokens = message["prompt_tokens"]
                self._begun.set()

    def look_in_s(self) -> float:
        """After how many seconds it has to be looked at again; infinity where it need not be."""
        return math.inf if self._over else self._cut.look_in_s()

    def look(self) -> None:
        """Cuts it where that is due."""
        if why := self._cut.due():
            self.cut(why)

    def cut(self, why: FinishReason) -> None:
        """Ends it here and now, unless it has ended."""
        with self._lock:
            if not self._over:
                self.cut_at = time.perf_counter()
                self._put(Token(None, "", why, usage=self.usage(self._made)))
                self.on_cut()

    def _put(self, token: Token) -> None:
        if not self._over:
            self._over = token.finish is not None
            self._made += token.counts
            self._thought = self._made if token.thinking else self._thought
            self._first = self._first or time.perf_counter()
            self._steps.put(token)
            self._begun.set()

    def _fail(self, error: Exception) -> None:
        if self._over:
            return
        self._over = True
        if self._begun.is_set():
            self._steps.put(error)
        else:
            self._refused = error
            self._begun.set()

    def _drop(self) -> None:
        self.cut("cancelled")

    # --- for whoever asked -------------------------------------------------------------------------------------------

    def wait_until_begun(self) -> None:
        """Waits until the child accepts it, or it is cut. Raises what the child refuses it with."""
        border.wait(self._begun)
        if self._refused:
            raise self._refused

    def steps(self) -> AnswerSteps:
        """Its steps, or none where they are called back."""
        return self._steps.given(self._drop, self.usage, self._cut.cancel)

    def usage(self, completion_tokens: int) -> Usage:
        """What it has cost by now, as far as it can be told from here."""
        now = time.perf_counter()
        asked = self._cut.asked_s
        first = (self._first or now) - asked
        thought = min(self._thought, completion_tokens)
        return Usage(self._prompt_tokens, completion_tokens, first, now - asked, reasoning_tokens=thought)
