"""What is asked: synthetic prompts of so many tokens, a user's questions, or conversations turn by turn."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeship.errors import PromptInvalid, PromptsInvalid
from edgeship.package.conversation import Conversation
from edgeship.package.example_files import Kind
from edgeship.package.examples import document, unified
from edgeship.system import json_file

_FILE = Kind(PromptsInvalid, "prompts", "--prompts", "messages")
_FORMAT = (
    'Each line is one object: {"messages": [{"role": "user", "content": "..."}]}, or {"prompt": "..."}; files of '
    "evaluations and fine-tuning are read too."
)
_LISTED_FAULTS = 5


@dataclass(frozen=True)
class Question:
    """One request: token ids, or messages.

    prompt_tokens: how many tokens it is made to have; None where that is not known before it is asked.
    new_tokens: at most. ignore_eos: the answer is to have as many, whatever the model would end it with.
    No seed is asked for, as most clients ask for none: an answer that can be made again may cost an engine more.
    """

    tokens: tuple[int, ...] = ()
    messages: tuple[Mapping[str, Any], ...] = ()
    prompt_tokens: int | None = None
    new_tokens: int | None = None
    ignore_eos: bool = False
    temperature: float | None = None


@dataclass(frozen=True)
class Script:
    """A conversation that is asked turn by turn. first: its first question. later: the turns after each answer."""

    first: Question
    later: tuple[tuple[Mapping[str, Any], ...], ...] = ()

    @property
    def turns(self) -> int:
        """How many questions it has."""
        return 1 + len(self.later)

    def question(self, answers: Sequence[str]) -> Question:
        """The next question, after these answers."""
        if not answers:
            return self.first
        messages = list(self.first.messages)
        for answer, turn in zip(answers, self.later, strict=False):
            messages += [{"role": "assistant", "content": answer}, *turn]
        return replace(self.first, messages=tuple(messages), prompt_tokens=None)


Make = Callable[[random.Random, int], Question]
"""A question of so many tokens in its prompt. The number says which: those of two numbers begin differently."""


def synthetic(make: Make, seed: int) -> Iterator[Script]:
    """Questions without an end, the same ones for the same seed."""
    for number in itertools.count():
        yield Script(make(random.Random(f"{seed} {number}"), number))


def token_prompts(vocab_size: int, prompt_tokens: int, new_tokens: int, seed: int) -> Make:
    """Prompts of random token ids. No two of them begin with the same token while the vocabulary lasts.

    Special tokens stand at the ends of every vocabulary that we know, hence its middle half.
    """
    low, high = vocab_size // 4, max(vocab_size // 4 + 1, vocab_size * 3 // 4)
    firsts = list(range(low, high))
    random.Random(seed).shuffle(firsts)

    def make(chance: random.Random, number: int) -> Question:
        first = firsts[number % len(firsts)]
        rest = (chance.randrange(low, high) for _ in range(prompt_tokens - 1))
        return Question(
            tokens=(first, *rest),
            prompt_tokens=prompt_tokens,
            new_tokens=new_tokens,
            ignore_eos=True,
            temperature=1.0,
        )

    return make


def read_prompts(path: Path, new_tokens: int | None, *, replay: bool = False) -> tuple[Script, ...]:
    """The questions of a file of JSON Lines or one JSON array, in the shapes that evaluations have.

    replay: a conversation is asked turn by turn, with the answers that the target gives in the place of the file's;
    otherwise its last question is asked, with the file's answers before it.
    Raises PromptsInvalid, which names lines.
    """
    scripts: list[Script] = []
    faults: list[str] = []
    for place, value in _examples(path):
        try:
            scripts.append(_script(value, new_tokens, replay=replay))
        except (ValueError, KeyError, TypeError, AttributeError, PromptInvalid) as error:
            faults.append(f"{place}: {error.what if isinstance(error, PromptInvalid) else error}")
    if faults:
        more = f"; and {len(faults) - _LISTED_FAULTS} more" if len(faults) > _LISTED_FAULTS else ""
        raise PromptsInvalid("; ".join(faults[:_LISTED_FAULTS]) + more, where=str(path), hint=_FORMAT)
    if not scripts:
        raise PromptsInvalid("the file holds no prompts", where=str(path), hint=_FORMAT)
    return tuple(scripts)


def _examples(path: Path) -> Iterator[tuple[str, Any]]:
    text = _FILE.read(path)
    items = document(text)
    if items is not None:
        yield from ((f"item {number}", item) for number, item in enumerate(items, 1))
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"line {number}", line


def _script(value: Any, new_tokens: int | None, *, replay: bool) -> Script:
    if isinstance(value, str):
        try:
            value = json_file.parse(value)
        except ValueError as error:
            raise ValueError(f"Invalid JSON: {str(error).removeprefix('line 1, ')}") from error
    if not isinstance(value, dict):
        raise ValueError("it is no object")
    example = unified(value)
    if "messages" not in example:
        raise ValueError("messages: this field is missing")
    conversation = Conversation(example["messages"], example.get("tools") or ())
    if conversation.tools:
        raise ValueError("tools: this field is not read")
    messages = tuple(conversation.messages)
    if messages[-1]["role"] not in ("user", "tool"):
        raise ValueError("messages: the conversation must end with a user turn")
    parts = _turns(messages) if replay else [messages]
    return Script(Question(messages=parts[0], new_tokens=new_tokens), tuple(parts[1:]))


def _turns(messages: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], ...]]:
    """What is said between the assistant's answers."""
    parts: list[list[Mapping[str, Any]]] = [[]]
    for message in messages:
        if message["role"] == "assistant":
            parts += [[]] if parts[-1] else []
        else:
            parts[-1].append(message)
    return [tuple(part) for part in parts]
