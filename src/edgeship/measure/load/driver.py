"""Sends requests when they are due: as a closed loop of so many clients, or at a rate that does not wait for answers.

One thread sends and takes note; answers come from the target's own threads, which note the time of each arrival.
"""

from __future__ import annotations

import itertools
import math
import queue
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

from edgeship.errors import EdgeshipError
from edgeship.measure.load.records import TIMEOUT, UNFINISHED, Failure, Record, Reply
from edgeship.measure.load.watch import Cost
from edgeship.measure.load.workload import Question, Script
from edgeship.progress import Progress, silent
from edgeship.system import border

Arrivals = Literal["fixed", "poisson"]
Stopped = Literal["duration", "prompts", "failures", "silent", "interrupted"]
"""Why a level ended before as many requests were sent as may be."""
HOPELESS = 10
"""So many requests, or twice as many as run at the same time, that all fail end a level: more would tell nothing."""
SILENT = 2
"""So many timeouts in a row without any sign of life, or as many as run at the same time, end a level."""
_TOLD_EVERY_S = 0.5
_LEAST_GRACE_S = 1.0
_CUT: Mapping[Stopped | None, str] = {
    "silent": "the target was given up before it was answered",
    "interrupted": "the run was interrupted before it was answered",
}


class Closable(Protocol):
    """What stands for a request that runs."""

    def close(self) -> None:
        """Ends it."""
        ...


class Asker(Protocol):
    """Whatever can be asked. See `ask`."""

    @property
    def answers(self) -> bool:
        """Whether it is known to answer."""
        ...

    def ask(self, question: Question, timeout_s: float, done: Callable[[Callable[[], Reply]], object]) -> Closable:
        """Sends a question. `done` is called once, from another thread, with what makes a Reply of what came.

        Times of the reply are by time.perf_counter(). What could not be sent is raised as an EdgeshipError at once.
        """
        ...


@dataclass(frozen=True)
class Load:
    """How requests come: from so many clients, each of which asks again once it is answered, or so many a second.

    Exactly one of concurrency and rate_per_s is given.
    """

    concurrency: int | None = None
    rate_per_s: float | None = None
    arrivals: Arrivals = "poisson"

    @property
    def name(self) -> str:
        """In words."""
        if self.concurrency is not None:
            return f"concurrency {self.concurrency}"
        return f"rate {self.rate_per_s:g}/s"

    def due_s(self, seed: int) -> Iterator[float]:
        """When requests are due, in seconds from the start; the same seed gives the same times."""
        assert self.rate_per_s
        if self.arrivals == "fixed":
            return (number / self.rate_per_s for number in itertools.count())
        chance = random.Random(seed)
        return itertools.accumulate(chance.expovariate(self.rate_per_s) for _ in itertools.count())


@dataclass(frozen=True)
class Bounds:
    """When a level ends. requests: that are sent; duration_s: after which none is sent; timeout_s: of one request."""

    requests: int | None
    duration_s: float | None
    timeout_s: float


