"""What came of a server's stream, out of its events and when each came. Pure.

It is read once the answer is over: what is made of an event must not hold up the time that the next one is given.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeship.engine.completions import END, is_called, message_of
from edgeship.measure.load.records import Arrival, Failure, Kind, Reply
from edgeship.system import json_file
from edgeship.system.fields import LARGEST

Events = list[tuple[float, str]]
"""When an event came, and its data."""
_CHANNELS: tuple[tuple[Kind, tuple[str, ...]], ...] = (
    ("text", ("content", "refusal")),
    ("thinking", ("reasoning_content", "reasoning")),
)
_WITHHELD = "content_filter"


def read(events: Events, names: Collection[str], asked: str, end_s: float, failure: Failure | None = None) -> Reply:
    """What came. names: what the model that was asked may be called in the chunks.

    failure: why the stream ended early. What is wrong with the chunks is one, too.
    """
    seen = _Seen()
    try:
        for at_s, data in events:
            if data != END:
                seen.take(at_s, data)
    except _Faulty as fault:
        failure = failure or Failure(fault.kind, fault.what)
    return seen.reply(end_s, failure or seen.fault(names, asked))


class _Faulty(Exception):
    def __init__(self, kind: str, what: str) -> None:
        super().__init__(what)
        self.kind, self.what = kind, what


@dataclass
class _Seen:
    arrivals: list[Arrival] = field(default_factory=list)
    usage: Mapping[str, Any] = field(default_factory=dict)
    finish: str | None = None
    finish_s: float | None = None
    names: set[str] = field(default_factory=set)
    text: str = ""
    told_tokens: int = 0

    def take(self, at_s: float, data: str) -> None:
        """Reads an event. Raises _Faulty."""
        try:
            chunk = json_file.parse(data)
        except ValueError as error:
            raise _Faulty("malformed-stream", f"the stream holds what is no JSON: {error}") from error
        if not isinstance(chunk, dict):
            raise _Faulty("malformed-stream", "the stream holds an event that is no object")
        if chunk.get("error"):
            raise _Faulty("server-error", f"the server failed in the middle of the answer: {message_of(chunk)}")
        if isinstance(chunk.get("model"), str) and chunk["model"]:
            self.names.add(chunk["model"])
        self.usage = _object(chunk, "usage") or self.usage
        choices = chunk.get("choices")
        if choices:
            if not isinstance(choices, list) or not isinstance(choices[0], dict):
                raise _Faulty("malformed-stream", "the stream has choices that are none")
            self._take_choice(at_s, choices[0], chunk)

    def _take_choice(self, at_s: float, choice: Mapping[str, Any], chunk: Mapping[str, Any]) -> None:
        delta = choice.get("delta") or {}
        if not isinstance(delta, dict):
            raise _Faulty("malformed-stream", "the stream has a delta that is no object")
        kinds = tuple(kind for kind, names in _CHANNELS if any(_text(delta, name) for name in names))
        if delta.get("tool_calls"):
            kinds = (*kinds, "call")
        self.text += _text(delta, "content")
        reason = choice.get("finish_reason")
        # Most servers begin with a chunk that says no more than whose turn it is.
        says_nothing = not kinds and (reason is not None or ("role" in delta and not self.arrivals))
        told = _count(_object(chunk, "usage"), "completion_tokens")
        if kinds or not says_nothing or (told or 0) > self.told_tokens > 0:
            self.arrivals.append(Arrival(at_s, kinds, None if told is None else max(0, told - self.told_tokens)))
            self.told_tokens = self.told_tokens if told is None else told
        if reason is not None:
            self.finish, self.finish_s = str(reason), at_s

    def fault(self, names: Collection[str], asked: str) -> Failure | None:
        """What makes it no answer, though the stream could be read."""
        if others := sorted(name for name in self.names if not is_called(name, asked, names)):
            return Failure("another-model", f"{asked} was asked, and {others[0]} answered")
        if self.finish is None:
            return Failure("cut-stream", "the stream ended before the answer did")
        if self.finish == _WITHHELD:
            return Failure("withheld", "the server withholds the rest of the answer: content_filter")
        if not any(one.kinds for one in self.arrivals) and (_count(self.usage, "completion_tokens") or 0) < 2:
            return Failure("empty-answer", "the answer has nothing in it")
        return None

    def reply(self, end_s: float, failure: Failure | None) -> Reply:
        """The answer ended when it said why it ends, or with its last piece where that came later."""
        last_s = max((one.at_s for one in self.arrivals), default=0.0)
        complete_s = max(last_s, self.finish_s) if self.finish_s is not None and failure is None else end_s
        return Reply(
            tuple(self.arrivals),
            complete_s,
            finish=self.finish,
            prompt_tokens=_count(self.usage, "prompt_tokens"),
            output_tokens=_count(self.usage, "completion_tokens"),
            cached_tokens=_count(_object(self.usage, "prompt_tokens_details"), "cached_tokens"),
            reasoning_tokens=_count(_object(self.usage, "completion_tokens_details"), "reasoning_tokens"),
            failure=failure,
            text=self.text,
        )


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    if value is not None and not isinstance(value, str):
        raise _Faulty("malformed-stream", f"the stream has {name} that is no text")
    return value or ""


def _object(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = values.get(name)
    return value if isinstance(value, dict) else {}


def _count(values: Mapping[str, Any], name: str) -> int | None:
    value = values.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST else None
