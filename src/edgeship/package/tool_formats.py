"""The formats in which models write the calls of functions. One row is one format; nothing else knows any of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgeship.package.notations import ARGUMENT_TAGS, FUNCTION_TAGS, INVOKE_TAGS, MARKED, PYTHONIC, Notation


@dataclass(frozen=True)
class ToolFormat:
    """How a model writes calls.

    mark, end: stand around each call, or around the list of all of them.
    listed: the calls are one JSON list. bare: an answer may also begin with its calls, without the mark.
    name_key, arguments_key: what a call's JSON object calls its parts.
    name_end: the name is no part of an object, but stands before this, and the arguments after it.
    notation: how a call is written that is no JSON.
    together: the marks stand around all calls, which follow one another.
    gap: stands between the marks and a call, and between calls. several: an answer may have more than one call.
    sign: what a prompt has that asks for this format; the mark, where it is not stated.
    short_ids: a call's id must have nine letters and digits.
    told: what the model's own examples say in front of tools, where nobody gives instructions.
    """

    name: str
    mark: str = ""
    end: str = ""
    listed: bool = False
    bare: bool = False
    name_key: str = "name"
    arguments_key: str = "arguments"
    name_end: str = ""
    notation: Notation | None = None
    together: bool = False
    gap: str = ""
    several: bool = True
    sign: str = ""
    short_ids: bool = False
    told: str = ""

    @property
    def marks(self) -> tuple[str, ...]:
        """All that the tokenizer may have as one token each."""
        of_arguments = self.notation.marks if self.notation else ()
        return tuple(mark for mark in (self.mark, self.end, self.name_end, *of_arguments) if mark)

    def written(self, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
        """Calls as the model writes them."""
        each = [self._written(name, arguments) for name, arguments in calls]
        mark = "" if self.bare else self.mark
        if self.listed:
            return f"{mark}[{', '.join(each)}]{self.end}"
        if self.together:
            return f"{mark}{self.gap}{self.gap.join(each)}{self.gap}{self.end}"
        return self.gap.join(f"{mark}{self.gap}{call}{self.gap}{self.end}" for call in each)

    def _written(self, name: str, arguments: Mapping[str, Any]) -> str:
        if self.notation:
            return self.notation.written(name, arguments)
        if self.name_end:
            return f"{name}{self.name_end}{_json(arguments)}"
        return _json({self.name_key: name, self.arguments_key: arguments})


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


HERMES = ToolFormat("hermes", "<tool_call>", "</tool_call>", gap="\n")
"""Qwen, Hermes, SmolLM3, Granite 4 and many others; also what a model is told that knows no format."""

FORMATS = (
    ToolFormat("qwen-xml", "<tool_call>", "</tool_call>", gap="\n", notation=FUNCTION_TAGS, sign="<parameter="),
    ToolFormat("glm", "<tool_call>", notation=ARGUMENT_TAGS, sign="<arg_key>"),
    HERMES,
    ToolFormat("minimax", "<minimax:tool_call>", "</minimax:tool_call>", gap="\n", notation=INVOKE_TAGS, together=True),
    ToolFormat(
        "functiongemma",
        "<start_function_call>",
        "<end_function_call>",
        notation=replace(MARKED, quotes=("<escape>",)),
        told="You are a model that can do function calling with the following functions",
    ),
    ToolFormat("gemma4", "<|tool_call>", "<tool_call|>", notation=replace(MARKED, quotes=('<|"|>',))),
    ToolFormat("olmo3", "<function_calls>", "</function_calls>", gap="\n", notation=PYTHONIC, together=True),
    ToolFormat(
        "lfm2", "<|tool_call_start|>", "<|tool_call_end|>", listed=True, notation=PYTHONIC, sign="<|tool_list_start|>"
    ),
    ToolFormat("mistral-args", "[TOOL_CALLS]", name_end="[ARGS]", short_ids=True),
    ToolFormat("mistral", "[TOOL_CALLS]", listed=True, short_ids=True),
    ToolFormat("phi4", "<|tool_call|>", "<|/tool_call|>", listed=True, sign="<|tool|>"),
    ToolFormat("phi4-each", "<|tool_call|>", "<|/tool_call|>", sign="<|tool|>"),
    ToolFormat("granite", "<|tool_call|>", listed=True),
    ToolFormat("llama3", "<|python_tag|>", bare=True, arguments_key="parameters", several=False),
    ToolFormat("json-list", bare=True, listed=True),
    ToolFormat("pythonic", bare=True, listed=True, notation=PYTHONIC),
    ToolFormat("json", bare=True, several=False),
)
"""Those with a mark come first: what they write also holds the JSON that others are."""
