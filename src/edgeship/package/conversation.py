"""What a chat template is given: messages, tools and variables, in the shape that OpenAI's chat completions have."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from edgeship.errors import PromptInvalid
from edgeship.system import json_file

Message = Mapping[str, Any]
"""One turn: role, content (a text, or a list of parts {"type": "text", "text": ...}), and with tools also
tool_calls, tool_call_id and name."""

RESERVED = ("messages", "tools", "add_generation_prompt")
"""What a template gets by itself, and no variable may be called."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# OpenAI's have 64 at most.
MOST_NAME = 256
_NAMES_TOLD = 5
_MESSAGE_HINT = 'A message is {"role": "user", "content": "text"}.'
_TOOL_HINT = 'A tool is {"type": "function", "function": {"name": ..., "description": ..., "parameters": SCHEMA}}.'
ToolChoice = Literal["auto", "none", "required"]


@dataclass(frozen=True)
class ToolUse:
    """How an answer may call functions. functions: those that may be called, as OpenAI describes a `function`.

    required: the answer is a call and nothing else. parallel: it may be several.
    """

    functions: tuple[Mapping[str, Any], ...]
    required: bool = False
    parallel: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """What the functions are called."""
        return tuple(function["name"] for function in self.functions)


@dataclass(frozen=True)
class Conversation:
    """What waits for an answer. Raises PromptInvalid for what is no conversation, naming the message and the field.

    tools: functions that the model may call, as OpenAI describes them: {"type": "function", "function": {...}}.
    variables: what a template may ask for besides, such as enable_thinking.
    tool_choice: "none" does not show the tools; "required" takes calls and nothing else for an answer.
    allowed_tools: names of those that may be called, where not all may. parallel_tool_calls: several in one answer.
    continues: the last message is an answer that was begun, and what comes goes on with its text.
    """

    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)
    tool_choice: ToolChoice = "auto"
    allowed_tools: Sequence[str] = ()
    parallel_tool_calls: bool = True
    continues: bool = False

    def __post_init__(self) -> None:
        _require(_is_list(self.messages), "the messages are no list")
        if not self.messages:
            raise PromptInvalid("the conversation has no message", hint="Give at least one.", param="messages")
        for number, message in enumerate(self.messages, 1):
            _check_message(message, f"message {number}")
        self._check_tools()
        if self.continues:
            self._check_begun()
        _require(isinstance(self.variables, Mapping), "the template's variables are no object")
        for name in self.variables:
            require_variable(name)

    @property
    def tool_use(self) -> ToolUse | None:
        """How the answer may call functions; None where it may not."""
        if not self.tools or self.tool_choice == "none":
            return None
        functions = [tool["function"] for tool in self.tools]
        allowed = [
            function for function in functions if not self.allowed_tools or function["name"] in self.allowed_tools
        ]
        return ToolUse(tuple(allowed), self.tool_choice == "required", self.parallel_tool_calls)

    @property
    def uses_tools(self) -> bool:
        """Whether anything in it is about tools: the answer's, or calls and results of earlier ones."""
        told = any(message.get("tool_calls") or message["role"] == "tool" for message in self.messages)
        return told or self.tool_use is not None

    def _check_begun(self) -> None:
        last = self.messages[-1]
        faults = (
            (last["role"] != "assistant", "it is not the assistant's"),
            (bool(last.get("tool_calls")), "it calls functions"),
            (not text_of(last.get("content")).strip(), "it has no text"),
            (self.tool_choice == "required", "a call is required"),
        )
        why = next((why for wrong, why in faults if wrong), None)
        if why:
            raise PromptInvalid(
                f"the last message is to be continued, and {why}",
                hint="Only a text of the assistant that calls nothing can be continued.",
                param="messages",
            )

    def _check_tools(self) -> None:
        _require(_is_list(self.tools), "tools is no list")
        for number, tool in enumerate(self.tools, 1):
            _check_tool(tool, f"tool {number}")
        names = [tool["function"]["name"] for tool in self.tools]
        twice = [name for name, count in Counter(names).items() if count > 1]
        _require(not twice, f"two tools are called {''.join(twice[:1])!r}", _TOOL_HINT, param="tools")
        _require(_is_list(self.allowed_tools), "allowed_tools is no list", _TOOL_HINT)
        for name in self.allowed_tools:
            _require(
                name in names,
                f"{name!r} is to be called, and no tool has that name",
                _listed(names) if names else _TOOL_HINT,
                param="tool_choice",
            )
        choices = get_args(ToolChoice)
        known = self.tool_choice in choices
        _require(known, f"tool_choice is {self.tool_choice!r} and none of {', '.join(choices)}", _TOOL_HINT)
        _require(
            names or self.tool_choice != "required",
            "tool_choice is 'required' and there are no tools",
            _TOOL_HINT,
            param="tool_choice",
        )
        _require(isinstance(self.parallel_tool_calls, bool), "parallel_tool_calls is not true or false", _TOOL_HINT)


