"""Control tokens that somebody typed into a conversation. They stay text: only its template opens and ends turns.

A seam goes into each before the template is rendered. It tells what was typed from what the template writes, also where
a template changes texts, and the tokenizer finds no control token across it.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from edgeship.errors import PromptInvalid
from edgeship.package.conversation import Conversation, Message
from edgeship.package.tokenizer import with_seams, without_seams

# What is only blanks, a word or one character is part of ordinary texts, which keep their tokens.
_TELLING = re.compile(r"(?=.*[^\w\s\u2581]).{2,}", re.DOTALL)


class ControlTokens:
    """Those of one model: the special ones among its added tokens, and what its template writes around turns.

    added: the library's added tokens, by their ids. around_turns: the tokens of a conversation without others.
    """

    def __init__(self, added: Mapping[int, Any], around_turns: Collection[int]) -> None:
        around = set(around_turns)
        found = {number: token for number, token in added.items() if token.special or number in around}
        self._all = _Texts(token.content for token in found.values())
        # The assistant's own turns were written by the model, also with other tokens: a call of a tool.
        self._turns = _Texts(token.content for number, token in found.items() if number in around)
        normalized = {number: token.content for number, token in found.items() if token.normalized}
        self._normalized = {number: text for number, text in normalized.items() if _TELLING.fullmatch(text)}

    def mark(self, conversation: Conversation) -> Conversation:
        """The conversation with a seam in each control token that stands in it.

        Raises PromptInvalid for values that lie too deep in one another.
        """
        try:
            return replace(
                conversation,
                messages=[self._marked_message(message) for message in conversation.messages],
                tools=self._marked(conversation.tools, self._all),
                allowed_tools=self._marked(conversation.allowed_tools, self._all),
                variables=self._marked(conversation.variables, self._all),
            )
        except RecursionError as error:
            raise PromptInvalid(
                "the conversation has a value that is nested too deeply", hint="Give it in fewer levels."
            ) from error

    def typed(self, rendered: str) -> tuple[str, list[int]]:
        """A rendered text without its seams, and the places of those that lie in control tokens."""
        text, places = without_seams(rendered)
        if not places:
            return text, []
        inside = {place for start, end in self._all.spans(text) for place in range(start + 1, end)}
        return text, [place for place in places if place in inside]

    def require_written(self, tokens: Iterable[int], text: str, typed: Collection[int]) -> None:
        """Raises PromptInvalid for control tokens that only normalizing made of what somebody typed.

        tokens: of a rendered text. typed: the places in it, see `typed`.
        """
        found = Counter(self._normalized[token] for token in tokens if token in self._normalized)
        if not found:
            return
        places = set(typed)
        spans = [span for span in self._all.spans(text) if places.isdisjoint(range(span[0] + 1, span[1]))]
        made = found - Counter(text[start:end] for start, end in spans)
        if made:
            raise PromptInvalid(
                f"the conversation has a text that the tokenizer takes for the control token {min(made)!r}",
                hint="Write it in other characters.",
            )

    def _marked_message(self, message: Message) -> Message:
        texts = self._turns if message["role"] == "assistant" else self._all
        found = {name: self._marked(value, texts) for name, value in message.items()}
        if message.get("tool_calls"):
            found["tool_calls"] = [self._marked(_with_arguments(call), texts) for call in message["tool_calls"]]
        content = found.get("content")
        if isinstance(content, str):
            found["content"] = texts.mark_end(content)
        elif content is not None:
            found["content"] = [{**part, "text": texts.mark_end(part["text"])} for part in content]
        return found

    def _marked(self, value: Any, texts: _Texts) -> Any:
        if isinstance(value, str):
            return texts.mark(value)
        if isinstance(value, Mapping):
            return {self._marked(name, texts): self._marked(each, texts) for name, each in value.items()}
        if isinstance(value, list | tuple):
            found = [self._marked(each, texts) for each in value]
            return found if isinstance(value, list) else tuple(found)
        return value


class _Texts:
    """The texts of some tokens, and where they stand in others."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self._tokens = sorted(filter(_TELLING.fullmatch, tokens))
        self._longest = max(map(len, self._tokens), default=0)
        either = "|".join(map(re.escape, sorted(self._tokens, key=len, reverse=True))) or "(?!)"
        # The second also finds those that begin within another one, and takes longer.
        self._any, self._each = re.compile(either), re.compile(f"(?=({either}))")

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Beginning and end of each."""
        return [match.span(1) for match in self._each.finditer(text)] if self._any.search(text) else []

    def mark(self, text: str) -> str:
        """The text with a seam in each."""
        spans = self.spans(text)
        return with_seams(text, [start + 1 for start, _ in spans]) if spans else text

    def mark_end(self, text: str) -> str:
        """With a seam also where one begins at the end, which what the template shows next could complete."""
        end = len(text.rstrip())
        starts = range(max(0, end - self._longest), end)
        return with_seams(text, [start + 1 for start in starts if self._is_beginning(text[start:end])])

    def _is_beginning(self, text: str) -> bool:
        place = bisect_left(self._tokens, text)
        return any(token != text and token.startswith(text) for token in self._tokens[place : place + 2])


def _with_arguments(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """A call whose arguments are an object, since JSON has more than one way to write a text."""
    arguments = call["function"].get("arguments")
    if not isinstance(arguments, str):
        return call
    return {**call, "function": {**call["function"], "arguments": json.loads(arguments)}}
