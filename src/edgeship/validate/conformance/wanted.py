"""An answer as it is to be, in the words of Chat Completions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

TOOL = {
    "name": "get_weather",
    "description": "Tells the weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@dataclass(frozen=True)
class Wanted:
    """The likeliest answer to a text.

    stop: a text that ends it. forced: the only text that may be answered, as JSON. calls: the tool, and nothing else.
    tells: with log-probabilities.
    """

    text: str
    most_tokens: int
    stop: str | None = None
    forced: str | None = None
    calls: bool = False
    tells: bool = False
    stream: bool = False

    @property
    def body(self) -> dict[str, Any]:
        """What asks for it."""
        messages = [{"role": "user", "content": self.text}]
        body: dict[str, Any] = {"messages": messages, "max_tokens": self.most_tokens, "temperature": 0}
        if self.stop:
            body["stop"] = [self.stop]
        if self.forced:
            schema = {"name": "word", "schema": {"type": "string", "enum": [self.forced]}, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if self.calls:
            body |= {"tools": [{"type": "function", "function": TOOL}], "tool_choice": "required"}
        if self.tells:
            body |= {"logprobs": True, "top_logprobs": 2}
        return body
