"""The messages and tools of a request as chat templates know them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeship.engine.api import ToolCall
from edgeship.errors import AnswerInvalid, RequestInvalid
from edgeship.package.conversation import Message
from edgeship.system import json_file

MOST_MESSAGES, MOST_TOOLS, MOST_PARTS = 4096, 512, 1024
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_FIELDS = {"role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content"}
_TEXTS = {
    **dict.fromkeys(("text", "input_text", "output_text", "summary_text", "reasoning_text"), "text"),
    "refusal": "refusal",
}
"""Kinds of parts that are texts, and the field that each has its text in."""
EMPTY: tuple[Any, ...] = (None, [], {}, "")
"""What clients send back of an answer that they were given, without anything in it."""


def read_messages(given: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Messages as OpenAI has them, for a template. Raises RequestInvalid that names the message and the field."""
    if len(given) > MOST_MESSAGES:
        raise RequestInvalid(f"{len(given)} messages, and {MOST_MESSAGES} is the most", param="messages")
    return [_message(message, f"messages[{number}]") for number, message in enumerate(given)]


def _message(given: Mapping[str, Any], where: str) -> Message:
    message = {name: value for name, value in given.items() if value is not None}
    strangers = [name for name, value in message.items() if name not in _FIELDS and value not in EMPTY]
    if strangers:
        raise RequestInvalid(f"{where}.{strangers[0]} is not supported here", param=where, hint="Leave it out.")
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise RequestInvalid(f"{where}.role is {role!r}; it must be one of {', '.join(_ROLES)}", param=f"{where}.role")
    kept = {name: message[name] for name in _FIELDS if name in message and message[name] != []}
    content = kept.get("content")
    if isinstance(content, list):
        kept["content"] = read_parts(content, f"{where}.content")
    return kept | {"role": _ROLES[role]}


def read_parts(given: Any, where: str) -> list[dict[str, str]]:
    """A list of content parts, all of them texts. where: the field that it is. Raises RequestInvalid."""
    if not isinstance(given, list):
        raise RequestInvalid(f"{where} is neither a text nor a list of parts", param=where)
    if len(given) > MOST_PARTS:
        raise RequestInvalid(f"{where} has {len(given)} parts, and {MOST_PARTS} is the most", param=where)
    return [_part(part, f"{where}[{number}]") for number, part in enumerate(given)]


def _part(part: Any, where: str) -> dict[str, str]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(kind, str) or kind not in _TEXTS:
        raise RequestInvalid(f"{where}.type is {kind!r}, and only texts are read here", param=where)
    text = part.get(_TEXTS[kind])
    if not isinstance(text, str):
        raise RequestInvalid(f"{where}.{_TEXTS[kind]} is no text", param=where)
    return {"type": "text", "text": text}


def read_tools(given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tools as OpenAI has them, without what only says how they are to be called. Raises RequestInvalid."""
    if len(given) > MOST_TOOLS:
        raise RequestInvalid(f"{len(given)} tools, and {MOST_TOOLS} is the most", param="tools")
    return [_tool(tool, f"tools[{number}]") for number, tool in enumerate(given)]


def _tool(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    function = given.get("function")
    if given.get("type") != "function" or not isinstance(function, Mapping):
        raise RequestInvalid(f"{where} is no function: {{'type': 'function', 'function': ...}}", param=where)
    known = ("name", "description", "parameters")
    return {"type": "function", "function": {name: function[name] for name in known if function.get(name) is not None}}


def read_arguments(call: ToolCall) -> dict[str, Any]:
    """What a function is called with. Raises AnswerInvalid: the models of other servers may write anything."""
    try:
        found = json_file.parse(call.arguments)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise AnswerInvalid(f"the model calls {call.name!r} with what is no JSON object", answer=call.arguments)
    return found
