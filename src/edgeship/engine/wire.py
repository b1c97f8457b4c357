"""Sampling, prompts, tokens and their spellings as JSON brings them back from another process."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from edgeship.engine.api import CallPiece, Logprob, Prompt, Sampling, Token, ToolCall, ToolUse, Usage
from edgeship.engine.codec import Spelling


def read_sampling(values: Mapping[str, Any]) -> Sampling:
    """Sampling from its `asdict`."""
    found: Sampling = _sampling().validate_python(values)
    return found


@functools.cache
def _sampling() -> Any:
    # To make it takes a millisecond, and every answer needs it.
    from pydantic import TypeAdapter

    return TypeAdapter(Sampling)


def read_token(values: Mapping[str, Any]) -> Token:
    """A Token from its `asdict`."""
    prompt = values["prompt_logprobs"]
    return Token(
        values["id"],
        values["text"],
        values["finish"],
        _read_logprob(values["logprob"]) if values["logprob"] else None,
        Usage(**values["usage"]) if values["usage"] else None,
        None if prompt is None else tuple(map(_read_logprob, prompt)),
        values["thinking"],
        tuple(ToolCall(**call) for call in values["tool_calls"]),
        tuple(CallPiece(**piece) for piece in values["calling"]),
        values["stopped_by"],
        values["prompt_tokens"],
        values["start"],
    )


def spellings(found: Iterable[Spelling]) -> list[Any]:
    """Spellings as values for JSON, which has no bytes."""
    return [[spelling.in_bytes.hex(), spelling.special] for spelling in found]


def read_spellings(values: Iterable[Any]) -> tuple[Spelling, ...]:
    """Spellings from these values."""
    return tuple(Spelling(bytes.fromhex(in_bytes), special) for in_bytes, special in values)


def read_prompt(values: Mapping[str, Any]) -> Prompt:
    """A Prompt from its `asdict`."""
    tools = values["tools"]
    use = ToolUse(**tools | {"functions": tuple(tools["functions"])}) if tools else None
    return Prompt(tuple(values["tokens"]), use, values["continues"])


def _read_logprob(values: Mapping[str, Any]) -> Logprob:
    return Logprob(values["logprob"], tuple((token, value) for token, value in values["top"]))
