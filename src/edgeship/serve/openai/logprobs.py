"""How likely a model found its tokens, in OpenAI's words: one form for chats, and an older one for completions."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from typing import Any

from edgeship.engine.api import Logprob, Token
from edgeship.engine.text import TextCodec

Scored = tuple[int, Logprob | None]
"""A token, and how likely it was; None for the first of a text, which nothing predicts."""


def chat_logprobs(steps: Sequence[Token], codec: TextCodec | None) -> dict[str, Any]:
    """`logprobs` of a choice of chat completions: each token with its text, its bytes, and the likeliest ones."""
    content = [
        _entry(step.id, step.logprob.logprob, codec)
        | {"top_logprobs": [_entry(token, logprob, codec) for token, logprob in step.logprob.top]}
        for step in steps
        if step.id is not None and step.logprob is not None
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(scored: Iterable[Scored], codec: TextCodec, offset: int) -> dict[str, Any]:
    """`logprobs` of a choice of completions. offset: characters of the choice's text before these tokens."""
    found: dict[str, Any] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    decoder = codecs.getincrementaldecoder("utf-8")("replace")  # some tokens are a part of a character
    for token, how in scored:
        found["tokens"].append(_key(token, codec))
        found["token_logprobs"].append(how and how.logprob)
        found["top_logprobs"].append(how and _likeliest(token, how, codec))
        found["text_offset"].append(offset)
        offset += len(decoder.decode(codec.token_text(token)[1]))
    return found


def _entry(token: int, logprob: float, codec: TextCodec | None) -> dict[str, Any]:
    if codec is None:  # a model without a tokenizer here
        return {"token": str(token), "logprob": logprob, "bytes": None}
    text, in_bytes = codec.token_text(token)
    return {"token": text, "logprob": logprob, "bytes": list(in_bytes)}


def _likeliest(token: int, how: Logprob, codec: TextCodec) -> dict[str, float]:
    """The likeliest tokens, and the one that was taken. Of two that are written alike the likelier one counts."""
    found: dict[str, float] = {}
    for one, logprob in (*how.top, (token, how.logprob)):
        key = _key(one, codec)
        found[key] = max(logprob, found.get(key, logprob))
    return found


def _key(token: int, codec: TextCodec) -> str:
    """A token's text, or its bytes as OpenAI writes them where they are a part of a character."""
    text, in_bytes = codec.token_text(token)
    whole = text.encode(errors="replace") == in_bytes
    return text if whole else "bytes:" + "".join(f"\\x{byte:02x}" for byte in in_bytes)
