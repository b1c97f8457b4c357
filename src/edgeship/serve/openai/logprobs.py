"""How likely a model found its tokens, in OpenAI's words: one form for chats, and an older one for completions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from edgeship.engine.api import Logprob, Token
from edgeship.engine.text import TextCodec, TokenText

Scored = tuple[int, Logprob | None]
"""A token, and how likely it was; None for the first of a text, which nothing predicts."""


class Offsets:
    """Where tokens begin in a text, in characters; to be asked for one after the other.

    text: a new stream of that text. start: characters before it.
    """

    def __init__(self, text: TokenText, start: int = 0) -> None:
        self._text, self._next = text, start

    def of(self, token: int) -> int:
        """Where the next token begins. The parts of a character all begin where it does."""
        offset = self._next
        self._next += len(self._text.push(token))
        return offset


def chat_logprobs(steps: Sequence[Token], codec: TextCodec | None) -> dict[str, Any]:
    """`logprobs` of a choice of chat completions: each token with its text, its bytes, and the likeliest ones."""
    content = [
        _entry(step.id, step.logprob.logprob, codec)
        | {"top_logprobs": [_entry(token, logprob, codec) for token, logprob in step.logprob.top]}
        for step in steps
        if step.id is not None and step.logprob is not None
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(scored: Iterable[Scored], codec: TextCodec, offsets: Offsets, top: int) -> dict[str, Any]:
    """`logprobs` of a choice of completions. top: how many of the likeliest tokens are told."""
    found: dict[str, Any] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for token, how in scored:
        found["tokens"].append(_key(token, codec))
        found["token_logprobs"].append(how and how.logprob)
        found["top_logprobs"].append(how and _likeliest(token, how, codec, top))
        found["text_offset"].append(offsets.of(token))
    return found


def joined(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """`completion_logprobs` of a text and of what follows it, as one."""
    return {name: one[name] + other[name] for name in one}


def prompt_logprobs(tokens: Sequence[int], found: Sequence[Logprob], codec: TextCodec, top: int) -> list[Any]:
    """vLLM's own form: of each of the prompt's tokens but the first the likeliest ones and itself, by their ids.

    rank: from 1 for the likeliest; None where that is not known.
    """
    told: list[Any] = [None]
    for token, how in zip(tokens[1:], found, strict=False):
        ranked = [(one, logprob, rank) for rank, (one, logprob) in enumerate(how.top[:top], 1)]
        itself = [] if token in dict(how.top[:top]) else [(token, how.logprob, None)]
        told.append(
            {
                str(one): {"logprob": logprob, "rank": rank, "decoded_token": codec.token_text(one)[0]}
                for one, logprob, rank in (*ranked, *itself)
            }
        )
    return told


def _entry(token: int, logprob: float, codec: TextCodec | None) -> dict[str, Any]:
    if codec is None:  # a model without a tokenizer here
        return {"token": str(token), "logprob": logprob, "bytes": None}
    text, in_bytes = codec.token_text(token)
    return {"token": text, "logprob": logprob, "bytes": None if codec.is_special(token) else list(in_bytes)}


def _likeliest(token: int, how: Logprob, codec: TextCodec, top: int) -> dict[str, float]:
    """The likeliest tokens, and the one that was taken. Of two that are written alike the likelier one counts."""
    found: dict[str, float] = {}
    for one, logprob in (*how.top[:top], (token, how.logprob)):
        key = _key(one, codec)
        found[key] = max(logprob, found.get(key, logprob))
    return found


def _key(token: int, codec: TextCodec) -> str:
    """A token's text, or its bytes as OpenAI writes them where they are a part of a character."""
    text, in_bytes = codec.token_text(token)
    whole = text.encode(errors="replace") == in_bytes
    return text if whole else "bytes:" + "".join(f"\\x{byte:02x}" for byte in in_bytes)
