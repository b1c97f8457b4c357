"""Asks a chat many things side by side, and tells what becomes of each as it ends."""

from __future__ import annotations

import math
import queue
import time
from collections import Counter, deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from edgeship.engine.answer import Answer, collect
from edgeship.engine.api import Chat, Conversation, Sampling, Token
from edgeship.engine.steps import Relay
from edgeship.errors import DeadlinePassed, EdgeshipError, EngineBusy, EngineFailed
from edgeship.system import border

BUSY_TRIES = 5
BUSY_WAIT_S = 1.0
"""Where nothing else is being answered, a busy server is asked again after so long, and each time later."""
SILENT = 2
"""So many answers in a row of which nothing came in time, or as many as are asked at a time, and no more is asked."""


@dataclass(frozen=True)
class Question:
    """What is asked, and how it is to be answered."""

    conversation: Conversation
    sampling: Sampling


Outcome = Answer | EdgeshipError


def side_by_side(
    chat: Chat,
    questions: Sequence[Question],
    concurrency: int,
    *,
    timeout_s: float | None = None,
    until: float = math.inf,
) -> Generator[tuple[int, Outcome]]:
    """(index, its answer or the error that it ends with), for each question as it ends.

    concurrency: so many are asked at a time, and fewer where the chat is busy: such a question is asked again later.
    timeout_s: an answer that is not whole within so long is an error. until: by time.monotonic(); what is not answered
    then has no outcome. Whoever closes the iterator ends all answers in the making.
    Raises EngineFailed where the chat says nothing any more, so that each further question would only wait for its
    timeout; EngineFault, and whatever else is a fault of our own.
    """
    silent, most_silent = 0, max(SILENT, concurrency)
    line, tries = deque(range(len(questions))), Counter[int]()
    ended: queue.SimpleQueue[int] = queue.SimpleQueue()
    asked: dict[int, _Asked] = {}
    try:
        while line or asked:
            while line and len(asked) < concurrency and time.monotonic() < until:
                index = line.popleft()
                try:
                    asked[index] = _Asked(chat, questions[index], timeout_s, index, ended)
                except EdgeshipError as error:
                    outcome: Outcome = error
                    break
            else:
                index = border.take(ended, until)
                silent = silent + 1 if asked[index].timed_out_without_a_word else 0
                outcome = asked.pop(index).outcome()
            if not isinstance(outcome, EngineBusy) or tries[index] == BUSY_TRIES:
                yield index, outcome
                if silent >= most_silent and (line or asked):
                    assert timeout_s is not None
                    raise EngineFailed(f"nothing of {silent} answers in a row came within {timeout_s:g} s")
                continue
            tries[index] += 1
            line.append(index)
            concurrency = max(1, len(asked))
            if not asked:
                time.sleep(max(0.0, min(BUSY_WAIT_S * tries[index], until - time.monotonic())))
    except border.TookTooLong:
        return
    finally:
        for each in asked.values():
            each.close()


class _Asked:
    """A question whose answer is being made."""

    def __init__(
        self, chat: Chat, question: Question, timeout_s: float | None, index: int, ended: queue.SimpleQueue[int]
    ) -> None:
        self._steps: list[Token] = []
        self._error: Exception | None = None
        self._timeout_s, self._index, self._ended = timeout_s, index, ended
        self._handle = chat.converse(
            question.conversation, question.sampling, deadline_s=timeout_s, on_step=Relay(self._take)
        )

    def _take(self, step: Token | Exception) -> None:
        if isinstance(step, Exception):
            self._error = step
        else:
            self._steps.append(step)
        if self._error or self._steps[-1].finish:
            self._ended.put(self._index)

    @property
    def timed_out_without_a_word(self) -> bool:
        """Whether nothing of the answer came within its time."""
        return not self._error and self._steps[-1].finish == "deadline" and len(self._steps) == 1

    def outcome(self) -> Outcome:
        """What became of it. Raises what is no error of ours."""
        if isinstance(self._error, EdgeshipError):
            return self._error
        if self._error:
            raise self._error
        answer = collect(self._steps)
        if answer.finish == "deadline":
            what = "nothing of the answer came" if self.timed_out_without_a_word else "the answer was not whole"
            return DeadlinePassed(f"{what} within {self._timeout_s:g} s")
        return answer

    def close(self) -> None:
        """Ends the answer."""
        self._handle.close()
