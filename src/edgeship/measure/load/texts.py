"""Prompts of an exact number of tokens, as texts: for whatever takes no token ids.

Words are taken whose tokens were counted, so that a text is put together without asking again. Tokenizers break texts
at the spaces between words, so that the tokens of a text are those of its words.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edgeship.errors import UsageError
from edgeship.measure.load.workload import Make, Question

Count = Callable[[str], int | None]
"""The tokens of a prompt with this text as its only message; None where that cannot be told."""

_LISTED = """
time year people way day man thing woman life child world school state family student group country problem hand part
place case week company system program question work number night point home water room mother area money story fact
month lot right study book eye job word business issue side kind head house service friend father power hour game line
end member law car city name president team minute idea body information back parent face others level office door
health person art war history party result change morning reason research girl guy moment air teacher force education
"""
WORDS = tuple(_LISTED.split())
"""Words that nearly every vocabulary has as one token."""
_LETTERS = list("abcdefghijklmnopqrstuvwxyz")
"""For vocabularies that have few of the words."""
_MOST_CORRECTIONS = 12
_TRIED, _TRIED_TOKENS = 8, 40
"""Texts that are counted once more; where they have what their words have, so have all others."""
_MOST_OF_A_WORD = 32
"""Tokens. A tokenizer of single bytes makes fewer of the longest word, even with what marks them."""
_MOST_COUNTS = 200
"""Requests that are spent on counting where each is a prompt that the model reads."""


@dataclass(frozen=True)
class Vocabulary:
    """What words cost. overhead: the tokens of a prompt around its text.

    lengths: the tokens of each word where it stands after another one.
    exact: whether that was counted, and not assumed.
    count: counts the prompt of a text; None where that costs too much to do it for each, or tells nothing new.
    """

    overhead: int
    lengths: dict[str, int]
    count: Count | None
    exact: bool = True


class _Untold(Exception):
    """A prompt whose tokens nobody tells."""


def learn(count: Count, *, cheap: bool) -> Vocabulary:
    """What words cost a target; a token each where it tells no count of prompts."""
    try:
        return _learn(count, cheap=cheap)
    except _Untold:
        return Vocabulary(0, dict.fromkeys(WORDS, 1), None, exact=False)


def _learn(count: Count, *, cheap: bool) -> Vocabulary:
    spent = 0

    def counted(text: str) -> int:
        nonlocal spent
        spent += 1
        found = count(text)
        if found is None:
            raise _Untold
        return found

    first = WORDS[0]
    base = counted(first)
    lengths: dict[str, int] = {}

    def measure(words: Sequence[str]) -> None:
        """Each word's tokens: a group of as many tokens as words has one for each, and any other is halved."""
        total = counted(" ".join((first, *words))) - base
        if not 0 < total <= _MOST_OF_A_WORD * len(words):
            raise _Untold  # what does not grow with the text, or grows beyond it, is no count of it
        if total == len(words) or len(words) == 1:
            lengths.update(dict.fromkeys(words, max(1, total // len(words))))
        elif spent < _MOST_COUNTS:
            half = len(words) // 2
            measure(words[:half])
            measure(words[half:])

    measure(WORDS)
    if 1 not in lengths.values():
        measure(_LETTERS)
    # The first word of a text has no space before it: where it has other tokens by that, so have most words.
    learnt = Vocabulary(base - lengths.get(first, 1), lengths, None)
    return replace(learnt, count=count) if cheap and not _holds(learnt, count) else learnt


def _holds(vocabulary: Vocabulary, count: Count) -> bool:
    """Whether texts have as many tokens as their words."""
    words = sorted(vocabulary.lengths)
    for tried in range(_TRIED):
        begin = [words[tried * len(words) // _TRIED]]
        text, tokens = _text(vocabulary, begin, vocabulary.overhead + _TRIED_TOKENS, random.Random(tried))
        if count(text) != tokens:
            return False
    return True


def text_prompts(vocabulary: Vocabulary, prompt_tokens: int, new_tokens: int) -> Make:
    """Prompts as texts, of so many tokens with what the template puts around them. Each begins with other words.

    Raises UsageError where the template alone has as many.
    """
    words = sorted(vocabulary.lengths)
    if prompt_tokens <= vocabulary.overhead:
        raise UsageError(
            f"--prompt-tokens is {prompt_tokens}, and the chat template alone makes {vocabulary.overhead} tokens",
            hint=f"Give more than {vocabulary.overhead}.",
        )

    def make(chance: random.Random, number: int) -> Question:
        # The number stands in the first words, so that no two prompts share more than these.
        begin = [words[number % len(words)], words[number // len(words) % len(words)]]
        text, tokens = _text(vocabulary, begin, prompt_tokens, chance)
        return Question(
            messages=({"role": "user", "content": text},),
            prompt_tokens=tokens if vocabulary.exact else None,
            new_tokens=new_tokens,
            ignore_eos=True,
            temperature=1.0,
        )

    return make


def _text(vocabulary: Vocabulary, begin: Sequence[str], tokens: int, chance: random.Random) -> tuple[str, int]:
    """A text with as many tokens in its prompt as can be had, and how many these are."""
    lengths = vocabulary.lengths
    chosen: list[str] = []

    def fill(room: int) -> None:
        for word in begin[len(chosen) :]:
            if lengths[word] <= room:
                chosen.append(word)
                room -= lengths[word]
        while fitting := [word for word in lengths if lengths[word] <= room]:
            chosen.append(chance.choice(fitting))
            room -= lengths[chosen[-1]]

    fill(tokens - vocabulary.overhead)
    found = vocabulary.overhead + sum(lengths[word] for word in chosen)
    if vocabulary.count is None:
        return " ".join(chosen), found
    for _ in range(_MOST_CORRECTIONS):
        found = vocabulary.count(" ".join(chosen)) or found
        if found == tokens or (found < tokens and not any(size <= tokens - found for size in lengths.values())):
            break
        if found > tokens:
            missing = found - tokens
            while missing > 0 and len(chosen) > 1:
                missing -= lengths[chosen.pop()]
        else:
            fill(tokens - found)
    return " ".join(chosen), found
