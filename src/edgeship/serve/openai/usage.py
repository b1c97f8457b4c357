"""What answers cost, in OpenAI's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeship.engine.api import Usage


def usage_of(usages: Sequence[Usage], *, answers: int = 1, made: bool = True) -> dict[str, Any]:
    """The usage of one request. answers: how many there are to each prompt, which is counted once.

    made: False where what was made is not part of the answer.
    """
    prompts = usages[::answers]
    prompt_tokens = sum(usage.prompt_tokens for usage in prompts)
    completion_tokens = sum(usage.completion_tokens for usage in usages) if made else 0
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": sum(usage.cached_tokens for usage in prompts)},
        "completion_tokens_details": {"reasoning_tokens": sum(usage.reasoning_tokens for usage in usages)},
    }
