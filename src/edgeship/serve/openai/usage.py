"""What answers cost, in OpenAI's words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from edgeship.engine.api import Token, Usage


class Usages:
    """What the answers to one request have cost; all of it, once their last steps are counted.

    prompts: how many there are. answers: to each of them. made: False where what was made is not part of the answer.
    """

    def __init__(self, *, prompts: int = 1, answers: int = 1, made: bool = True) -> None:
        self._usages = [Usage(0, 0, 0.0, 0.0)] * (prompts * answers)
        self._answers, self._made = answers, made

    def count(self, number: int, step: Token) -> None:
        """Takes note of a step of an answer."""
        so_far = self._usages[number]
        self._usages[number] = step.usage or replace(
            so_far,
            prompt_tokens=so_far.prompt_tokens or step.prompt_tokens or 0,
            completion_tokens=so_far.completion_tokens + (step.id is not None),
        )

    def told(self) -> dict[str, Any]:
        """The usage as a request is told of it."""
        return usage_of(self._usages, answers=self._answers, made=self._made)

    def so_far(self) -> dict[str, Any] | None:
        """The same; None where the length of no prompt is known yet, which not all models tell before the end."""
        return self.told() if any(usage.prompt_tokens for usage in self._usages) else None


def usage_of(usages: Sequence[Usage], *, answers: int = 1, made: bool = True) -> dict[str, Any]:
    """The usage of one request. answers: how many there are to each prompt, which is counted once.

    made: False where what was made is not part of the answer.
    """
    firsts = range(0, len(usages), answers)
    prompt_tokens = sum(max(usage.prompt_tokens for usage in usages[first : first + answers]) for first in firsts)
    completion_tokens = sum(usage.completion_tokens for usage in usages) if made else 0
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": sum(usages[first].cached_tokens for first in firsts)},
        "completion_tokens_details": {"reasoning_tokens": sum(usage.reasoning_tokens for usage in usages)},
    }
