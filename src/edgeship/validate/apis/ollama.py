"""Ollama's chat and generate."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from edgeship.validate.apis import ollama_schemas
from edgeship.validate.apis.api import LINES, Api, with_prompt
from edgeship.validate.apis.told import Event, Finish, Told

_REASONS: Mapping[str, Finish] = {"stop": "stop", "length": "length"}
_OPTIONS = {"max_tokens": "num_predict", "temperature": "temperature", "stop": "stop"}


class _Ollama(Api):
    takes = frozenset({"stop", "forced"})
    stream_type = LINES
    end = re.compile(rb'"done": ?true.*\n$')
    error = ollama_schemas.ERROR

    def body(self, asked: Mapping[str, Any], *, stream: bool = False) -> dict[str, Any]:
        """See Api."""
        options = {word: asked[name] for name, word in _OPTIONS.items() if name in asked}
        body = {name: value for name, value in asked.items() if name not in _OPTIONS}
        if held := body.pop("response_format", None):
            body["format"] = held["json_schema"]["schema"]
        return body | {"options": options, "stream": stream}

    def read(self, told: Told, said: Any) -> None:
        """See Api."""
        told.add(self.text_in(said))
        if said.get("done"):
            told.cost(said, "prompt_eval_count", "eval_count")
            told.end(said.get("done_reason"), _REASONS)

    def piece(self, told: Told, said: Any) -> None:
        """See Api."""
        self.read(told, said)

    def follow(self, told: Told, found: list[Event]) -> None:
        """See Api."""
        for number, event in enumerate(found):
            if event.data is None or not told.hold(self.event, event.data, f"line {number}"):
                continue
            told.named(event.data)
            self.piece(told, event.data)
        done = [isinstance(event.data, dict) and event.data.get("done") for event in found]
        if done != [False] * (len(done) - 1) + [True]:
            told.faults.append("not the last line and it alone says that the answer is done")

    @abstractmethod
    def text_in(self, said: Any) -> Any:
        """The text of an answer, or of a line of one."""


class OllamaChat(_Ollama):
    """Ollama's chat."""

    name, title, path = "ollama-chat", "Ollama's chat", "/api/chat"
    answer, event = ollama_schemas.CHAT, ollama_schemas.CHAT_LINE
    wrong: ClassVar[Mapping[str, Any]] = {"messages": "no list"}

    def text_in(self, said: Any) -> Any:
        """See _Ollama."""
        return said["message"]["content"]


class OllamaGenerate(_Ollama):
    """Ollama's generate."""

    name, title, path = "ollama-generate", "Ollama's generate", "/api/generate"
    answer, event = ollama_schemas.GENERATE, ollama_schemas.GENERATE_LINE
    wrong: ClassVar[Mapping[str, Any]] = {"prompt": 7}

    def body(self, asked: Mapping[str, Any], *, stream: bool = False) -> dict[str, Any]:
        """See Api."""
        return super().body(with_prompt(asked), stream=stream)

    def text_in(self, said: Any) -> Any:
        """See _Ollama."""
        return said["response"]
