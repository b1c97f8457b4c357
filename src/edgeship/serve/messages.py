"""The messages and tools of a request, as OpenAI's clients write them, and the same as chat templates know them.

A message that an answer of ours was is taken when it is sent back, as the clients of the field store and send it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from edgeship.engine.api import ToolCall
from edgeship.errors import AnswerInvalid, RequestInvalid
from edgeship.package.conversation import MOST_NAME
from edgeship.package.conversation import Message as TemplateMessage
from edgeship.serve.fields import Fields, Several, form_of
from edgeship.system import json_file

MOST_MESSAGES, MOST_TOOLS, MOST_PARTS = 4096, 512, 1024


class CacheControl(Fields):
    """Marks a prompt's beginning that Anthropic would keep. What was read is known the next time anyway."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class TextPart(Fields):
    """A text. cache_control: see CacheControl.

    annotations: of an answer that was held against sources, which are none here.
    logprobs: of an answer that is sent back; they say nothing to the model.
    """

    unread: ClassVar[tuple[str, ...]] = ("annotations",)

    type: Literal["text", "input_text", "output_text", "summary_text", "reasoning_text"]
    text: str
    cache_control: CacheControl | None = None
    logprobs: Several[Any] | None = None

    def in_template(self) -> dict[str, str]:
        """The same as templates know it."""
        return {"type": "text", "text": self.text}


class RefusalPart(Fields):
    """The text with which a model refused to answer."""

    type: Literal["refusal"]
    refusal: str

    def in_template(self) -> dict[str, str]:
        """The same as templates know it."""
        return {"type": "text", "text": self.refusal}


Part = Annotated[TextPart | RefusalPart, Field(discriminator="type")]
Parts = Annotated[Several[Part], Field(max_length=MOST_PARTS)]


def _text_or_parts(given: Any) -> Any:
    if not isinstance(given, str | list):
        raise PydanticCustomError("content_type", "it is neither a text nor a list of parts")
    return given


Content = Annotated[
    Annotated[str, Tag("text")] | Annotated[Parts, Tag("parts")],
    Discriminator(form_of),
    BeforeValidator(_text_or_parts),
]
"""A text, or parts that are texts."""


def content_in_template(content: str | Sequence[TextPart | RefusalPart]) -> str | list[dict[str, str]]:
    """The same as templates know it."""
    return content if isinstance(content, str) else [part.in_template() for part in content]


Arguments = TypeVar("Arguments", dict[str, Any], str, dict[str, Any] | str)


def check_arguments(given: Arguments) -> Arguments:
    """The arguments of a call, which are an object, or one as JSON."""
    if isinstance(given, str) and _object_in(given) is None:
        raise PydanticCustomError("arguments", "it is no JSON object")
    return given


def _object_in(text: str) -> dict[str, Any] | None:
    try:
        found = json_file.parse(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


class CalledFunction(Fields):
    """A function's name, and what it is called with: an object, or one as JSON, which is how OpenAI has it."""

    name: str
    arguments: Annotated[dict[str, Any] | str, AfterValidator(check_arguments)]


class Call(Fields):
    """A call that the model made. index: among those of one answer, as streams have it."""

    id: str | None = None
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None

    def in_template(self) -> dict[str, Any]:
        """The same as templates know it."""
        function = {"name": self.function.name, "arguments": self.function.arguments}
        return ({} if self.id is None else {"id": self.id}) | {"type": "function", "function": function}


class Message(Fields):
    """One turn.

    Of an answer that is sent back: refusal, annotations, audio and function_call have nothing in them here, and
    provider_specific_fields are LiteLLM's own notes.
    """

    unread: ClassVar[tuple[str, ...]] = (
        "refusal",
        "annotations",
        "audio",
        "function_call",
        "images",
        "thinking_blocks",
    )

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    name: str | None = None
    tool_calls: Several[Call] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    provider_specific_fields: dict[str, Any] | None = None

    def in_template(self) -> dict[str, Any]:
        """The same as templates know it."""
        return turn(
            "system" if self.role == "developer" else self.role,
            None if self.content is None else content_in_template(self.content),
            name=self.name,
            tool_calls=[call.in_template() for call in self.tool_calls or ()],
            tool_call_id=self.tool_call_id,
            reasoning_content=self.reasoning_content,
        )


Messages = Annotated[
    Several[Message], Field(max_length=MOST_MESSAGES, examples=[[{"role": "user", "content": "hello"}]])
]


def turn(role: str, content: str | Sequence[dict[str, str]] | None, **more: Any) -> dict[str, Any]:
    """A message for a template, without what is empty. more: its other fields."""
    found = {"role": role, "content": content} | {name: value or None for name, value in more.items()}
    return {name: value for name, value in found.items() if value is not None}


def in_template(messages: Sequence[Message]) -> list[TemplateMessage]:
    """The messages for a template. Raises RequestInvalid for one that says nothing."""
    for number, message in enumerate(messages):
        if message.content is None and not message.tool_calls:
            param = f"messages[{number}].content"
            raise RequestInvalid(f"{param} is missing", param=param, hint="Only a message with tool_calls has none.")
    return [message.in_template() for message in messages]


class Function(Fields):
    """A function that the model may call. strict: its arguments fit all of the schema, or it is refused."""

    name: Annotated[str, Field(min_length=1, max_length=MOST_NAME)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Fields):
    """The same as a tool. cache_control: see CacheControl."""

    type: Literal["function"]
    function: Function
    cache_control: CacheControl | None = None

    def in_template(self) -> dict[str, Any]:
        """The same as templates know it."""
        told = self.function
        return tool(told.name, told.description, told.parameters, strict=bool(told.strict))


Tools = Annotated[Several[Tool], Field(max_length=MOST_TOOLS)]


def tool(name: str, description: str | None, parameters: Any, *, strict: bool) -> dict[str, Any]:
    """A function for a template, without what is not told."""
    function = {"name": name, "description": description, "parameters": parameters, "strict": strict or None}
    return {"type": "function", "function": {name: value for name, value in function.items() if value is not None}}


def read_arguments(call: ToolCall) -> dict[str, Any]:
    """What a function is called with. Raises AnswerInvalid: the models of other servers may write anything."""
    found = _object_in(call.arguments)
    if found is None:
        raise AnswerInvalid(f"the model calls {call.name!r} with what is no JSON object", answer=call.arguments)
    return found
