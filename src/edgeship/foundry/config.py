"""How Foundry Local is to run a package on this machine: what a copy of its genai_config.json says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgeship.engine.decoders.onnx import kv_token_bytes
from edgeship.errors import UsageError
from edgeship.foundry.checks import Candidate
from edgeship.package import genai_config
from edgeship.package.genai_config import GenaiConfig
from edgeship.system.storage import megabytes

DEFAULT_ANSWER_TOKENS = 2048
"""What Foundry Local reserves for an answer where a request does not say."""
RESERVED_BYTES = 256 * 10**6
"""The most that is reserved for keys and values at every request; beyond it they grow with the conversation."""
_LEAST_CONTEXT = 128


@dataclass(frozen=True)
class Tuning:
    """What is chosen for a package.

    context_tokens: prompt and answer together. reserves: memory for the keys and values of the whole context is taken
    for every request; otherwise it grows with the conversation, by copying, which is slower the longer it is.
    """

    threads: int
    context_tokens: int
    reserves: bool = True


def choose(candidate: Candidate, *, threads: int, context_tokens: int | None = None) -> Tuning:
    """The tuning for so many threads, and a context that may be smaller than the package's.

    Raises UsageError for a context that the package does not have, EngineFailed where it does not say its shape.
    """
    most = candidate.config.context_tokens
    context = most if context_tokens is None else context_tokens
    if not min(_LEAST_CONTEXT, most) <= context <= most:
        raise UsageError(
            f"a context of {context:,} tokens is not possible: the package has {most:,}",
            hint=f"Give one from {_LEAST_CONTEXT} to {most}.",
        )
    reserved = kv_token_bytes(candidate.config) * context
    return Tuning(threads, context, reserves=reserved <= RESERVED_BYTES)


def apply(config: GenaiConfig, tuning: Tuning) -> dict[str, Any]:
    """A genai_config.json with a tuning.

    Foundry Local samples where a request says nothing, also where the package answers greedily. One candidate to choose
    from (top_k 1) makes that greedy again; a request that sets top_k is sampled as it says.
    """
    context = tuning.context_tokens
    search: dict[str, Any] = {"max_length": min(config.search.max_length or context, context)}
    if not config.search.do_sample:
        search["top_k"] = 1
    if not tuning.reserves:
        search["past_present_share_buffer"] = False
    tuned = genai_config.with_threads(genai_config.with_context(config.document, context), tuning.threads)
    return genai_config.with_search(tuned, search)


def notes(candidate: Candidate, tuning: Tuning) -> list[str]:
    """What whoever asks the model in Foundry Local should know."""
    found = []
    context = tuning.context_tokens
    if not tuning.reserves:
        token_bytes = kv_token_bytes(candidate.config)
        found.append(
            f"keys and values grow with a conversation: Foundry Local would reserve those of all {context:,} tokens, "
            f"{megabytes(context * token_bytes)}, at every request; --context-tokens {_fitting(token_bytes)} has them "
            "reserved, which is faster in long conversations"
        )
    if context <= DEFAULT_ANSWER_TOKENS:
        found.append(
            f"every request must set max_output_tokens: Foundry Local reserves {DEFAULT_ANSWER_TOKENS:,} tokens for an "
            f"answer otherwise, and refuses it since this model's context holds {context:,} in all"
        )
    if not candidate.config.search.do_sample:
        found.append(
            "the package answers greedily, and so it does here unless a request sets top_k: Foundry Local samples "
            "whatever the package says"
        )
    return found


def _fitting(token_bytes: int) -> int:
    """A round number of tokens whose keys and values are reserved."""
    tokens = RESERVED_BYTES // token_bytes
    return tokens - tokens % 1024 if tokens > 1024 else tokens
