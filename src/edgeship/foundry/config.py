"""How Foundry Local is to run a package on this machine: what a copy of its genai_config.json says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgeship.engine.decoders.kept import kv_token_bytes
from edgeship.errors import UsageError
from edgeship.foundry.checks import Prepared
from edgeship.package import genai_config
from edgeship.package.genai_config import GenaiConfig
from edgeship.system.storage import megabytes

DEFAULT_ANSWER_TOKENS = 2048
"""What Foundry Local reserves for an answer where a request does not say."""
RESERVED_BYTES = 256 * 10**6
"""The most that is reserved for keys and values at every request; beyond it they grow with the conversation."""
_LEAST_CONTEXT = 128


@dataclass(frozen=True)
class Provision:
    """What is chosen for a package.

    context_tokens: prompt and answer together. reserves: memory for the keys and values of the whole context is taken
    for every request; otherwise it grows with the conversation, by copying, which is slower the longer it is.
    """

    threads: int
    context_tokens: int
    reserves: bool = True


def choose(prepared: Prepared, *, threads: int, context_tokens: int | None = None) -> Provision:
    """What a package gets: so many threads, and a context that may be smaller than its own.

    Raises UsageError for a context that the package does not have, EngineFailed where it does not say its shape.
    """
    most = prepared.config.context_tokens
    context = most if context_tokens is None else context_tokens
    if not min(_LEAST_CONTEXT, most) <= context <= most:
        raise UsageError(
            f"a context of {context:,} tokens is not possible: the package has {most:,}",
            hint=f"Give one from {_LEAST_CONTEXT} to {most}.",
        )
    reserved = kv_token_bytes(prepared.config) * context
    return Provision(threads, context, reserves=reserved <= RESERVED_BYTES)


def apply(config: GenaiConfig, provision: Provision) -> dict[str, Any]:
    """A genai_config.json that says so.

    Foundry Local samples where a request says nothing, also where the package answers greedily. One token to choose
    from (top_k 1) makes that greedy again; a request that sets top_k is sampled as it says.
    """
    context = provision.context_tokens
    search: dict[str, Any] = {"max_length": min(config.search.max_length or context, context)}
    if not config.search.do_sample:
        search["top_k"] = 1
    if not provision.reserves:
        search["past_present_share_buffer"] = False
    tuned = genai_config.with_threads(genai_config.with_context(config.document, context), provision.threads)
    return genai_config.with_search(tuned, search)


def notes(prepared: Prepared, provision: Provision) -> list[str]:
    """What whoever asks the model in Foundry Local should know."""
    found = []
    context = provision.context_tokens
    if not provision.reserves:
        token_bytes = kv_token_bytes(prepared.config)
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
    if not prepared.config.search.do_sample:
        found.append(
            "the package answers greedily, and so it does here unless a request sets top_k: Foundry Local samples "
            "whatever the package says"
        )
    return found


def _fitting(token_bytes: int) -> int:
    """A round number of tokens whose keys and values are reserved."""
    tokens = RESERVED_BYTES // token_bytes
    return tokens - tokens % 1024 if tokens > 1024 else tokens