@dataclass(frozen=True)
class Driven:
    """What came of a level. wall_s: from its start to its last end. stopped: why no more was sent than that.

    cost: what it took, where that was watched.
    """

    records: tuple[Record, ...]
    wall_s: float
    stopped: Stopped | None = None
    cost: Cost | None = None


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, with what came of the level that it ended."""

    def __init__(self, load: Load, driven: Driven) -> None:
        super().__init__()
        self.load, self.driven = load, driven


def drive(
    asker: Asker, scripts: Iterator[Script], load: Load, bounds: Bounds, *, seed: int = 0, progress: Progress = silent
) -> Driven:
    """Asks scripts until the bounds end it; requests that run then are given as long as the longest so far took.

    Raises Interrupted.
    """
    return _Drive(asker, scripts, load, bounds, seed, progress).run()


@dataclass
class _Client:
    """A conversation in the making. answers: what came so far. due_s: when its next turn is due."""

    number: int
    script: Script
    due_s: float
    answers: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Sent:
    client: _Client
    number: int
    question: Question
    scheduled_s: float | None
    sent_s: float
    handle: Closable


class _Drive:
    def __init__(
        self, asker: Asker, scripts: Iterator[Script], load: Load, bounds: Bounds, seed: int, progress: Progress
    ) -> None:
        self._asker, self._scripts, self._load, self._bounds, self._progress = asker, scripts, load, bounds, progress
        self._inbox: queue.SimpleQueue[tuple[int, Callable[[], Reply]]] = queue.SimpleQueue()
        self._running: dict[int, _Sent] = {}
        self._records: list[Record] = []
        self._due = load.due_s(seed) if load.rate_per_s else None
        self._next_due_s = 0.0 if self._due is None else next(self._due)
        self._began = self._conversations = self._sent_count = 0
        self._succeeded = False
        self._stopped: Stopped | None = None
        self._silent, self._alive_s = 0, -math.inf
        self._told_s = self._longest_s = self._tokens = 0.0
        self._zero_s = 0.0

    def run(self) -> Driven:
        self._zero_s = time.perf_counter()
        try:
            while self._goes_on():
                self._send_what_is_due()
                self._hear()
        except KeyboardInterrupt:
            self._stopped = "interrupted"
        finally:
            for sent in self._running.values():
                sent.handle.close()
        if self._running:
            self._cut()
        wall_s = max((record.reply.end_s for record in self._records), default=0.0)
        driven = Driven(tuple(sorted(self._records, key=lambda one: one.number)), wall_s, self._stopped)
        if self._stopped == "interrupted":
            raise Interrupted(self._load, driven)
        return driven

    # --- when --------------------------------------------------------------------------------------------------------

    @property
    def _now_s(self) -> float:
        return time.perf_counter() - self._zero_s

    @property
    def _over_s(self) -> float:
        """When the time for sending is over."""
        return math.inf if self._bounds.duration_s is None else self._bounds.duration_s

    @property
    def _last_s(self) -> float:
        """Until when requests that run are waited for: they are not to take longer than others only since they run."""
        if self._stopped and self._stopped != "duration":
            return math.inf
        grace_s = max(self._longest_s, _LEAST_GRACE_S) if self._records else self._over_s
        return self._over_s + grace_s

    def _may_begin(self) -> bool:
        enough = self._bounds.requests is not None and self._sent_count >= self._bounds.requests
        if self._now_s >= self._over_s and not self._stopped:
            self._stopped = "duration"
        return not enough and self._stopped is None

    def _goes_on(self) -> bool:
        if self._now_s >= self._last_s or self._stopped == "silent":
            return False
        return bool(self._running) or self._may_begin()

    # --- sending -----------------------------------------------------------------------------------------------------

    def _send_what_is_due(self) -> None:
        while self._may_begin():
            if self._due is None:
                if len(self._running) >= (self._load.concurrency or 1):
                    return
                due_s = self._now_s
            else:
                if self._next_due_s > self._now_s:
                    return
                due_s, self._next_due_s = self._next_due_s, next(self._due)
            script = next(self._scripts, None)
            if script is None:
                self._stopped = "prompts"
                return
            self._send(_Client(self._conversations, script, due_s))
            self._conversations += 1

    def _send(self, client: _Client) -> None:
        number, self._sent_count = self._sent_count, self._sent_count + 1
        question = client.script.question(client.answers)
        scheduled_s = None if self._due is None else client.due_s
        done = partial(self._done, number)
        sent_s = self._now_s
        handle: Closable = _NOTHING
        try:
            handle = self._asker.ask(question, self._bounds.timeout_s, done)
        except EdgeshipError as error:
            reply = Reply((), time.perf_counter(), failure=Failure(error.code, error.what))
            done(lambda: reply)
        self._running[number] = _Sent(client, number, question, scheduled_s, sent_s, handle)

    def _done(self, number: int, reply: Callable[[], Reply]) -> None:
        self._inbox.put((number, reply))

    # --- hearing -----------------------------------------------------------------------------------------------------

    def _hear(self) -> None:
        """Waits for an end, or for what is due; takes all ends that are there, for clients wait to ask again."""
        until_s = min(self._last_s, self._over_s if self._over_s > self._now_s else math.inf)
        if self._due is not None and self._may_begin():
            until_s = min(until_s, self._next_due_s)
        if not self._running and self._due is None:
            return
        try:
            found = border.take(self._inbox, time.monotonic() + until_s - self._now_s)
        except border.TookTooLong:
            return
        self._end(*found)

    def _end(self, number: int, make: Callable[[], Reply]) -> None:
        sent = self._running.pop(number)
        reply = make().since(self._zero_s)
        self._note(sent, reply)
        client = sent.client
        client.answers = (*client.answers, reply.text)
        if reply.failure is None and len(client.answers) < client.script.turns and self._stopped != "duration":
            client.due_s = reply.end_s
            self._send(client)

    def _note(self, sent: _Sent, reply: Reply) -> None:
        self._records.append(_record(sent, reply))
        self._longest_s = max(self._longest_s, reply.end_s - sent.sent_s)
        self._succeeded = self._succeeded or reply.failure is None
        self._tokens += reply.output_tokens or len(reply.arrivals)
        if not self._succeeded and len(self._records) >= max(HOPELESS, 2 * (self._load.concurrency or 0)):
            self._stopped = self._stopped or "failures"
        if self._has_gone_silent(sent, reply):
            self._stopped = "silent"
        self._tell()

    def _has_gone_silent(self, sent: _Sent, reply: Reply) -> bool:
        """Whether nothing came for so long that nothing will: each further request would only wait for its timeout.

        A slow target that answers others meanwhile, or answers in part, has not.
        """
        times_out = reply.failure is not None and reply.failure.kind == TIMEOUT
        heard_s = [arrival.at_s for arrival in reply.arrivals[-1:]] + ([] if times_out else [reply.end_s])
        self._alive_s = max(self._alive_s, *heard_s) if heard_s else self._alive_s
        self._silent = self._silent + 1 if times_out and self._alive_s < sent.sent_s else 0
        return self._silent >= max(SILENT if self._asker.answers else 1, self._load.concurrency or 0)

    def _cut(self) -> None:
        """What ran when the level ended."""
        why = _CUT.get(self._stopped, "the time was over before it was answered")
        for sent in self._running.values():
            failure = Failure(UNFINISHED, why)
            self._records.append(_record(sent, Reply((), self._now_s, failure=failure)))

    def _tell(self) -> None:
        now_s = self._now_s
        if now_s - self._told_s < _TOLD_EVERY_S:
            return
        self._told_s = now_s
        done, requests = len(self._records), self._bounds.requests
        parts = [done / requests if requests else 0.0, now_s / self._over_s]
        of = f" of {requests}" if requests else ""
        self._progress(
            f"{self._load.name}: {done}{of} requests, {self._tokens / now_s:.1f} tokens/s", min(1.0, max(parts))
        )


class _Nothing:
    def close(self) -> None:
        """Nothing runs."""


_NOTHING = _Nothing()


def _record(sent: _Sent, reply: Reply) -> Record:
    return Record(
        number=sent.number,
        conversation=sent.client.number,
        turn=len(sent.client.answers),
        scheduled_s=sent.scheduled_s,
        sent_s=sent.sent_s,
        asked_prompt_tokens=sent.question.prompt_tokens,
        asked_output_tokens=sent.question.new_tokens if sent.question.ignore_eos else None,
        reply=reply,
    )
