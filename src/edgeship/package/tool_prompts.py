"""How a chat template is given tools, the calls of earlier answers, and their results: found out by rendering them."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edgeship.errors import TemplateInvalid
from edgeship.package import call_syntax, template
from edgeship.package.conversation import Conversation, Message, text_of
from edgeship.package.tool_formats import FORMATS, HERMES, ToolFormat

ShownBy = Literal["tools", "xml_tools", "message", "told"]
_TOLD = """You may call functions. Each of these lines describes one:
{functions}

To call a function, write nothing but this, once for each call:
{example}
Where no function is needed, answer as if there were none."""
_EXAMPLE = HERMES.written([("NAME", {"PARAMETER": "VALUE"})])
# What Phi-4's own examples say in front of the tools that they put into the system message.
_WITH_TOOLS = "You are a helpful assistant with some tools."
_SHORT_ID = re.compile(r"[A-Za-z0-9]{9}")
# What is rendered to see what a template makes of it.
_QUESTION: Message = {"role": "user", "content": "edgeship question"}
_NAME, _ARGUMENTS, _ID, _RESULT = "edgeship_probe", {"edgeship": 1}, "edgeship1", "edgeship result"
# Some templates put every argument in quotes.
_READ = ((_NAME, _ARGUMENTS), (_NAME, {"edgeship": "1"}))
_FUNCTION = {"name": _NAME, "description": "d", "parameters": {"type": "object", "properties": {}}}
_TOOLS = ({"type": "function", "function": _FUNCTION},)
_CALL: Message = {
    "role": "assistant",
    "tool_calls": [{"id": _ID, "type": "function", "function": {"name": _NAME, "arguments": _ARGUMENTS}}],
}
_TEXT: Message = {"role": "assistant", "content": "called"}
_RESULT_OF_CALL: Message = {"role": "tool", "content": _RESULT, "tool_call_id": _ID, "name": _NAME}


@dataclass(frozen=True)
class ToolPrompts:
    """What one template does with tools, and what is done for it.

    format: in which the model writes calls.
    shown_by: the variable in which the template takes tools, or "message" for a system message that has them beside
    its content; "told" for a template that takes none: a system message then says what there is and how it is called.
    writes_calls, writes_results: whether it writes these itself; if not, they become text.
    no_text: the content that it wants of a message that is nothing but calls.
    """

    format: ToolFormat
    shown_by: ShownBy
    writes_calls: bool = False
    writes_results: bool = False
    no_text: str | None = ""

    @property
    def own_format(self) -> str | None:
        """What the format is called that the template itself has calls in; None where it takes no tools."""
        return None if self.shown_by == "told" else self.format.name

    def variables(self, conversation: Conversation) -> dict[str, Any]:
        """What the template is given besides messages."""
        shown = conversation.tool_use is not None and self.shown_by in ("tools", "xml_tools")
        return {self.shown_by: list(conversation.tools)} if shown else {}

    def messages(self, conversation: Conversation) -> Sequence[Message]:
        """The messages as the template takes them."""
        messages = _with_results(map(self._with_calls, _named(conversation.messages)), written=self.writes_results)
        if self.format.short_ids:
            messages = [_with_short_ids(message) for message in messages]
        if conversation.tool_use is None:
            return messages
        if self.shown_by in ("tools", "xml_tools"):
            told = self.format.told if messages[0]["role"] != "system" else ""
            return [{"role": "system", "content": told}, *messages] if told else messages
        functions = [tool["function"] for tool in conversation.tools]
        return _told(messages, functions) if self.shown_by == "told" else _beside(messages, functions)

    def _with_calls(self, message: Message) -> Message:
        if not message.get("tool_calls"):
            return message
        if self.writes_calls:
            return message if message.get("content") else {**message, "content": self.no_text}
        calls = [(call["function"]["name"], _object(call["function"]["arguments"])) for call in message["tool_calls"]]
        text = text_of(message.get("content"))
        rest = {name: value for name, value in message.items() if name != "tool_calls"}
        return rest | {"content": (f"{text}\n" if text else "") + self.format.written(calls)}


@functools.lru_cache(maxsize=32)
def chosen_for(chat_template: str, special_tokens: tuple[tuple[str, str], ...]) -> ToolPrompts:
    """What a chat template does with tools. It takes none where it shows none, or asks for calls that no format reads.

    Such models are told in words: those that were taught no format follow words best, and the answer is held to a
    format from its first mark on in any case.
    """
    probe = _Probe(chat_template, dict(special_tokens))
    shown_by = probe.shown_by()
    if shown_by is None:
        return ToolPrompts(HERMES, "told")
    for no_text in ("", None):
        call = {**_CALL, "content": no_text}
        if found := probe.format_of(call, shown_by):
            return ToolPrompts(found, shown_by, True, probe.writes_result_of(call, shown_by), no_text)
    if asked_for := probe.format_asked_for(shown_by):
        return ToolPrompts(asked_for, shown_by, False, probe.writes_result_of(_TEXT, shown_by))
    return ToolPrompts(HERMES, "told")


@dataclass(frozen=True)
class _Probe:
    template: str
    special_tokens: Mapping[str, str]

    def shown_by(self) -> ShownBy | None:
        plain = self._rendered([_QUESTION], {})
        ways: tuple[ShownBy, ...] = ("tools", "xml_tools", "message")
        return next((way for way in ways if (seen := self._shown(way)) != plain and _NAME in seen), None)

    def format_of(self, call: Message, shown_by: ShownBy) -> ToolFormat | None:
        """The format that reads what the template writes for a call."""
        said = self._shown(shown_by, call).rpartition(str(_QUESTION["content"]))[2]
        return next((form for form in FORMATS if call_syntax.read(form, said) in _READ), None)

    def format_asked_for(self, shown_by: ShownBy) -> ToolFormat | None:
        """The format whose sign stands in a prompt with tools."""
        shown = self._shown(shown_by)
        return next((form for form in FORMATS if (sign := form.sign or form.mark) and sign in shown), None)

    def writes_result_of(self, call: Message, shown_by: ShownBy) -> bool:
        return _RESULT in self._shown(shown_by, call, _RESULT_OF_CALL)

    def _shown(self, way: ShownBy, *answered: Message) -> str:
        """A prompt with tools, given in this way, for a question and what has followed it."""
        messages = [_QUESTION, *answered]
        if way == "message":
            return self._rendered(_beside(messages, [_FUNCTION]), {})
        return self._rendered(messages, {way: list(_TOOLS)})

    def _rendered(self, messages: Sequence[Message], variables: dict[str, Any]) -> str:
        """What the template makes of it; nothing where it refuses."""
        tools = variables.pop("tools", ())
        try:
            return template.render(
                self.template, messages, special_tokens=self.special_tokens, tools=tools, variables=variables
            )
        except TemplateInvalid:
            return ""


def _told(messages: Sequence[Message], functions: Sequence[Mapping[str, Any]]) -> list[Message]:
    lines = "\n".join(json.dumps(function, ensure_ascii=False) for function in functions)
    words = _TOLD.format(functions=lines, example=_EXAMPLE)
    if messages[0]["role"] != "system":
        return [{"role": "system", "content": words}, *messages]
    first = {**messages[0], "content": f"{text_of(messages[0].get('content'))}\n\n{words}"}
    return [first, *messages[1:]]


def _beside(messages: Sequence[Message], functions: Sequence[Mapping[str, Any]]) -> list[Message]:
    """The messages with the functions as a part of the system message, of which the template makes what it wants."""
    told = messages[0]["role"] == "system"
    first = messages[0] if told else {"role": "system", "content": _WITH_TOOLS}
    shown = {**first, "tools": json.dumps(functions, ensure_ascii=False)}
    return [shown, *messages[1:]] if told else [shown, *messages]


def _named(messages: Iterable[Message]) -> list[Message]:
    """Results with the name of what was called, which some templates show and OpenAI's API leaves out."""
    names: dict[Any, str] = {}
    found: list[Message] = []
    for message in messages:
        for call in message.get("tool_calls") or ():
            names[call.get("id")] = call["function"]["name"]
        name = names.get(message.get("tool_call_id"))
        unnamed = message["role"] == "tool" and name is not None and not message.get("name")
        found.append({**message, "name": name} if unnamed else message)
    return found


def _with_results(messages: Iterable[Message], *, written: bool) -> list[Message]:
    """Results as what the user says, all that follow each other in one message, where a template writes none."""
    found: list[Message] = []
    before = None
    for message in messages:
        if message["role"] == "tool" and not written:
            text = f"<tool_response>\n{text_of(message.get('content'))}\n</tool_response>"
            if before == "tool":
                text = f"{found.pop()['content']}\n{text}"
            found.append({"role": "user", "content": text})
        else:
            found.append(message)
        before = message["role"]
    return found


def _with_short_ids(message: Message) -> Message:
    found = dict(message)
    if found.get("tool_calls"):
        calls = enumerate(found["tool_calls"])
        found["tool_calls"] = [{**call, "id": _short_id(call.get("id") or f"call {number}")} for number, call in calls]
    if found.get("tool_call_id"):
        found["tool_call_id"] = _short_id(found["tool_call_id"])
    return found


def _short_id(identity: str) -> str:
    if _SHORT_ID.fullmatch(identity):
        return identity
    return hashlib.sha256(identity.encode(errors="replace")).hexdigest()[:9]


def _object(arguments: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(arguments) if isinstance(arguments, str) else arguments
    return found
