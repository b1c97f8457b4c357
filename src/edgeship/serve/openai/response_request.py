"""What a request of the Responses API may ask, and what it comes to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from edgeship.engine.api import Constraint, Sampling
from edgeship.errors import RequestInvalid
from edgeship.package.conversation import MOST_NAME, Conversation, ToolChoice
from edgeship.serve import thoughts
from edgeship.serve.fields import Fields, No, Several, form_of
from edgeship.serve.logprobs import check_top
from edgeship.serve.messages import MOST_TOOLS, tool
from edgeship.serve.models import Opened
from edgeship.serve.openai.response_items import Input, Item, messages_of

LOGPROBS = "message.output_text.logprobs"
MetadataKey = Annotated[str, Field(max_length=64)]
MetadataText = Annotated[str, Field(max_length=512)]


class FunctionTool(Fields):
    """A function that the model may call, told in one object."""

    type: Literal["function"]
    name: Annotated[str, Field(min_length=1, max_length=MOST_NAME)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedTool(Fields):
    """A function by its name."""

    type: Literal["function"]
    name: str


class AllowedTools(Fields):
    """Some of the tools, of which one may or must be called."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"] = "auto"
    tools: Several[NamedTool] = Field(min_length=1)


Choice = Annotated[
    Annotated[Literal["auto", "none", "required"], Tag("text")]
    | Annotated[NamedTool | AllowedTools, Field(discriminator="type"), Tag("parts")],
    Discriminator(form_of),
]
"""Whether a tool may or must be called, and which."""


class TextFormat(Fields):
    """What the answer is held to."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool = False

    def constraint(self) -> Constraint | None:
        """The same as engines take it. Raises RequestInvalid for a schema that is not there, or not asked for."""
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise RequestInvalid(
                "text.format.schema is there where text.format.type is 'json_schema', and only there",
                param="text.format.schema",
            )
        if self.type == "json_schema":
            return Constraint("json_schema", json.dumps(self.json_schema, ensure_ascii=False))
        return Constraint("json_object") if self.type == "json_object" else None

    def told(self) -> dict[str, Any]:
        """The same in a response."""
        if self.type != "json_schema":
            return {"type": self.type}
        return {
            "type": self.type,
            "name": self.name or "",
            "description": self.description,
            "schema": self.json_schema,
            "strict": self.strict,
        }


class TextOptions(Fields):
    """How the answer's text is made."""

    format: TextFormat = TextFormat(type="text")
    verbosity: Literal["medium"] | None = None


class Reasoning(Fields):
    """How much a model thinks. summary: thoughts are told whole, and no summary is made of them."""

    effort: str | None = None
    summary: Literal["auto"] | None = None


class ResponseStreamOptions(Fields):
    """Deltas are sent as they are, without padding."""

    include_obfuscation: No = False


class ResponseRequest(Fields):
    """A conversation, and how it is to be answered.

    user, safety_identifier, prompt_cache_key, metadata: labels of the client's own; no answer hangs on them.
    """

    model: str
    input: Input
    instructions: str | None = None
    previous_response_id: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    top_logprobs: int | None = None
    include: Several[Literal["message.output_text.logprobs"]] = Field(default_factory=list)
    text: TextOptions = TextOptions()
    tools: Several[FunctionTool] = Field(default_factory=list, max_length=MOST_TOOLS)
    tool_choice: Choice = "auto"
    parallel_tool_calls: bool = True
    reasoning: Reasoning = Reasoning()
    stream: bool = False
    stream_options: ResponseStreamOptions | None = None
    store: bool = True
    background: No = False
    truncation: Literal["disabled"] = "disabled"
    service_tier: Literal["auto", "default"] = "default"
    metadata: dict[MetadataKey, MetadataText] = Field(default_factory=dict, max_length=16)
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    def conversation(self, items: Sequence[Item], opened: Opened) -> Conversation:
        """What is to be answered. items: all of it, what came before too. Raises PromptInvalid, RequestInvalid."""
        tools = [tool(told.name, told.description, told.parameters, strict=bool(told.strict)) for told in self.tools]
        choice, allowed = self._chosen()
        return Conversation(
            messages_of(items, self.instructions),
            tools,
            thoughts.effort(opened, self.reasoning.effort, "reasoning.effort"),
            tool_choice=choice,
            allowed_tools=allowed,
            parallel_tool_calls=self.parallel_tool_calls,
        )

    def _chosen(self) -> tuple[ToolChoice, Sequence[str]]:
        """Whether a tool is called, and which ones may be; none where all may."""
        if isinstance(self.tool_choice, NamedTool):
            return "required", [self.tool_choice.name]
        if isinstance(self.tool_choice, AllowedTools):
            return self.tool_choice.mode, [tool.name for tool in self.tool_choice.tools]
        return self.tool_choice, ()

    def sampling(self) -> Sampling:
        """How the answer is made. Raises RequestInvalid, ConstraintInvalid."""
        if self.stream_options is not None and not self.stream:
            raise RequestInvalid("stream_options is for streams", param="stream_options", hint="Add stream: true.")
        if self.top_logprobs and not self.include:
            raise RequestInvalid(f"top_logprobs needs include: [{LOGPROBS!r}]", param="top_logprobs")
        check_top(self.top_logprobs, "top_logprobs")
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            max_tokens=self.max_output_tokens,
            logprobs=(self.top_logprobs or 0) if self.include else None,
            thinking_tokens=thoughts.most_tokens(self.reasoning.effort),
            constraint=self.text.format.constraint(),
        )

    def told(self, defaults: Sampling) -> dict[str, Any]:
        """The request's part of a response. defaults: the model's own settings."""
        sampling = self.sampling().over(defaults)
        return {
            "background": False,
            "frequency_penalty": sampling.frequency_penalty or 0.0,
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "max_tool_calls": None,
            "metadata": self.metadata,
            "parallel_tool_calls": self.parallel_tool_calls,
            "presence_penalty": sampling.presence_penalty or 0.0,
            "previous_response_id": self.previous_response_id,
            "prompt_cache_key": self.prompt_cache_key,
            "reasoning": self.reasoning.model_dump(),
            "safety_identifier": self.safety_identifier,
            "service_tier": "default",
            "store": self.store,
            "temperature": 1.0 if sampling.temperature is None else sampling.temperature,
            "text": {"format": self.text.format.told(), "verbosity": "medium"},
            "tool_choice": self.tool_choice if isinstance(self.tool_choice, str) else self.tool_choice.model_dump(),
            "tools": [tool.model_dump() for tool in self.tools],
            "top_logprobs": self.top_logprobs or 0,
            "top_p": 1.0 if sampling.top_p is None else sampling.top_p,
            "truncation": "disabled",
            "user": self.user,
        }
