"""Items of the Responses API, which a conversation is made of there, and the same as messages for a template. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgeship.errors import RequestInvalid
from edgeship.package.conversation import Message
from edgeship.serve.messages import EMPTY, MOST_MESSAGES, read_messages, read_parts

Item = dict[str, Any]

_ROLES = ("user", "assistant", "system", "developer")
_PHASES = ("commentary", "final_answer")


def new_id(prefix: str) -> str:
    """An id that nothing else has."""
    return f"{prefix}_{uuid.uuid4().hex}"


def read_items(given: str | Sequence[Mapping[str, Any]]) -> list[Item]:
    """The items of a request's `input`, checked, with an id each. Raises RequestInvalid that names item and field."""
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if len(given) > MOST_MESSAGES:
        raise RequestInvalid(f"{len(given)} items, and {MOST_MESSAGES} is the most", param="input")
    return [_read_item(item, f"input[{number}]") for number, item in enumerate(given)]


def _read_item(given: Mapping[str, Any], where: str) -> Item:
    item = {name: value for name, value in given.items() if value is not None}
    kind = item.get("type", "message")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise RequestInvalid(f"{where}.type is {kind!r}; it must be one of {', '.join(_KINDS)}", param=f"{where}.type")
    prefix, names, read = _KINDS[kind]
    known = {"type", "id", "status", *names}
    strangers = [name for name, value in item.items() if name not in known and value not in EMPTY]
    if strangers:
        param = f"{where}.{strangers[0]}"
        raise RequestInvalid(f"{param} is not supported here", param=param, hint="Leave it out.")
    return {
        "id": _text(item, "id", where) if "id" in item else new_id(prefix),
        "type": kind,
        "status": "completed",
        **read(item, where),
    }


def _read_message(item: Item, where: str) -> Item:
    role = _one_of(_ROLES, item, "role", where)
    content = item.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    texts = [part["text"] for part in read_parts(content, f"{where}.content")]
    phase = {"phase": _one_of(_PHASES, item, "phase", where)} if "phase" in item else {}
    part = output_text if role == "assistant" else _input_text
    return {"role": role, "content": [part(text) for text in texts], **phase}


def _read_call(item: Item, where: str) -> Item:
    return {name: _text(item, name, where) for name in ("call_id", "name", "arguments")}


def _read_output(item: Item, where: str) -> Item:
    output = item.get("output")
    if not isinstance(output, str):
        output = [_input_text(part["text"]) for part in read_parts(output, f"{where}.output")]
    return {"call_id": _text(item, "call_id", where), "output": output}


def _read_reasoning(item: Item, where: str) -> Item:
    parts = {}
    for name, kind in (("summary", "summary_text"), ("content", "reasoning_text")):
        texts = [part["text"] for part in read_parts(item.get(name, []), f"{where}.{name}")]
        parts[name] = [{"type": kind, "text": text} for text in texts]
    return parts


_KINDS: Mapping[str, tuple[str, tuple[str, ...], Callable[[Item, str], Item]]] = {
    "message": ("msg", ("role", "content", "phase"), _read_message),
    "function_call": ("fc", ("call_id", "name", "arguments"), _read_call),
    "function_call_output": ("fco", ("call_id", "output"), _read_output),
    "reasoning": ("rs", ("summary", "content"), _read_reasoning),
}
"""Each kind of item: what its ids begin with, its fields, and what reads them."""


def output_text(text: str, logprobs: Sequence[Any] = ()) -> dict[str, Any]:
    """The part of a message in which a model's answer stands."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": list(logprobs)}


def _input_text(text: str) -> dict[str, Any]:
    return {"type": "input_text", "text": text}


def _text(item: Item, name: str, where: str) -> str:
    value = item.get(name)
    if not isinstance(value, str):
        raise RequestInvalid(f"{where}.{name} is no text", param=f"{where}.{name}")
    return value


def _one_of(allowed: Sequence[str], item: Item, name: str, where: str) -> str:
    value = item.get(name)
    if value not in allowed:
        param = f"{where}.{name}"
        raise RequestInvalid(f"{param} is {value!r}; it must be one of {', '.join(allowed)}", param=param)
    return str(value)


def messages_of(items: Sequence[Item], instructions: str | None = None) -> list[Message]:
    """The messages that these items are: what a model thought, said and called in one turn is one message.

    Raises RequestInvalid for the output of a call that is not there.
    """
    messages: list[dict[str, Any]] = [{"role": "system", "content": instructions}] if instructions else []
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
            messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]})
    for message in messages:
        if "content" not in message and "tool_calls" not in message:  # thoughts that led to nothing
            message["content"] = ""
    return read_messages(messages)


def _add_message(messages: list[dict[str, Any]], item: Item) -> None:
    content = item["content"][0]["text"] if len(item["content"]) == 1 else item["content"]
    if item["role"] == "assistant" and messages and _has_only_thoughts(messages[-1]):
        messages[-1]["content"] = content
    else:
        messages.append({"role": item["role"], "content": content})


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
