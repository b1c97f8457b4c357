"""What a chat template is given: messages, tools and variables, in the shape that OpenAI's chat completions have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Message = Mapping[str, Any]
"""One turn: role, content (a text, or a list of parts {"type": "text", "text": ...}), and with tools also
tool_calls, tool_call_id and name."""


@dataclass(frozen=True)
class Conversation:
    """What waits for an answer.

    tools: functions that the model may call, as OpenAI describes them: {"type": "function", "function": {...}}.
    variables: what a template may ask for besides, such as enable_thinking.
    """

    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)
