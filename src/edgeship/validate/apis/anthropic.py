"""Anthropic's messages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from edgeship.validate.apis import anthropic_schemas
from edgeship.validate.apis.api import Api
from edgeship.validate.apis.told import Event, Finish, Told

_REASONS: Mapping[str, Finish] = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length"}
_BLOCKS = re.compile(r"(\(\.*\))*")
"""The start, the deltas and the stop of each block."""
_SIGNS = {"content_block_start": "(", "content_block_delta": ".", "content_block_stop": ")"}


class Messages(Api):
    """Anthropic's messages."""

    name, title, path = "messages", "Anthropic's messages", "/v1/messages"
    headers = (("anthropic-version", "2023-06-01"),)
    takes = frozenset({"stop"})
    words: ClassVar[Mapping[str, str]] = {"stop": "stop_sequences"}
    end = re.compile(rb"(?:^|\n)event: ?message_stop\n.*\n\n$")
    answer, event = anthropic_schemas.MESSAGE, anthropic_schemas.EVENT
    error = anthropic_schemas.ERROR
    wrong: ClassVar[Mapping[str, Any]] = {"messages": "no list", "max_tokens": 8}

    def read(self, told: Told, said: Any) -> None:
        """See Api."""
        self._cost(told, said.get("usage"))
        told.end(said["stop_reason"], _REASONS)
        for block in said["content"]:
            if block["type"] == "text":
                told.add(block["text"])

    def piece(self, told: Told, said: Any) -> None:
        """See Api."""
        if said["type"] == "message_start":
            self._cost(told, said["message"]["usage"])
        elif said["type"] == "content_block_delta":
            told.add(said["delta"].get("text", ""))
        elif said["type"] == "message_delta":
            told.end(said["delta"]["stop_reason"], _REASONS)
            self._cost(told, said["usage"])

    def follow(self, told: Told, found: list[Event]) -> None:
        """See Api."""
        read = [event for event in found if isinstance(event.data, dict) and event.data.get("type") != "ping"]
        kinds = [event.data.get("type") for event in read]
        for number, (event, kind) in enumerate(zip(read, kinds, strict=True)):
            if event.name != kind:
                told.faults.append(f"event {number} is called {event.name!r}, and its type is {kind!r}")
            if not told.hold(self.event, event.data, f"event {number}"):
                continue
            if kind == "message_start":
                told.named(event.data["message"])
            self.piece(told, event.data)
        self._check_order(told, [_SIGNS.get(kind, kind) for kind in kinds])

    @staticmethod
    def _cost(told: Told, usage: Any) -> None:
        """What an answer cost. Of a prompt, what was known from before is counted by itself."""
        told.cost(usage, "input_tokens", "output_tokens")
        if isinstance(usage, dict) and type(usage.get("input_tokens")) is int:
            kept = (usage.get(name) for name in ("cache_read_input_tokens", "cache_creation_input_tokens"))
            told.prompt_tokens = usage["input_tokens"] + sum(count for count in kept if type(count) is int)

    @staticmethod
    def _check_order(told: Told, order: list[Any]) -> None:
        """A message begins, has blocks one after another, each from its start to its stop, and ends."""
        blocks = "".join(map(str, order[1:-2]))
        whole = order[:1] == ["message_start"] and order[-2:] == ["message_delta", "message_stop"]
        if not whole or not _BLOCKS.fullmatch(blocks):
            first, last = (", ".join(map(str, part)) for part in (order[:3], order[-3:]))
            told.faults.append(f"its events are out of order: {first} ... {last}")
