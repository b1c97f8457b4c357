"""What was seen of each request: when it was due and sent, each arrival, its end, and what the target says of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from edgeship.errors import EdgeshipError
from edgeship.system import foreign, json_file
from edgeship.system.storage import write_named

Kind = Literal["text", "thinking", "call"]
"""The channels of an answer."""
UNFINISHED = "unfinished"
"""The kind of failure of a request that ran when its level ended: it is no error of the target's."""
TIMEOUT = "timeout"
"""The kind of failure of a request that took longer than it may."""


@dataclass(frozen=True)
class Arrival:
    """A piece of an answer. at_s: when it came. kinds: the channels in which it shows something; none for an empty one.

    tokens: how many it holds; None where that is not told.
    """

    at_s: float
    kinds: tuple[Kind, ...]
    tokens: int | None = None


@dataclass(frozen=True)
class Failure:
    """Why a request counts as an error. kind: a word of the field or the code of an error of ours; what: in words."""

    kind: str
    what: str


@dataclass(frozen=True)
class Reply:
    """What came of a request. Times are of one clock, whose zero is whoever's who made it.

    end_s: when the answer was complete, or failed. finish: why it ended, in the target's words.
    prompt_tokens, output_tokens, cached_tokens, reasoning_tokens: as the target's usage tells them; None where it does
    not. counted_output_tokens: as a tokenizer counts the answer. text: the answer, which records do not keep.
    """

    arrivals: tuple[Arrival, ...]
    end_s: float
    finish: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    counted_output_tokens: int | None = None
    failure: Failure | None = None
    text: str = ""

    def since(self, zero_s: float) -> Reply:
        """The same by a clock that began at `zero_s` of this one."""
        arrivals = tuple(replace(one, at_s=one.at_s - zero_s) for one in self.arrivals)
        return replace(self, arrivals=arrivals, end_s=self.end_s - zero_s)


@dataclass(frozen=True)
class Record:
    """One request. Times are seconds since its level began.

    conversation, turn: which question it was; both count from 0.
    scheduled_s: when it was due; None in a closed loop, where a request is due when the one before it has ended.
    asked_prompt_tokens, asked_output_tokens: what it was to have; None where that was left open.
    """

    number: int
    conversation: int
    turn: int
    scheduled_s: float | None
    sent_s: float
    asked_prompt_tokens: int | None
    asked_output_tokens: int | None
    reply: Reply

    @property
    def start_s(self) -> float:
        """From when on its latency counts: a request that a slow target kept from being sent was waiting, too."""
        return self.sent_s if self.scheduled_s is None else self.scheduled_s

    @property
    def is_complete(self) -> bool:
        """Whether it was answered as it should be; nothing else counts as an answer."""
        return self.reply.failure is None

    @property
    def is_error(self) -> bool:
        """Whether the target failed at it."""
        return self.reply.failure is not None and self.reply.failure.kind != UNFINISHED

    def first_s(self, kind: Kind | None = None) -> float | None:
        """When the first piece came that shows something, in this channel or in any."""
        shown = (one.at_s for one in self.reply.arrivals if (kind in one.kinds if kind else one.kinds))
        return next(shown, None)

    def to_dict(self, **beside: Any) -> dict[str, Any]:
        """The record as a line of JSON has it, without any text. beside: what stands before it."""
        facts: dict[str, Any] = asdict(self)
        reply: dict[str, Any] = facts.pop("reply")
        del reply["text"]
        return {**beside, **facts, **reply}


Levels = Iterable[tuple[Mapping[str, Any], Iterable[Record]]]
"""The records of levels, each with what its level is."""


def as_lines(levels: Levels) -> str:
    """JSON Lines of the records of all levels, each with what its level is."""
    return "".join(
        json.dumps(record.to_dict(**level), ensure_ascii=False) + "\n"
        for level, records in levels
        for record in records
    )


def write(path: Path, levels: Levels, stopped: str | None = None) -> None:
    """Writes the records of all levels as JSON Lines, whole or not at all where that is a file.

    stopped: why the run they are of is a part, which each line then says.
    """
    part = {} if stopped is None else {"stopped": stopped}
    write_named(path, as_lines(({**level, **part}, each) for level, each in levels))


def read(path: Path, error: type[EdgeshipError]) -> Iterator[tuple[dict[str, Any], Record]]:
    """The records that `write` wrote, each with what its level is. Raises `error`, which names the line."""
    names = set(Record.__dataclass_fields__) - {"reply"} | set(Reply.__dataclass_fields__) - {"text"}
    for number, line in enumerate(foreign.read_text(path, named=True).splitlines(), 1):
        try:
            facts = json_file.parse(line)
            level = {name: value for name, value in facts.items() if name not in names}
            yield level, _record({name: facts[name] for name in names})
        except (ValueError, KeyError, TypeError, AttributeError) as fault:
            raise error(f"line {number} is no record of a request: {fault}", where=str(path)) from fault


def _record(facts: dict[str, Any]) -> Record:
    arrivals = tuple(Arrival(one["at_s"], tuple(one["kinds"]), one["tokens"]) for one in facts.pop("arrivals"))
    failure = facts.pop("failure")
    of_reply = {name: facts.pop(name) for name in list(facts) if name in Reply.__dataclass_fields__}
    reply = Reply(arrivals=arrivals, failure=failure and Failure(**failure), **of_reply)
    return Record(reply=reply, **facts)
