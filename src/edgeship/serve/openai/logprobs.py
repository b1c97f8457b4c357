"""How likely a model found its tokens, in OpenAI's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeship.engine.api import Token
from edgeship.engine.text import TextCodec


def chat_logprobs(steps: Sequence[Token], codec: TextCodec | None) -> dict[str, Any]:
    """`logprobs` of a choice of chat completions: each token with its text, its bytes, and the likeliest ones."""
    content = [
        _told(step.id, step.logprob.logprob, codec)
        | {"top_logprobs": [_told(token, logprob, codec) for token, logprob in step.logprob.top]}
        for step in steps
        if step.id is not None and step.logprob is not None
    ]
    return {"content": content, "refusal": None}


def _told(token: int, logprob: float, codec: TextCodec | None) -> dict[str, Any]:
    text = codec.decode([token], special=True) if codec else ""
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}
