"""Anthropic's messages, which are made of blocks, as the messages that chat templates know."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from edgeship.errors import RequestInvalid
from edgeship.package.conversation import Message as TemplateMessage
from edgeship.serve.fields import Fields, Several
from edgeship.serve.messages import MOST_PARTS, CacheControl, turn


class Block(Fields):
    """cache_control: see CacheControl."""

    cache_control: CacheControl | None = None


class Text(Block):
    """citations: only of documents, which are not read here."""

    type: Literal["text"]
    text: str
    citations: Annotated[Several[Any], Field(max_length=0)] | None = None


class Caller(Fields):
    """The model itself."""

    type: Literal["direct"]


class ToolUse(Block):
    """A call that the model made. caller: by whom."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]
    caller: Caller | None = None


class Thinking(Block):
    """What the model thought. signature: by which Anthropic knows its own; here it says nothing."""

    type: Literal["thinking"]
    thinking: str
    signature: str = ""


def _as_blocks(given: Any) -> Any:
    return [{"type": "text", "text": given}] if isinstance(given, str) else given


Texts = Annotated[
    Several[Text],
    Field(max_length=MOST_PARTS),
    BeforeValidator(_as_blocks, json_schema_input_type=str | list[Text]),
]
"""Several of them, or one as a plain text."""


class ToolResult(Block):
    """What a call came to."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: Texts | None = None
    is_error: bool = False


class UserMessage(Fields):
    """A question, and what calls came to; or instructions."""

    role: Literal["user", "system"]
    content: Annotated[
        Several[Annotated[Text | ToolResult, Field(discriminator="type")]],
        Field(min_length=1, max_length=MOST_PARTS),
        BeforeValidator(_as_blocks, json_schema_input_type=str | list[Text | ToolResult]),
    ]


class AssistantMessage(Fields):
    """An answer that was given before."""

    role: Literal["assistant"]
    content: Annotated[
        Several[Annotated[Text | ToolUse | Thinking, Field(discriminator="type")]],
        Field(min_length=1, max_length=MOST_PARTS),
        BeforeValidator(_as_blocks, json_schema_input_type=str | list[Text | ToolUse | Thinking]),
    ]


Message = Annotated[UserMessage | AssistantMessage, Field(discriminator="role")]


@dataclass
class _Turn:
    """One message in the making: Anthropic lets one side speak several times in a row, and templates do not."""

    role: str
    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    answers: str | None = None

    def message(self) -> TemplateMessage:
        """The message that it makes."""
        parts = [{"type": "text", "text": text} for text in self.texts]
        return turn(
            self.role,
            parts if len(parts) > 1 else "".join(self.texts),
            reasoning_content="\n".join(self.thoughts),
            tool_calls=self.calls,
            tool_call_id=self.answers,
        )


def conversation_of(
    system: Sequence[Text], messages: Sequence[UserMessage | AssistantMessage]
) -> list[TemplateMessage]:
    """The messages for a template."""
    turns = [_Turn("system", [block.text for block in system])] if system else []
    for each in _turns(messages):
        if turns and each.role == turns[-1].role != "tool":
            _join(turns[-1], each)
        else:
            turns.append(each)
    return [each.message() for each in turns]


def is_begun(messages: Sequence[UserMessage | AssistantMessage]) -> bool:
    """Whether the last message is an answer that was begun, which is to be continued. Raises RequestInvalid for calls.

    Their results come next.
    """
    last = messages[-1]
    if last.role == "assistant" and any(isinstance(block, ToolUse) for block in last.content):
        param = f"messages[{len(messages) - 1}]"
        raise RequestInvalid(
            f"{param} calls tools, and nothing says what they came to",
            param=param,
            hint="Let a message with tool_result blocks follow.",
        )
    return last.role == "assistant"


def _join(turn: _Turn, more: _Turn) -> None:
    turn.texts += more.texts
    turn.thoughts += more.thoughts
    turn.calls += more.calls


def _turns(messages: Sequence[UserMessage | AssistantMessage]) -> Iterator[_Turn]:
    for message in messages:
        for block in message.content:
            yield _turn_of(message.role, block)


def _turn_of(role: str, block: Text | ToolUse | Thinking | ToolResult) -> _Turn:
    if isinstance(block, Text):
        return _Turn(role, [block.text])
    if isinstance(block, Thinking):
        return _Turn(role, thoughts=[block.thinking])
    if isinstance(block, ToolUse):
        function = {"name": block.name, "arguments": json.dumps(block.input, ensure_ascii=False)}
        return _Turn(role, calls=[{"id": block.id, "type": "function", "function": function}])
    texts = [part.text for part in block.content or ()]
    return _Turn("tool", ["Error:", *texts] if block.is_error else texts, answers=block.tool_use_id)
