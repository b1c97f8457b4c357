"""OpenAI's chat completions and completions."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from edgeship.validate.apis import openai_schemas
from edgeship.validate.apis.api import Api, with_prompt
from edgeship.validate.apis.shapes import Schema
from edgeship.validate.apis.told import DONE, Event, Finish, Told

_REASONS: Mapping[str, Finish] = {"stop": "stop", "length": "length"}


class _OpenAI(Api):
    streams: ClassVar[Mapping[str, Any]] = {"stream": True, "stream_options": {"include_usage": True}}
    end = re.compile(rb"(?:^|\n)data: ?\[DONE\]\n\n$")
    end_bytes = 64
    error = openai_schemas.ERROR

    def read(self, told: Told, said: Any) -> None:
        """See Api."""
        self.piece(told, {**said, "choices": [said["choices"][0]]})

    def piece(self, told: Told, said: Any) -> None:
        """See Api."""
        told.cost(said.get("usage"), "prompt_tokens", "completion_tokens", "total_tokens")
        for choice in said.get("choices") or ():
            self.take(told, choice)
            told.end(choice.get("finish_reason"), _REASONS)

    def follow(self, told: Told, found: list[Event]) -> None:
        """See Api."""
        for number, event in enumerate(found):
            if event.raw == DONE:
                if event is not found[-1]:
                    told.faults.append(f"event {number} is [DONE], and others follow")
                continue
            if event.data is None or not told.hold(self.event, event.data, f"event {number}"):
                continue
            if event.data["choices"] and told.finish is not None:
                told.faults.append(f"event {number}: a choice comes after the one that ended the answer")
            told.named(event.data)
            self.piece(told, event.data)
        if told.finish is None:
            told.faults.append("no event gives a finish_reason")
        for name, values in (("id", told.ids), ("model", told.models)):
            if len(values) > 1:
                told.faults.append(f"the events of one stream have {len(values)} different values of {name}")

    @abstractmethod
    def take(self, told: Told, choice: Mapping[str, Any]) -> None:
        """Notes the text of a choice, whole or in an event."""


class Chat(_OpenAI):
    """OpenAI's chat completions."""

    name, title, path = "chat", "OpenAI's chat completions", "/v1/chat/completions"
    takes = frozenset({"stop", "forced", "calls", "tells"})
    answer, event = openai_schemas.CHAT, openai_schemas.CHAT_CHUNK
    wrong: ClassVar[Mapping[str, Any]] = {"messages": "no list"}

    def schema(self, *, tells: bool) -> Schema:
        """See Api."""
        return {"allOf": [self.answer, openai_schemas.CHAT_LOGPROBS]} if tells else self.answer

    def take(self, told: Told, choice: Mapping[str, Any]) -> None:
        """See _OpenAI."""
        message = choice["message"] if "message" in choice else choice["delta"]
        told.add(message.get("content") or "")
        for number, call in enumerate(message.get("tool_calls") or ()):
            place = call.get("index", number)
            while len(told.calls) <= place:
                told.calls.append(["", ""])
            function = call.get("function") or {}
            told.calls[place][0] += function.get("name") or ""
            told.calls[place][1] += function.get("arguments") or ""


class Completions(_OpenAI):
    """OpenAI's completions."""

    name, title, path = "completions", "OpenAI's completions", "/v1/completions"
    takes = frozenset({"stop"})
    answer, event = openai_schemas.COMPLETION, openai_schemas.COMPLETION_CHUNK
    wrong: ClassVar[Mapping[str, Any]] = {"prompt": "Hello", "max_tokens": "many"}

    def body(self, asked: Mapping[str, Any], *, stream: bool = False) -> dict[str, Any]:
        """See Api."""
        return super().body(with_prompt(asked), stream=stream)

    def take(self, told: Told, choice: Mapping[str, Any]) -> None:
        """See _OpenAI."""
        told.add(choice["text"])
