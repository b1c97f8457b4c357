"""OpenAI's responses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from edgeship.validate.apis import openai_schemas, responses_schemas
from edgeship.validate.apis.api import Api
from edgeship.validate.apis.told import Event, Finish, Told

_REASONS: Mapping[str, Finish] = {"completed": "stop", "incomplete": "length"}
_FIRST, _LAST = "response.created", ("response.completed", "response.incomplete")


class Responses(Api):
    """OpenAI's responses."""

    name, title, path = "responses", "OpenAI's responses", "/v1/responses"
    takes = frozenset({"forced"})
    words: ClassVar[Mapping[str, str]] = {"messages": "input", "max_tokens": "max_output_tokens"}
    end = re.compile(rb'"type": ?"response\.(?:completed|incomplete)".*\n\n(?:data: ?\[DONE\]\n\n)?$')
    answer, event = responses_schemas.RESPONSE, responses_schemas.EVENT
    error = openai_schemas.ERROR
    wrong: ClassVar[Mapping[str, Any]] = {"input": 7}

    def body(self, asked: Mapping[str, Any], *, stream: bool = False) -> dict[str, Any]:
        """See Api."""
        body = super().body(asked, stream=stream) | {"store": False}
        if held := body.pop("response_format", None):
            body["text"] = {"format": {"type": held["type"], **held["json_schema"]}}
        return body

    def read(self, told: Told, said: Any) -> None:
        """See Api."""
        told.cost(said.get("usage"), "input_tokens", "output_tokens", "total_tokens")
        told.end(said["status"], _REASONS)
        for item in said["output"]:
            for part in item["content"] if item["type"] == "message" else ():
                if part["type"] == "output_text":
                    told.add(part["text"])

    def piece(self, told: Told, said: Any) -> None:
        """See Api."""
        if said["type"] == "response.output_text.delta":
            told.add(said["delta"])
        elif said["type"] in _LAST:
            last = Told()
            self.read(last, said["response"])
            told.finish, told.prompt_tokens = last.finish, last.prompt_tokens
            told.completion_tokens, told.total_tokens = last.completion_tokens, last.total_tokens

    def follow(self, told: Told, found: list[Event]) -> None:
        """See Api."""
        read = [event for event in found if isinstance(event.data, dict)]
        kinds = [event.data.get("type") for event in read]
        if kinds[:1] != [_FIRST] or kinds[-1] not in _LAST:
            told.faults.append(f"the events go from {kinds[:1]} to {kinds[-1:]}")
        numbers = [event.data.get("sequence_number") for event in read]
        if numbers != sorted(set(numbers), key=lambda number: number if isinstance(number, int) else -1):
            told.faults.append(f"sequence_number does not rise: {numbers[:8]}")
        done = ""
        for number, event in enumerate(read):
            if event.name != event.data.get("type"):
                told.faults.append(f"event {number} is called {event.name!r}, and its type is {kinds[number]!r}")
            if not told.hold(self.event, event.data, f"event {number}"):
                continue
            self.piece(told, event.data)
            if kinds[number] == "response.output_text.done":
                done += event.data["text"]
            if "response" in event.data:
                told.named(event.data["response"])
            if kinds[number] in _LAST:
                self._compare(told, done, event.data["response"])

    def _compare(self, told: Told, done: str, response: Mapping[str, Any]) -> None:
        """Holds the last event against the others."""
        last = Told()
        self.read(last, response)
        if not last.text == done == told.text:
            told.faults.append(f"its deltas make {told.text!r}, and its last events say {done!r} and {last.text!r}")
        if len(told.ids) > 1:
            told.faults.append(f"the events of one stream have {len(told.ids)} different ids")
