"""From token ids to an answer: text, stop texts, and what it cost. Pure; every engine shares it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from edgeship.engine.api import Chat, Conversation, FinishReason, Logprob, Sampling, Token, ToolCall, Usage


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
        self.found: str | None = None

    def push(self, text: str) -> str:
        """What may be shown now. Sets `found` to the stop text that is complete: push nothing after that."""
        text = self._held + text
        self.found = find_stop(text, self._stops)
        if self.found is not None:
            self._held = ""
            return text[: text.find(self.found)]
        cut = len(text) - held_length(text, self._stops)
        self._held = text[cut:]
        return text[:cut]

    def flush(self) -> str:
        """What was held back and is now known to be no stop text."""
        held, self._held = self._held, ""
        return held


def find_stop(text: str, stops: Sequence[str]) -> str | None:
    """The stop text that is complete first; None where there is none.

    First by its end, so that the outcome does not depend on how the text was cut into tokens; of several that end
    there, the longest.
    """
    found = [stop for stop in stops if stop in text]
    return min(found, key=lambda stop: (text.find(stop) + len(stop), text.find(stop)), default=None)


def held_length(text: str, stops: Sequence[str]) -> int:
    """Characters at the end of `text` that may be the beginning of a stop text."""
    longest = max((len(stop) for stop in stops), default=0) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(len(stop) > length and stop.startswith(text[-length:]) for stop in stops):
            return length
    return 0


class AnswerText:
    """The text of one answer as its tokens come, up to a stop text.

    after_thoughts: the white space that comes first only stands between the thoughts and the answer.
    end: characters that its tokens have made, whatever of them was shown.
    """

    def __init__(self, text: TextStream, stop: Sequence[str]) -> None:
        self._text = text
        self._stops = StopFilter(stop)
        self.after_thoughts = False
        self.end = 0

    @property
    def stopped_by(self) -> str | None:
        """The stop text, once one is complete."""
        return self._stops.found

    def push(self, token: int) -> str:
        """What may be shown now."""
        piece = self._text.push(token)
        self.end += len(piece)
        if self.after_thoughts:
            piece = piece.lstrip()
            self.after_thoughts = not piece
        return self._stops.push(piece)

    def rest(self) -> str:
        """What is left once no token follows."""
        if self.stopped_by is not None:
            return ""
        shown = self._stops.push(self._text.flush())
        return shown + self._stops.flush()


@dataclass(frozen=True)
class Answer:
    """A whole answer. tokens: where their ids are told. logprobs: of its tokens, where they were asked for.

    stopped_by: the stop text that ended it, from engines that tell it.
    parsed: its value, where it was asked for in the form of a schema and was not cut.
    """

    text: str
    tokens: tuple[int, ...]
    finish: FinishReason
    usage: Usage
    logprobs: tuple[Logprob, ...] = ()
    prompt_logprobs: tuple[Logprob, ...] = ()
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    parsed: Any = None
    stopped_by: str | None = None


def ask(
    chat: Chat,
    conversation: Conversation,
    sampling: Sampling,
    *,
    cancel: threading.Event | None = None,
    tell: Callable[[str], object] | None = None,
    tell_thoughts: Callable[[str], object] | None = None,
) -> Answer:
    """The whole answer; `tell` gets each piece of its text as it comes, and the other one what the model thinks.

    Raises as Chat.converse.
    """
    return collect(chat.converse(conversation, sampling, cancel=cancel), tell, tell_thoughts)


def collect(
    steps: Iterable[Token],
    tell: Callable[[str], object] | None = None,
    tell_thoughts: Callable[[str], object] | None = None,
) -> Answer:
    """The whole answer of its steps, as `converse` and `stream` give them. Raises as they do."""
    made: list[Token] = []
    for step in steps:
        made.append(step)
        if tell_thoughts and step.thinking:
            tell_thoughts(step.thinking)
        if tell and step.text:
            tell(step.text)
    last = made[-1]
    assert last.finish, "the last step says why"
    assert last.usage, "and what the answer cost"
    return Answer(
        text="".join(step.text for step in made),
        tokens=tuple(step.id for step in made if step.id is not None),
        finish=last.finish,
        usage=last.usage,
        logprobs=tuple(step.logprob for step in made if step.logprob),
        prompt_logprobs=made[0].prompt_logprobs or (),
        thinking="".join(step.thinking for step in made),
        tool_calls=tuple(call for step in made for call in step.tool_calls),
        stopped_by=last.stopped_by,
    )
