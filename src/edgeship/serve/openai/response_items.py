"""Items of the Responses API, which a conversation is made of there, and the same as messages for a template. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from edgeship.errors import RequestInvalid
from edgeship.package.conversation import Message
from edgeship.serve.fields import Fields, Several, form_of
from edgeship.serve.messages import (
    MOST_MESSAGES,
    Content,
    Parts,
    RefusalPart,
    TextPart,
    check_arguments,
    content_in_template,
    turn,
)

Item = dict[str, Any]


def new_id(prefix: str) -> str:
    """An id that nothing else has."""
    return f"{prefix}_{uuid.uuid4().hex}"


class _Given(Fields):
    """An item as clients send it. status: that of an answer which is sent back; what is sent counts as complete."""

    prefix: ClassVar[str]

    type: str
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None

    def item(self) -> Item:
        """The same with an id."""
        known = {"id": self.id or new_id(self.prefix), "type": self.type, "status": "completed"}
        return known | self._said()

    def _said(self) -> Item:
        raise NotImplementedError


class GivenMessage(_Given):
    """What somebody said."""

    prefix: ClassVar[str] = "msg"

    type: Literal["message"]
    role: Literal["user", "assistant", "system", "developer"]
    content: Content
    phase: Literal["commentary", "final_answer"] | None = None

    def _said(self) -> Item:
        part = output_text if self.role == "assistant" else _input_text
        content = [part(text) for text in _texts(self.content)]
        return {"role": self.role, "content": content} | ({"phase": self.phase} if self.phase else {})


class GivenCall(_Given):
    """A call that the model made."""

    prefix: ClassVar[str] = "fc"

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: Annotated[str, AfterValidator(check_arguments)]

    def _said(self) -> Item:
        return {"call_id": self.call_id, "name": self.name, "arguments": self.arguments}


class GivenOutput(_Given):
    """What a call came to."""

    prefix: ClassVar[str] = "fco"

    type: Literal["function_call_output"]
    call_id: str
    output: Content

    def _said(self) -> Item:
        output = self.output if isinstance(self.output, str) else [_input_text(text) for text in _texts(self.output)]
        return {"call_id": self.call_id, "output": output}


class GivenThoughts(_Given):
    """What the model thought."""

    prefix: ClassVar[str] = "rs"

    type: Literal["reasoning"]
    summary: Parts = Field(default_factory=list)
    content: Parts = Field(default_factory=list)

    def _said(self) -> Item:
        kinds = {"summary": "summary_text", "content": "reasoning_text"}
        return {
            name: [{"type": kind, "text": text} for text in _texts(getattr(self, name))] for name, kind in kinds.items()
        }


def _as_message(given: Any) -> Any:
    """An item that does not say what it is is a message."""
    return given | {"type": "message"} if isinstance(given, dict) and given.get("type") is None else given


GivenItem = Annotated[
    Annotated[GivenMessage | GivenCall | GivenOutput | GivenThoughts, Field(discriminator="type")],
    BeforeValidator(_as_message),
]
Input = Annotated[
    Annotated[str, Tag("text")] | Annotated[Several[GivenItem], Field(max_length=MOST_MESSAGES), Tag("parts")],
    Discriminator(form_of),
]
"""A text, or items."""


def read_items(given: str | Sequence[GivenMessage | GivenCall | GivenOutput | GivenThoughts]) -> list[Item]:
    """The items of a request's `input`, with an id each."""
    if isinstance(given, str):
        given = [GivenMessage(type="message", role="user", content=given)]
    return [item.item() for item in given]


def _texts(content: str | Sequence[TextPart | RefusalPart]) -> list[str]:
    """The texts that it is made of."""
    found = content_in_template(content)
    return [found] if isinstance(found, str) else [part["text"] for part in found]


def output_text(text: str, logprobs: Sequence[Any] = ()) -> dict[str, Any]:
    """The part of a message in which a model's answer stands."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": list(logprobs)}


def _input_text(text: str) -> dict[str, Any]:
    return {"type": "input_text", "text": text}


def messages_of(items: Sequence[Item], instructions: str | None = None) -> list[Message]:
    """The messages that these items are: what a model thought, said and called in one turn is one message.

    Raises RequestInvalid for the output of a call that is not there.
    """
    messages: list[dict[str, Any]] = [turn("system", instructions)] if instructions else []
    calls: set[str] = set()
    for item in items:
        kind = item["type"]
        if kind == "message":
            _add_message(messages, item)
        elif kind == "reasoning":
            messages.append({"role": "assistant", "reasoning_content": _thoughts(item)})
        elif kind == "function_call":
            calls.add(item["call_id"])
            _add_call(messages, item)
        else:
            _check_called(item["call_id"], calls)
            messages.append(turn("tool", _content(item["output"]), tool_call_id=item["call_id"]))
    for message in messages:
        if "content" not in message and "tool_calls" not in message:  # thoughts that led to nothing
            message["content"] = ""
    return list(messages)


def _add_message(messages: list[dict[str, Any]], item: Item) -> None:
    content = item["content"][0]["text"] if len(item["content"]) == 1 else _content(item["content"])
    if item["role"] == "assistant" and messages and _has_only_thoughts(messages[-1]):
        messages[-1]["content"] = content
    else:
        messages.append(turn("system" if item["role"] == "developer" else item["role"], content))


def _content(told: str | Sequence[Mapping[str, Any]]) -> str | list[dict[str, str]]:
    """A text, or an item's parts as templates know them."""
    return told if isinstance(told, str) else [{"type": "text", "text": part["text"]} for part in told]


def _add_call(messages: list[dict[str, Any]], item: Item) -> None:
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant"})
    function = {"name": item["name"], "arguments": item["arguments"]}
    call = {"id": item["call_id"], "type": "function", "function": function}
    messages[-1].setdefault("tool_calls", []).append(call)


def _has_only_thoughts(message: Mapping[str, Any]) -> bool:
    return message.keys() == {"role", "reasoning_content"}


def _thoughts(item: Item) -> str:
    return "\n".join(part["text"] for part in item["content"] or item["summary"])


def _check_called(call_id: str, calls: set[str]) -> None:
    if call_id not in calls:
        raise RequestInvalid(
            f"the call_id {call_id!r} of a function_call_output is that of no function_call before it",
            param="input",
            hint="Send the call too, or the id of its response as previous_response_id.",
        )
