"""The steps of an answer as the Responses API tells them: items that grow, and an event for all that happens."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from edgeship.engine.api import CallPiece, Token, Usage
from edgeship.errors import EdgeshipError
from edgeship.serve import failures
from edgeship.serve.logprobs import NOTHING, Spelled, chat_logprobs
from edgeship.serve.openai.response_items import Item, new_id, output_text

Event = dict[str, Any]


class Output:
    """A response in the making. begun: what is known of it beforehand."""

    def __init__(self, begun: Mapping[str, Any]) -> None:
        self._begun = begun
        self._items: list[Item] = []
        self._open: _Growing | None = None
        self._untold: list[Any] = []
        self._sequence = 0
        self.response = self._as("in_progress")

    def begin(self) -> list[Event]:
        """The events before the first step."""
        kinds = ("response.created", "response.in_progress")
        return self._numbered([{"type": kind, "response": self.response} for kind in kinds])

    def take(self, step: Token, spelled: Spelled = NOTHING) -> list[Event]:
        """The events of a step. spelled: how the tokens are written whose log-probabilities it tells."""
        events: list[Event] = []
        self._untold += chat_logprobs([step], spelled)["content"]
        if step.thinking:
            self._untold.clear()  # log-probabilities are told of what is answered
            events += self._grow(_Thoughts, step.thinking)
        if step.text:
            events += self._grow(_Answer, step.text, self._untold)
            self._untold = []
        for piece in step.calling:
            events += self._call(piece)
        if isinstance(self._open, _Call) and self._open.call_id in {call.id for call in step.tool_calls}:
            events += self._end_item("completed")
        if step.finish is not None:
            events += self._finish("incomplete" if step.finish == "length" else "completed", step.usage)
        return self._numbered(events)

    def failed(self, error: EdgeshipError) -> Event:
        """The last event of an answer that could not be completed."""
        told = {"code": error.code.replace("-", "_"), "message": failures.told(error)}
        self.response = self._as("failed") | {"error": told}
        [event] = self._numbered([{"type": "response.failed", "response": self.response}])
        return event

    def _grow(self, kind: type[_Text], text: str, logprobs: Sequence[Any] = ()) -> list[Event]:
        events: list[Event] = []
        growing = self._open
        if not isinstance(growing, kind):
            growing = kind()
            events = self._begin_item(growing)
        return events + self._placed(growing.grow(text, logprobs))

    def _call(self, piece: CallPiece) -> list[Event]:
        events: list[Event] = []
        growing = self._open
        if piece.id is not None and piece.name is not None:
            growing = _Call(piece.id, piece.name)
            events = self._begin_item(growing)
        assert isinstance(growing, _Call), "calls are made one after another"
        return events + self._placed(growing.grow(piece.arguments))

    def _begin_item(self, growing: _Growing) -> list[Event]:
        events = self._end_item("completed")
        self._open = growing
        added = {"type": "response.output_item.added", "item": growing.item("in_progress")}
        return events + self._placed([added, *growing.opened()])

    def _end_item(self, status: str) -> list[Event]:
        if self._open is None:
            return []
        item = self._open.item(status)
        done = {"type": "response.output_item.done", "item": item}
        events = self._placed([*self._open.closed(), done])
        self._items.append(item)
        self._open = None
        return events

    def _finish(self, status: str, usage: Usage | None) -> list[Event]:
        events = self._end_item(status)
        if not self._items:  # nothing was said: clients look for a message nevertheless
            events += self._begin_item(_Answer()) + self._end_item(status)
        done: dict[str, Any] = {"usage": usage and _told_usage(usage)}
        if status == "completed":
            done["completed_at"] = int(time.time())
        else:
            done["incomplete_details"] = {"reason": "max_output_tokens"}
        self.response = self._as(status) | done
        return [*events, {"type": f"response.{status}", "response": self.response}]

    def _as(self, status: str) -> dict[str, Any]:
        unknown = dict.fromkeys(("completed_at", "error", "incomplete_details", "usage"))
        return {**self._begun, **unknown, "status": status, "output": list(self._items)}

    def _placed(self, events: Sequence[Event]) -> list[Event]:
        return [event | {"output_index": len(self._items)} for event in events]

    def _numbered(self, events: Sequence[Event]) -> list[Event]:
        first, self._sequence = self._sequence, self._sequence + len(events)
        return [event | {"sequence_number": first + place} for place, event in enumerate(events)]


class _Growing(ABC):
    """An item in the making."""

    prefix: ClassVar[str]

    def __init__(self) -> None:
        self.id = new_id(self.prefix)

    @abstractmethod
    def item(self, status: str) -> Item: ...

    @abstractmethod
    def opened(self) -> list[Event]: ...

    @abstractmethod
    def closed(self) -> list[Event]: ...

    def _event(self, kind: str, **values: Any) -> Event:
        return {"type": f"response.{kind}", "item_id": self.id, **values}


class _Text(_Growing):
    """One with a single part, a text. kind: of the part, and of its events."""

    kind: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.logprobs: list[Any] = []

    def part(self) -> dict[str, Any]:
        return {"type": self.kind, "text": self.text}

    def opened(self) -> list[Event]:
        return [self._event("content_part.added", content_index=0, part=self.part())]

    def grow(self, text: str, logprobs: Sequence[Any]) -> list[Event]:
        self.text += text
        self.logprobs += logprobs
        return [self._event(f"{self.kind}.delta", content_index=0, delta=text, logprobs=list(logprobs))]

    def closed(self) -> list[Event]:
        return [
            self._event(f"{self.kind}.done", content_index=0, text=self.text, logprobs=self.logprobs),
            self._event("content_part.done", content_index=0, part=self.part()),
        ]


class _Answer(_Text):
    prefix, kind = "msg", "output_text"

    def part(self) -> dict[str, Any]:
        return output_text(self.text, self.logprobs)

    def item(self, status: str) -> Item:
        content = [self.part()] if status != "in_progress" else []
        return {"id": self.id, "type": "message", "status": status, "role": "assistant", "content": content}


class _Thoughts(_Text):
    # As OpenAI's clients and the field's servers call the events; the Open Responses specification has
    # `response.reasoning.delta`, which hardly any client reads.
    prefix, kind = "rs", "reasoning_text"

    def item(self, status: str) -> Item:
        content = [self.part()] if status != "in_progress" else []
        return {"id": self.id, "type": "reasoning", "status": status, "summary": [], "content": content}


class _Call(_Growing):
    prefix = "fc"

    def __init__(self, call_id: str, name: str) -> None:
        super().__init__()
        self.call_id, self._name, self._arguments = call_id, name, ""

    def item(self, status: str) -> Item:
        return {
            "id": self.id,
            "type": "function_call",
            "status": status,
            "call_id": self.call_id,
            "name": self._name,
            "arguments": self._arguments,
        }

    def opened(self) -> list[Event]:
        return []

    def grow(self, arguments: str) -> list[Event]:
        self._arguments += arguments
        return [self._event("function_call_arguments.delta", delta=arguments)]

    def closed(self) -> list[Event]:
        return [self._event("function_call_arguments.done", name=self._name, arguments=self._arguments)]


def _told_usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
