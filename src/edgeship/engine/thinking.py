"""What a model thinks before it answers: where that begins and ends, by the marks that models have for it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgeship.engine.answer import TextStream

# As the tokenizer has them, with what some models say between the first mark and their thoughts: Qwen, DeepSeek, SmolLM
# and most others; Magistral; Cohere; Gemma 4; Seed; EXAONE Deep.
MARKS = (
    ("<think>", "</think>", ""),
    ("[THINK]", "[/THINK]", ""),
    ("<|START_THINKING|>", "<|END_THINKING|>", ""),
    ("<|channel>", "<channel|>", "thought\n"),
    ("<seed:think>", "</seed:think>", ""),
    ("<thought>", "</thought>", ""),
)
# A template may open the thoughts itself, or close them where none are wanted; line breaks follow the mark.
_LAST_TOKENS = 3
_LEADING = re.compile(
    "|".join(rf"\s*{re.escape(begin + label)}.*?{re.escape(end)}\s*" for begin, end, label in MARKS), re.DOTALL
)


@dataclass(frozen=True)
class Marks:
    """The tokens around a model's thoughts. label: the text with which they begin, which is none of them."""

    begin: int
    end: int
    label: str = ""


class Thoughts:
    """The thoughts of one answer. marks: None for models that have none. most: tokens between the marks; None for any.

    now: the next token belongs to them. may_begin: they may begin with the next token. tokens: of them, marks included.
    """

    def __init__(
        self, marks: Marks | None, prompt: Sequence[int], text: TextStream | None, most: int | None = None
    ) -> None:
        self._marks, self._text, self._left = marks, text, most
        last = list(prompt[-_LAST_TOKENS:])
        ended = marks is None or marks.end in last
        self.now = marks is not None and not ended and marks.begin in last
        self.may_begin = not ended and not self.now
        self.tokens = 0
        self._label = self._held = ""

    @property
    def begin(self) -> int | None:
        """The token that would begin them now."""
        return self._marks.begin if self._marks and self.may_begin else None

    @property
    def forced_end(self) -> int | None:
        """The token that ends them now, since there may be no more of them."""
        return self._marks.end if self._marks and self.now and self._left is not None and self._left <= 0 else None

    def take(self, token: int) -> str | None:
        """What a token of the answer adds to the thoughts; None where it is none of theirs."""
        begins, self.may_begin = token == self.begin, False
        if not (begins or self.now):
            return None
        self.tokens += 1
        if self._left is not None and not begins:
            self._left -= 1
        assert self._marks
        assert self._text
        self.now = token != self._marks.end
        if begins:
            self._label = self._marks.label
            return ""
        return self._without_label(self._text.push(token) if self.now else self._text.flush())

    def _without_label(self, text: str) -> str:
        self._held += text
        if self.now and self._label.startswith(self._held):
            return ""
        text, label = self._held, self._label
        self._held = self._label = ""
        return text.removeprefix(label)


def answer_of(text: str) -> str:
    """A text without the thoughts with which it begins."""
    found = _LEADING.match(text)
    return text[found.end() :] if found else text
