"""What Anthropic's clients ask, as conversations and settings."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from edgeship.engine.api import Constraint, Conversation, Sampling
from edgeship.errors import RequestInvalid
from edgeship.serve import thoughts
from edgeship.serve.anthropic.blocks import Message, Texts, conversation_of, is_begun
from edgeship.serve.fields import Fields, Several, Stops
from edgeship.serve.messages import MOST_MESSAGES, MOST_TOOLS, CacheControl, tool
from edgeship.serve.models import Opened

_CHOICES = {"auto": "auto", "any": "required", "tool": "required", "none": "none"}
"""Ways to choose a tool, and what conversations call them."""


class Tool(Fields):
    """A function that the model may call.

    strict: its arguments fit all of the schema, or it is refused. eager_input_streaming: they are streamed in any case.
    cache_control: see CacheControl.
    """

    type: Literal["custom"] = "custom"
    name: Annotated[str, Field(min_length=1)]
    description: str | None = None
    input_schema: dict[str, Any]
    strict: bool = False
    eager_input_streaming: bool = True
    cache_control: CacheControl | None = None

    def in_template(self) -> dict[str, Any]:
        """The same as templates know it."""
        return tool(self.name, self.description, self.input_schema, strict=self.strict)


class ToolChoice(Fields):
    """Whether a tool may or must be called, and which."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool = False

    def of_conversation(self) -> dict[str, Any]:
        """The same in a conversation's fields. Raises RequestInvalid."""
        if (self.type == "tool") != (self.name is not None):
            raise RequestInvalid("tool_choice.name: it goes with the type 'tool'", param="tool_choice.name")
        return {
            "tool_choice": _CHOICES[self.type],
            "allowed_tools": (self.name,) if self.name is not None else (),
            "parallel_tool_calls": not self.disable_parallel_tool_use,
        }


class ThinkingSwitch(Fields):
    """Whether the model is to think, and with how many tokens. display: thoughts are shown as they are."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Annotated[int, Field(ge=1)] | None = None
    display: Literal["summarized"] | None = None

    @property
    def wanted(self) -> bool | None:
        """None leaves it to the model."""
        return None if self.type == "adaptive" else self.type == "enabled"

    def require_less_than(self, max_tokens: int) -> None:
        """Raises RequestInvalid for a budget of no use: for no thoughts, or one that leaves no room for an answer."""
        if self.budget_tokens is None or (self.type != "disabled" and self.budget_tokens < max_tokens):
            return
        rule = "there are no thoughts" if self.type == "disabled" else f"max_tokens is {max_tokens} and must be more"
        param = "thinking.budget_tokens"
        raise RequestInvalid(f"{param} is {self.budget_tokens}, and {rule}", param=param)

    @property
    def most_tokens(self) -> int | None:
        """How many tokens it may think; None for any number."""
        return 0 if self.type == "disabled" else self.budget_tokens


class Format(Fields):
    """What an answer is held to."""

    type: Literal["json_schema"]
    json_schema: Annotated[Any, Field(alias="schema")]


class OutputConfig(Fields):
    """effort: how much the model is to think, where its template has levels of that."""

    format: Format | None = None
    effort: str | None = None


class Metadata(Fields):
    """A label of the client's own."""

    user_id: str | None = None


class Asked(Fields):
    """A conversation: what is counted, and what is answered. cache_control: see CacheControl."""

    model: str | None = None
    messages: Annotated[Several[Message], Field(min_length=1, max_length=MOST_MESSAGES)]
    system: Texts | None = None
    tools: Annotated[Several[Tool], Field(max_length=MOST_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    thinking: ThinkingSwitch | None = None
    output_config: OutputConfig | None = None
    cache_control: CacheControl | None = None

    def conversation(self, opened: Opened) -> Conversation:
        """What is to be answered. Raises RequestInvalid, PromptInvalid."""
        messages, continues = conversation_of(self.system or (), self.messages), is_begun(self.messages)
        thoughts.require_none(self.thinking and self.thinking.wanted, "thinking", continues=continues)
        tools = [tool.in_template() for tool in self.tools or ()]
        choice = self.tool_choice.of_conversation() if self.tool_choice else {}
        return Conversation(messages, tools, self._variables(opened), continues=continues, **choice)

    def _variables(self, opened: Opened) -> dict[str, Any]:
        wanted = self.thinking.wanted if self.thinking else None
        level = self.output_config.effort if self.output_config else None
        return thoughts.switched(opened, wanted, "thinking") | thoughts.effort(opened, level, "output_config.effort")


class MessagesRequest(Asked):
    """A conversation, and how it is to be answered. service_tier: there is one only."""

    only: ClassVar[dict[str, Any]] = {"mcp_servers": [], "betas": []}

    max_tokens: int
    stream: bool = False
    stop_sequences: Stops | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None

    def sampling(self) -> Sampling:
        """How the answer is made. Raises RequestInvalid."""
        if self.thinking:
            self.thinking.require_less_than(self.max_tokens)
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            max_tokens=self.max_tokens,
            stop=tuple(self.stop_sequences or ()),
            thinking_tokens=self.thinking.most_tokens if self.thinking else None,
            constraint=self._constraint(),
        )

    def _constraint(self) -> Constraint | None:
        wanted = self.output_config.format if self.output_config else None
        if wanted is None:
            return None
        return Constraint("json_schema", json.dumps(wanted.json_schema, ensure_ascii=False))
