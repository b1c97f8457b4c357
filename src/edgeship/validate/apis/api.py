"""What an API is: its path, its words for a question, and where text, end and cost stand in its answers."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from edgeship.package.conversation import text_of
from edgeship.validate.apis.shapes import Schema
from edgeship.validate.apis.told import Event, Told, events, lines, value_of
from edgeship.validate.over_http import Reply, Request

EVENTS, LINES = "text/event-stream", "application/x-ndjson"
UNENDED = "its last event is not the one that ends it"


class Api(ABC):
    """name: as findings have it. takes: what it can be asked for besides a text: stop, forced, calls, tells.

    words: its names for fields of Chat Completions. streams: the fields that ask for a stream. end: what a stream ends
    with, in so many bytes. answer, event, error: schemas of what it says in one piece, in a stream, and in refusing.
    wrong: a body that cannot be meant, without the model.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    path: ClassVar[str]
    headers: ClassVar[tuple[tuple[str, str], ...]] = ()
    takes: ClassVar[frozenset[str]]
    words: ClassVar[Mapping[str, str]] = {}
    streams: ClassVar[Mapping[str, Any]] = {"stream": True}
    stream_type: ClassVar[str] = EVENTS
    end: ClassVar[re.Pattern[bytes]]
    end_bytes: ClassVar[int] = 1 << 20
    answer: ClassVar[Schema]
    event: ClassVar[Schema]
    error: ClassVar[Schema]
    wrong: ClassVar[Mapping[str, Any]]

    # --- what is asked -----------------------------------------------------------------------------------------------

    def body(self, asked: Mapping[str, Any], *, stream: bool = False) -> dict[str, Any]:
        """A body of Chat Completions in its words. Fields that it does not know are kept."""
        renamed = {self.words.get(name, name): value for name, value in asked.items()}
        return {**renamed, **self.streams} if stream else renamed

    def request(self, asked: Mapping[str, Any], *, stream: bool = False) -> Request:
        """The request for a body of Chat Completions."""
        return Request(self.path, self.body(asked, stream=stream), headers=self.headers)

    # --- what is said ------------------------------------------------------------------------------------------------

    def told(self, reply: Reply, *, stream: bool, tells: bool = False) -> Told:
        """What a reply says, and what of its form is not as it is to be. tells: log-probabilities were asked for."""
        if reply.status != 200:
            return Told(faults=[reply.fault or f"it is answered with {reply.status}"])
        told = Told(faults=[reply.fault] if reply.fault else [])
        try:
            if stream:
                self._streamed(told, reply.body)
            else:
                self._whole(told, reply.body, tells=tells)
        except (LookupError, TypeError, AttributeError):
            # What is not of its schema is told by that; nobody has to read it.
            told.faults += [] if told.faults else ["it cannot be read"]
        kind = self.stream_type if stream else "application/json"
        if reply.content_type != kind:
            told.faults.append(f"its content-type is {reply.content_type!r} and not {kind!r}")
        return told

    def _whole(self, told: Told, body: bytes, *, tells: bool) -> None:
        said = value_of(body, "the answer", told.faults)
        if said is not None:
            told.hold(self.schema(tells=tells), said, "the answer")
        if isinstance(said, dict):
            told.named(said)
            self.read(told, said)

    def _streamed(self, told: Told, body: bytes) -> None:
        found = self.events(body, told.faults)
        if not self.is_over(body):
            told.faults.append(UNENDED)
        self.follow(told, found)

    def events(self, body: bytes, faults: list[str]) -> list[Event]:
        """The events of a stream."""
        return list((lines if self.stream_type == LINES else events)(body, faults))

    def is_over(self, body: bytes | bytearray) -> bool:
        """Whether a stream has come to its last event."""
        return self.end.search(body[-self.end_bytes :].replace(b"\r", b"")) is not None

    def schema(self, *, tells: bool) -> Schema:  # noqa: ARG002 - most tell no log-probabilities
        """Of an answer in one piece."""
        return self.answer

    @abstractmethod
    def read(self, told: Told, said: Any) -> None:
        """Notes what an answer in one piece says. Raises LookupError, TypeError, AttributeError where it is none."""

    @abstractmethod
    def piece(self, told: Told, said: Any) -> None:
        """Notes what one event of a stream says. Raises the same."""

    @abstractmethod
    def follow(self, told: Told, found: list[Event]) -> None:
        """Notes what the events of a stream say, and what is wrong with them and their order. Raises the same."""


def with_prompt(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The body for an API that takes a text in place of a conversation: that of its last message."""
    others = {name: value for name, value in asked.items() if name != "messages"}
    return {"prompt": text_of(asked["messages"][-1]["content"]), **others}
