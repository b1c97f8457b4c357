"""The APIs by which an answer can be asked for: how each asks, and how its answers are read."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from edgeship.validate.conformance import anthropic_schemas, ollama_schemas, openai_schemas, responses_schemas
from edgeship.validate.conformance.shapes import Schema
from edgeship.validate.conformance.told import DONE, Event, Finish, Told, events, lines, value_of
from edgeship.validate.over_http import Asked

TOOL = {
    "name": "get_weather",
    "description": "Tells the weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
_BLOCKS = re.compile(r"(\(\.*\))*")
"""The start, the deltas and the stop of each block."""
_TAIL_BYTES = 1 << 20
_EVENTS, _LINES = "text/event-stream", "application/x-ndjson"


@dataclass(frozen=True)
class Wanted:
    """An answer as it is to be: the likeliest one.

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
    def schema(self) -> dict[str, Any]:
        """The schema that only the forced text fits."""
        return {"type": "string", "enum": [self.forced]}


class Api(ABC):
    """name: as findings have it. takes: what it can be asked for besides a text: stop, forced, calls, tells.

    end: what a stream ends with. error: the schema of an error.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    path: ClassVar[str]
    takes: ClassVar[frozenset[str]]
    end: ClassVar[re.Pattern[bytes]]
    stream_type: ClassVar[str] = _EVENTS
    error: ClassVar[Schema]

    def asked(self, model: str, wanted: Wanted) -> Asked:
        """The request."""
        return Asked(self.path, {"model": model, **self.body(wanted)}, headers=self.headers)

    headers: ClassVar[tuple[tuple[str, str], ...]] = ()

    @abstractmethod
    def body(self, wanted: Wanted) -> dict[str, Any]:
        """Its body, without the model."""

    def whole(self, body: bytes, wanted: Wanted) -> Told:
        """An answer in one piece."""
        told = Told()
        said = value_of(body, "the answer", told.faults)
        if said is not None:
            told.hold(self.schema(wanted), said, "the answer")
        if isinstance(said, dict):
            told.named(said)
            try:
                self.read(told, said)
            except (LookupError, TypeError, AttributeError):
                _note_unread(told)
        return told

    def streamed(self, body: bytes) -> Told:
        """An answer in a stream."""
        told = Told()
        found = list((lines if self.stream_type == _LINES else events)(body, told.faults))
        if not self.is_over(body):
            told.faults.append("its last event is not the one that ends it")
        try:
            self.follow(told, found)
        except (LookupError, TypeError, AttributeError):
            _note_unread(told)
        return told

    def is_over(self, body: bytes) -> bool:
        """Whether a stream has come to its last event."""
        return self.end.search(body[-_TAIL_BYTES:].replace(b"\r", b"")) is not None

    @abstractmethod
    def schema(self, wanted: Wanted) -> Schema:
        """Of an answer in one piece."""

    @abstractmethod
    def read(self, told: Told, said: Mapping[str, Any]) -> None:
        """Notes what an answer in one piece says."""

    @abstractmethod
    def follow(self, told: Told, found: list[Event]) -> None:
        """Notes what the events of a stream say, and whether they come in their order."""

    @property
    @abstractmethod
    def wrong(self) -> Mapping[str, Any]:
        """A body that cannot be meant, without the model."""


def _note_unread(told: Told) -> None:
    """What is not of its schema is told by that; nobody has to read it."""
    if not told.faults:
        told.faults.append("it cannot be read")


def _messages(wanted: Wanted) -> list[dict[str, str]]:
    return [{"role": "user", "content": wanted.text}]


class _OpenAI(Api):
    end = re.compile(rb"(?:^|\n)data: ?\[DONE\]\n\n$")
    error = openai_schemas.ERROR
    reasons: ClassVar[dict[str, Finish]] = {"stop": "stop", "length": "length"}
    chunk: ClassVar[Schema]

    def follow(self, told: Told, found: list[Event]) -> None:
        """See Api."""
        finished = False
        for number, event in enumerate(found):
            if event.raw == DONE:
                if event is not found[-1]:
                    told.faults.append(f"event {number} is [DONE], and others follow")
                continue
            if event.data is None or not told.hold(self.chunk, event.data, f"event {number}"):
                continue
            told.named(event.data)
            told.cost(event.data.get("usage"), "prompt_tokens", "completion_tokens", "total_tokens")
            for choice in event.data["choices"]:
                if finished:
                    told.faults.append(f"event {number}: a choice comes after the one that ended the answer")
                self.take(told, choice)
                told.end(choice.get("finish_reason"), self.reasons)
                finished = choice.get("finish_reason") is not None
        if not finished:
            told.faults.append("no event gives a finish_reason")
        for name, values in (("id", told.ids), ("model", told.models)):
            if len(values) > 1:
                told.faults.append(f"the events of one stream have {len(values)} different values of {name}")

    def take(self, told: Told, choice: Mapping[str, Any]) -> None:
        """Notes what a choice in an event says."""
        raise NotImplementedError

    def read(self, told: Told, said: Mapping[str, Any]) -> None:
        """See Api."""
        told.cost(said.get("usage"), "prompt_tokens", "completion_tokens", "total_tokens")
        choice = said["choices"][0]
        told.end(choice.get("finish_reason"), self.reasons)
        self.take(told, choice)

    def settings(self, wanted: Wanted) -> dict[str, Any]:
        """What both of OpenAI's completions take."""
        body: dict[str, Any] = {"max_tokens": wanted.most_tokens, "temperature": 0}
        if wanted.stop:
            body["stop"] = [wanted.stop]
        if wanted.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body


