"""The formats in which models write the calls of functions. One row is one format; nothing else knows any of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ToolFormat:
    """How a model writes calls.

    mark, end: stand around each call, or around the list of all of them.
    listed: the calls are one JSON list. bare: an answer may also begin with its calls, without the mark.
    name_key, arguments_key: what a call's JSON object calls its parts.
    name_end: the name is no part of an object, but stands before this, and the arguments after it.
    gap: stands between the marks and a call, and between calls. several: an answer may have more than one call.
    sign: what a prompt has that asks for this format; the mark, where it is not stated.
    short_ids: a call's id must have nine letters and digits.
    """

    name: str
    mark: str = ""
    end: str = ""
    listed: bool = False
    bare: bool = False
    name_key: str = "name"
    arguments_key: str = "arguments"
    name_end: str = ""
    gap: str = ""
    several: bool = True
    sign: str = ""
    short_ids: bool = False

    @property
    def marks(self) -> tuple[str, ...]:
        """All that the tokenizer may have as one token each."""
        return tuple(mark for mark in (self.mark, self.end, self.name_end) if mark)

    def written(self, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
        """Calls as the model writes them."""
        each = [self._written(name, arguments) for name, arguments in calls]
        mark = "" if self.bare else self.mark
        if self.listed:
            return f"{mark}[{', '.join(each)}]{self.end}"
        return self.gap.join(f"{mark}{self.gap}{call}{self.gap}{self.end}" for call in each)

    def read(self, text: str) -> tuple[Any, Any] | None:
        """Name and arguments of the one call in a text; None where there is none in this format."""
        return next((call for start in self._starts(text) if (call := self._call_at(text, start))), None)

    def _written(self, name: str, arguments: Mapping[str, Any]) -> str:
        if self.name_end:
            return f"{name}{self.name_end}{_json(arguments)}"
        return _json({self.name_key: name, self.arguments_key: arguments})

    def _starts(self, text: str) -> Iterator[int]:
        if self.mark:
            yield from (found.end() for found in re.finditer(re.escape(self.mark), text))
        if self.bare:
            yield from (found.start() for found in re.finditer(r"\[" if self.listed else r"\{", text))

    def _call_at(self, text: str, start: int) -> tuple[Any, Any] | None:
        name = ""
        if self.name_end:
            name, found, _ = text[start:].partition(self.name_end)
            start += len(name + found)
        start += len(text[start:]) - len(text[start:].lstrip())
        try:
            value, after = json.JSONDecoder().raw_decode(text, start)
        except (ValueError, RecursionError):
            return None
        if not text[after:].lstrip().startswith(self.end):
            return None
        if self.name_end:
            return name.strip(), value
        if self.listed:
            value = value[0] if isinstance(value, list) and len(value) == 1 else None
        return (value.get(self.name_key), value.get(self.arguments_key)) if isinstance(value, dict) else None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


HERMES = ToolFormat("hermes", "<tool_call>", "</tool_call>", gap="\n")
"""Qwen, Hermes, SmolLM3, Granite 4 and many others; also what a model is told that knows no format."""

FORMATS = (
    HERMES,
    ToolFormat("mistral-args", "[TOOL_CALLS]", name_end="[ARGS]", short_ids=True),
    ToolFormat("mistral", "[TOOL_CALLS]", listed=True, short_ids=True),
    ToolFormat("phi4", "<|tool_call|>", "<|/tool_call|>", listed=True, sign="<|tool|>"),
    ToolFormat("phi4-each", "<|tool_call|>", "<|/tool_call|>", sign="<|tool|>"),
    ToolFormat("granite", "<|tool_call|>", listed=True),
    ToolFormat("llama3", "<|python_tag|>", bare=True, arguments_key="parameters", several=False),
    ToolFormat("json-list", bare=True, listed=True),
    ToolFormat("json", bare=True, several=False),
)
"""Those with a mark come first: what they write also holds the JSON that others are."""
