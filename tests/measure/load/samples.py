"""Records and streams with times that a test chooses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from edgeship.measure.load import chunks
from edgeship.measure.load.records import Arrival, Failure, Kind, Record, Reply

MODEL = "m"


def arrivals(times: Iterable[float], kind: Kind | None = "text", tokens: int | None = None) -> tuple[Arrival, ...]:
    """One piece at each time."""
    return tuple(Arrival(at_s, (kind,) if kind else (), tokens) for at_s in times)


def record(
    times: Sequence[float] = (0.1, 0.2, 0.3),
    *,
    number: int = 0,
    sent_s: float = 0.0,
    scheduled_s: float | None = None,
    asked: int | None = None,
    failure: Failure | None = None,
    **told: Any,
) -> Record:
    """A request whose pieces came at these times; the last one ends it."""
    facts: dict[str, Any] = {"arrivals": arrivals(times), "end_s": times[-1], "output_tokens": len(times)}
    reply = Reply(**(facts | {"prompt_tokens": 10, "finish": "length", "failure": failure} | told))
    return Record(number, number, 0, scheduled_s, sent_s, 10, asked, reply)


def chunk(content: str | None = None, *, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """A chunk of a stream; fields: of its delta, but for `model` and `usage`."""
    beside = {name: fields.pop(name) for name in ("model", "usage") if name in fields}
    delta = fields | ({} if content is None else {"content": content})
    return {"model": MODEL, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]} | beside


def usage(completion_tokens: int, **more: Any) -> dict[str, Any]:
    """The chunk that tells what was used."""
    told = {"prompt_tokens": 10, "completion_tokens": completion_tokens} | more
    return {"model": MODEL, "choices": [], "usage": told}


def read(*timed: tuple[float, Any], end_s: float = 9.0, failure: Failure | None = None) -> Reply:
    """What is made of events at these times."""
    import json

    events = [(at_s, one if isinstance(one, str) else json.dumps(one)) for at_s, one in timed]
    return chunks.read(events, {MODEL}, MODEL, end_s, failure)
