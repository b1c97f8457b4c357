"""What is asked of Foundry Local, in its words, and what it must not be asked. Pure."""

from __future__ import annotations

import json
from typing import Any

from edgeship.engine import json_schema
from edgeship.engine.api import Constraint, Conversation, Message, Sampling
from edgeship.engine.grammar import JSON_LAYOUTS
from edgeship.errors import NotSupported, PromptInvalid
from edgeship.package.conversation import text_of

HOTTEST = 2.0
"""The highest temperature that Foundry Local takes."""
ROLES = ("system", "user", "assistant", "developer", "tool")
INSTEAD = "Leave it out, or run the package with Edgeship's own engine: `edgeship model run NAME`."
_MOST_SEED = 2**31


def plain_messages(conversation: Conversation) -> list[Message]:
    """A conversation in roles and texts, which are all that Foundry Local takes.

    Raises NotSupported for tools and for variables of the template, PromptInvalid for what it would leave out or cut.
    """
    if conversation.tool_use or any(message.get("tool_calls") for message in conversation.messages):
        raise NotSupported("Foundry Local is given no tools here", hint=INSTEAD)
    if conversation.continues:
        raise NotSupported("Foundry Local does not go on with an answer that was begun", hint=INSTEAD)
    if conversation.variables:
        raise NotSupported("Foundry Local gives its chat template no variables", hint=INSTEAD)
    messages: list[Message] = [
        {"role": message["role"], "content": text_of(message.get("content"))} for message in conversation.messages
    ]
    for message in messages:
        if message["role"] not in ROLES:
            raise PromptInvalid(f"Foundry Local knows no role {message['role']!r}", hint=f"Roles: {', '.join(ROLES)}.")
        if not message["content"]:
            raise PromptInvalid("Foundry Local leaves out messages without text", hint="Give each message some text.")
        if "\0" in message["content"]:
            raise PromptInvalid("Foundry Local cuts a text at a NUL character", hint="Take it out.")
    return messages


def check_supported(sampling: Sampling, defaults: Sampling) -> None:
    """Raises NotSupported for settings that Foundry Local lacks, most of which it would ignore without a word."""
    lacking = {
        "min_p": bool(sampling.min_p),
        "repetition_penalty": sampling.repetition_penalty != defaults.repetition_penalty,
        "presence_penalty": bool(sampling.presence_penalty),
        "frequency_penalty": bool(sampling.frequency_penalty),
        "logit_bias": bool(sampling.logit_bias),
        "ignore_eos": sampling.ignore_eos,
        "thinking_tokens": sampling.thinking_tokens is not None,
        "logprobs": sampling.logprobs is not None,
        "prompt_logprobs": sampling.prompt_logprobs is not None,
    }
    for name, asked in lacking.items():
        if asked:
            own = " but the package's own" if name == "repetition_penalty" else ""
            raise NotSupported(f"Foundry Local has no {name}{own}", hint=INSTEAD)
    if sampling.temperature is not None and sampling.temperature > HOTTEST:
        raise NotSupported(f"Foundry Local takes no temperature above {HOTTEST:g}", hint=INSTEAD)


def search_options(sampling: Sampling, room: int) -> dict[str, str]:
    """Every setting by Foundry Local's names: it samples where nothing is said, and reserves 2,048 tokens."""
    given: dict[str, Any] = {
        "max_output_tokens": min(sampling.max_tokens or room, room),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "do_sample": "false" if sampling.temperature == 0 else "true",
        "seed": None if sampling.seed is None else sampling.seed % _MOST_SEED,
    }
    return {name: str(value) for name, value in given.items() if value is not None}


def guidance(constraint: Constraint) -> dict[str, str]:
    """A constraint as Foundry Local enforces it; the OpenAI wrapper of a JSON schema it would ignore.

    JSON is held to one line. Left to itself, Foundry Local lets blanks and line breaks go on to the last token.
    """
    if constraint.kind == "regex":
        return {"guidance_type": "regex", "guidance_data": constraint.text}
    if constraint.kind == "lark":
        return {"guidance_type": "lark_grammar", "guidance_data": constraint.text}
    schema: dict[str, Any] = {"type": "object"} if constraint.kind == "json_object" else json_schema.kept(constraint)
    rules = {}
    for number, (item, key) in enumerate(JSON_LAYOUTS):
        layout = {"whitespace_flexible": False, "item_separator": item, "key_separator": key}
        rules[f"layout_{number}"] = schema | {"x-guidance": layout}
    start = f"start: {' | '.join(rules)}"
    return {
        "guidance_type": "lark_grammar",
        "guidance_data": "\n".join([start, *(f"{name}: %json {json.dumps(rule)}" for name, rule in rules.items())]),
    }