class Chat(_OpenAI):
    """OpenAI's chat completions."""

    name, title, path = "chat", "OpenAI's chat completions", "/v1/chat/completions"
    takes = frozenset({"stop", "forced", "calls", "tells"})
    chunk = openai_schemas.CHAT_CHUNK
    reasons: ClassVar[dict[str, Finish]] = {"stop": "stop", "length": "length"}

    def body(self, wanted: Wanted) -> dict[str, Any]:
        """See Api."""
        body = {"messages": _messages(wanted), **self.settings(wanted)}
        if wanted.forced:
            schema = {"name": "word", "schema": wanted.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if wanted.calls:
            body |= {"tools": [{"type": "function", "function": TOOL}], "tool_choice": "required"}
        if wanted.tells:
            body |= {"logprobs": True, "top_logprobs": 2}
        return body

    def schema(self, wanted: Wanted) -> Schema:
        """See Api."""
        if wanted.tells:
            return {"allOf": [openai_schemas.CHAT, openai_schemas.CHAT_LOGPROBS]}
        return openai_schemas.CHAT

    def take(self, told: Told, choice: Mapping[str, Any]) -> None:
        """See _OpenAI."""
        message = choice.get("message") or choice.get("delta") or {}
        told.add(message.get("content"))
        for number, call in enumerate(message.get("tool_calls") or ()):
            place = call.get("index", number)
            while len(told.calls) <= place:
                told.calls.append(["", ""])
            function = call.get("function") or {}
            told.calls[place][0] += function.get("name") or ""
            told.calls[place][1] += function.get("arguments") or ""

    @property
    def wrong(self) -> Mapping[str, Any]:
        """See Api."""
        return {"messages": "no list"}


class Completions(_OpenAI):
    """OpenAI's completions."""

    name, title, path = "completions", "OpenAI's completions", "/v1/completions"
    takes = frozenset({"stop"})
    chunk = openai_schemas.COMPLETION_CHUNK

    def body(self, wanted: Wanted) -> dict[str, Any]:
        """See Api."""
        return {"prompt": wanted.text, **self.settings(wanted)}

    def schema(self, wanted: Wanted) -> Schema:  # noqa: ARG002 - it is the same for all
        """See Api."""
        return openai_schemas.COMPLETION

    def take(self, told: Told, choice: Mapping[str, Any]) -> None:
        """See _OpenAI."""
        told.add(choice.get("text"))

    @property
    def wrong(self) -> Mapping[str, Any]:
        """See Api."""
        return {"prompt": "Hello", "max_tokens": "many"}


class Responses(Api):
    """OpenAI's responses."""

    name, title, path = "responses", "OpenAI's responses", "/v1/responses"
    takes = frozenset({"forced"})
    end = re.compile(rb'"type": ?"response\.(?:completed|incomplete)".*\n\n(?:data: ?\[DONE\]\n\n)?$')
    error = openai_schemas.ERROR
    _REASONS: ClassVar[dict[str, Finish]] = {"completed": "stop", "incomplete": "length"}
    _FIRST, _LAST = "response.created", ("response.completed", "response.incomplete")

    def body(self, wanted: Wanted) -> dict[str, Any]:
        """See Api."""
        body: dict[str, Any] = {"input": wanted.text, "max_output_tokens": wanted.most_tokens, "temperature": 0}
        if wanted.forced:
            body["text"] = {"format": {"type": "json_schema", "name": "word", "schema": wanted.schema, "strict": True}}
        return body | ({"stream": True} if wanted.stream else {})

    def schema(self, wanted: Wanted) -> Schema:  # noqa: ARG002 - it is the same for all
        """See Api."""
        return responses_schemas.RESPONSE

    def read(self, told: Told, said: Mapping[str, Any]) -> None:
        """See Api."""
        told.cost(said.get("usage"), "input_tokens", "output_tokens", "total_tokens")
        told.end(said.get("status"), self._REASONS)
        for item in said["output"]:
            for part in item.get("content") or () if item["type"] == "message" else ():
                told.add(part.get("text"))

    def follow(self, told: Told, found: list[Event]) -> None:
        """See Api."""
        read = [event for event in found if isinstance(event.data, dict)]
        kinds = [event.data.get("type") for event in read]
        if kinds[:1] != [self._FIRST] or not kinds or kinds[-1] not in self._LAST:
            told.faults.append(f"the events go from {kinds[:1]} to {kinds[-1:]}")
        numbers = [event.data.get("sequence_number") for event in read]
        if numbers != sorted(set(numbers), key=lambda number: number if isinstance(number, int) else -1):
            told.faults.append(f"sequence_number does not rise: {numbers[:8]}")
        done = ""
        for number, event in enumerate(read):
            if event.name != event.data.get("type"):
                told.faults.append(f"event {number} is called {event.name!r}, and its type is {kinds[number]!r}")
            told.hold(responses_schemas.EVENT, event.data, f"event {number}")
            if kinds[number] == "response.output_text.delta":
                told.add(event.data["delta"])
            elif kinds[number] == "response.output_text.done":
                done += event.data["text"]
            if "response" in event.data:
                told.named(event.data["response"])
            if kinds[number] in self._LAST:
                self._compare(told, done, event.data["response"])

    def _compare(self, told: Told, done: str, response: Mapping[str, Any]) -> None:
        """Holds the last event against the others, and notes what it says."""
        last = Told()
        self.read(last, response)
        told.finish = last.finish
        told.prompt_tokens, told.completion_tokens = last.prompt_tokens, last.completion_tokens
        told.total_tokens = last.total_tokens
        if not last.text == done == told.text:
            told.faults.append(f"its deltas make {told.text!r}, and its last events say {done!r} and {last.text!r}")
        if len(told.ids) > 1:
            told.faults.append(f"the events of one stream have {len(told.ids)} different ids")

    @property
    def wrong(self) -> Mapping[str, Any]:
        """See Api."""
        return {"input": 7}


class Messages(Api):
    """Anthropic's messages."""

    name, title, path = "messages", "Anthropic's messages", "/v1/messages"
    takes = frozenset({"stop"})
    end = re.compile(rb"(?:^|\n)event: ?message_stop\n.*\n\n$")
    error = anthropic_schemas.ERROR
    headers = (("anthropic-version", "2023-06-01"),)
    _REASONS: ClassVar[dict[str, Finish]] = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length"}

    def body(self, wanted: Wanted) -> dict[str, Any]:
        """See Api."""
        body: dict[str, Any] = {"messages": _messages(wanted), "max_tokens": wanted.most_tokens, "temperature": 0}
        if wanted.stop:
            body["stop_sequences"] = [wanted.stop]
        return body | ({"stream": True} if wanted.stream else {})

    def schema(self, wanted: Wanted) -> Schema:  # noqa: ARG002 - it is the same for all
        """See Api."""
        return anthropic_schemas.MESSAGE

    def read(self, told: Told, said: Mapping[str, Any]) -> None:
        """See Api."""
        self._cost(told, said.get("usage"))
        told.end(said.get("stop_reason"), self._REASONS)
        for block in said["content"]:
            told.add(block.get("text") if block["type"] == "text" else None)

    def follow(self, told: Told, found: list[Event]) -> None:
        """See Api."""
        read = [event for event in found if isinstance(event.data, dict) and event.data.get("type") != "ping"]
        order: list[str] = []
        for number, event in enumerate(read):
            kind, said = event.data.get("type"), event.data
            order.append(
                {"content_block_start": "(", "content_block_stop": ")", "content_block_delta": "."}.get(kind, kind)
            )
            if event.name != kind:
                told.faults.append(f"event {number} is called {event.name!r}, and its type is {kind!r}")
            if not told.hold(anthropic_schemas.EVENT, said, f"event {number}"):
                continue
            if kind == "message_start":
                told.named(said["message"])
                self._cost(told, said["message"]["usage"])
            elif kind == "content_block_delta":
                told.add(said["delta"].get("text"))
            elif kind == "message_delta":
                told.end(said["delta"]["stop_reason"], self._REASONS)
                self._cost(told, said["usage"])
        self._check_order(told, order)

    @staticmethod
    def _cost(told: Told, usage: Any) -> None:
        """What an answer cost. Of a prompt, what was known from before is counted by itself."""
        told.cost(usage, "input_tokens", "output_tokens")
        if isinstance(usage, dict) and type(usage.get("input_tokens")) is int:
            kept = (usage.get(name) for name in ("cache_read_input_tokens", "cache_creation_input_tokens"))
            told.prompt_tokens = usage["input_tokens"] + sum(count for count in kept if type(count) is int)

    def _check_order(self, told: Told, order: list[str]) -> None:
        """A message begins, has blocks one after another, each from its start to its stop, and ends."""
        blocks = "".join(order[1:-2])
        whole = order[:1] == ["message_start"] and order[-2:] == ["message_delta", "message_stop"]
        if not whole or not _BLOCKS.fullmatch(blocks):
            told.faults.append(f"its events are out of order: {', '.join(order[:3])} ... {', '.join(order[-3:])}")

    @property
    def wrong(self) -> Mapping[str, Any]:
        """See Api."""
        return {"messages": "no list", "max_tokens": 8}


class _Ollama(Api):
    end = re.compile(rb'"done": ?true.*\n$')
    stream_type = _LINES
    error = ollama_schemas.ERROR
    takes = frozenset({"stop", "forced"})
    shapes: ClassVar[tuple[Schema, Schema]]

    def body(self, wanted: Wanted) -> dict[str, Any]:
        """See Api."""
        options: dict[str, Any] = {"num_predict": wanted.most_tokens, "temperature": 0}
        if wanted.stop:
            options["stop"] = [wanted.stop]
        held = {"format": wanted.schema} if wanted.forced else {}
        return {**self.question(wanted), "options": options, "stream": wanted.stream, **held}

    def schema(self, wanted: Wanted) -> Schema:  # noqa: ARG002 - it is the same for all
        """See Api."""
        return self.shapes[0]

    def read(self, told: Told, said: Mapping[str, Any]) -> None:
        """See Api."""
        told.add(said["response"] if "response" in said else said["message"]["content"])
        if said["done"]:
            told.cost(said, "prompt_eval_count", "eval_count")
            told.end(said.get("done_reason"), {"stop": "stop", "length": "length"})

    def follow(self, told: Told, found: list[Event]) -> None:
        """See Api."""
        for number, event in enumerate(found):
            if event.data is None or not told.hold(self.shapes[1], event.data, f"line {number}"):
                continue
            told.named(event.data)
            self.read(told, event.data)
        done = [isinstance(event.data, dict) and event.data.get("done") for event in found]
        if done != [False] * (len(done) - 1) + [True]:
            told.faults.append("not the last line and it alone says that the answer is done")

    def question(self, wanted: Wanted) -> dict[str, Any]:
        """What is asked."""
        raise NotImplementedError


class OllamaChat(_Ollama):
    """Ollama's chat."""

    name, title, path = "ollama-chat", "Ollama's chat", "/api/chat"
    shapes = (ollama_schemas.CHAT, ollama_schemas.CHAT_LINE)

    def question(self, wanted: Wanted) -> dict[str, Any]:
        """See _Ollama."""
        return {"messages": _messages(wanted)}

    @property
    def wrong(self) -> Mapping[str, Any]:
        """See Api."""
        return {"messages": "no list"}


class OllamaGenerate(_Ollama):
    """Ollama's generate."""

    name, title, path = "ollama-generate", "Ollama's generate", "/api/generate"
    shapes = (ollama_schemas.GENERATE, ollama_schemas.GENERATE_LINE)

    def question(self, wanted: Wanted) -> dict[str, Any]:
        """See _Ollama."""
        return {"prompt": wanted.text}

    @property
    def wrong(self) -> Mapping[str, Any]:
        """See Api."""
        return {"prompt": 7}


APIS: tuple[Api, ...] = (Chat(), Completions(), Responses(), Messages(), OllamaChat(), OllamaGenerate())