def tool_fields(tools: Sequence[Mapping[str, Any]], choice: str = "auto") -> dict[str, Any]:
    """What a Conversation is told of tools. choice: as its tool_choice, or the name of the one that must be called."""
    if choice in get_args(ToolChoice):
        return {"tools": tools, "tool_choice": choice}
    return {"tools": tools, "tool_choice": "required", "allowed_tools": (choice,)}


def require_variable(name: Any) -> None:
    """Raises PromptInvalid for what no template variable can be called."""
    if not (isinstance(name, str) and _NAME.fullmatch(name)) or name in RESERVED:
        raise PromptInvalid(
            f"no template variable may be called {name!r}",
            hint=f"A name has letters, digits and '_', and is none of {', '.join(RESERVED)}.",
        )


def text_of(content: Any) -> str:
    """A message's content as one text: its parts, joined by line breaks."""
    if content is None:
        return ""
    return content if isinstance(content, str) else "\n".join(part["text"] for part in content)


def with_instructions_in_first_question(messages: Sequence[Message]) -> list[Message]:
    """The conversation for a template without a system role: its instructions begin the first user message."""
    told = [text_of(message.get("content")) for message in messages if message["role"] == "system"]
    rest = [message for message in messages if message["role"] != "system"]
    first = next((number for number, message in enumerate(rest) if message["role"] == "user"), None)
    if first is None:
        return [{"role": "user", "content": "\n\n".join(told)}, *rest]
    question = text_of(rest[first].get("content"))
    rest[first] = {**rest[first], "content": "\n\n".join([*told, question])}
    return rest


def _check_message(message: Any, where: str) -> None:
    _require(isinstance(message, Mapping), f"{where} is no object")
    _require(_is_text(message.get("role")) and message["role"], f"{where} has no role")
    calls = message.get("tool_calls")
    if calls is not None:
        _require(_is_list(calls), f"{where}: tool_calls is no list")
        for number, call in enumerate(calls, 1):
            _check_call(call, f"{where}, tool call {number}")
    for name in ("name", "tool_call_id"):
        _require(message.get(name) is None or _is_text(message[name]), f"{where}: {name} is no text")
    content = message.get("content")
    if content is None:
        _require(bool(calls), f"{where} has no content")
    elif not _is_text(content):
        _require(_is_list(content), f"{where}: content is neither a text nor a list of parts")
        for number, part in enumerate(content, 1):
            _check_part(part, f"{where}, part {number}")


def _check_part(part: Any, where: str) -> None:
    _require(isinstance(part, Mapping), f"{where} is no object")
    kind = part.get("type")
    if kind != "text":
        raise PromptInvalid(f"{where}: type is {kind!r}, and only 'text' is read", hint="Models here read texts.")
    _require(_is_text(part.get("text")), f"{where}: text is no text")


def _check_call(call: Any, where: str) -> None:
    _check_function(call, where)
    _require(_is_object(call["function"].get("arguments")), f"{where}: function.arguments is no JSON object")
    _require(call.get("id") is None or _is_text(call["id"]), f"{where}: id is no text")


def _check_function(value: Any, where: str) -> None:
    _require(isinstance(value, Mapping), f"{where} is no object")
    _require(value.get("type", "function") == "function", f"{where}: type is {value.get('type')!r} and not 'function'")
    function = value.get("function")
    _require(isinstance(function, Mapping), f"{where}: function is no object")
    _require(_is_text(function.get("name")), f"{where}: function.name is no text")


def _check_tool(tool: Any, where: str) -> None:
    _check_function(tool, where)
    function = tool["function"]
    length = len(function["name"])
    _require(
        0 < length <= MOST_NAME, f"{where}: function.name has {length} characters, not 1 to {MOST_NAME}", _TOOL_HINT
    )
    parameters = function.get("parameters")
    _require(parameters is None or isinstance(parameters, Mapping), f"{where}: function.parameters is no object")


def _is_object(arguments: Any) -> bool:
    """Whether arguments are an object, or one as JSON, which is how OpenAI has them."""
    if not isinstance(arguments, str):
        return isinstance(arguments, Mapping)
    try:
        return isinstance(json_file.parse(arguments), dict)
    except ValueError:
        return False


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _listed(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > _NAMES_TOLD else ""
    return f"The tools are {', '.join(names[:_NAMES_TOLD])}{more}."


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _require(holds: Any, what: str, hint: str = _MESSAGE_HINT, *, param: str | None = None) -> None:
    if not holds:
        raise PromptInvalid(what, hint=hint, param=param)
