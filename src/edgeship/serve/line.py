"""The line in front of the models: who waits, who runs, and who is told at once to come back later.

An engine answers in the order in which it was asked. So it is given hardly more than it can make side by side, and the
others wait here, where who has priority goes first. To be used by one event loop.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from edgeship.errors import EngineBusy, ServerEnding
from edgeship.serve.bodies import Application, Receive, Refuse, Scope, Send

AHEAD = 2
"""So many answers more than a model has slots are begun, or half as many as it has: a slot never waits for us."""


@dataclass(eq=False)
class Ticket:
    """A request in the line. waits: for its places. answers: places that it has; none once its answers are made."""

    model: str
    priority: int
    waits: bool = True
    answers: int = 0


@dataclass
class _Lane:
    """One model's part of the line: answers that run, and who waits for how many places, first those who go first."""

    most: int = 1
    running: int = 0
    waiting: list[tuple[int, int, int, asyncio.Future[None]]] = field(default_factory=list)

    def has_room(self, answers: int) -> bool:
        return not self.running or self.running + answers <= self.most

    def free(self, answers: int) -> None:
        """So many answers are over, and who is next goes on."""
        self.running -= answers
        while self.waiting:
            *_, wanted, turn = self.waiting[0]
            if not turn.done():
                if not self.has_room(wanted):
                    return
                self.running += wanted
                turn.set_result(None)
            heapq.heappop(self.waiting)


class Line:
    """most_waiting: requests that may wait for all models together."""

    def __init__(self, most_waiting: int) -> None:
        self._most_waiting = most_waiting
        self._tickets: set[Ticket] = set()
        self._lanes: defaultdict[str, _Lane] = defaultdict(_Lane)
        self._numbers = itertools.count()
        self._empty = asyncio.Event()
        self._empty.set()
        self.ending = False

    def check(self) -> None:
        """Raises ServerEnding where nobody is let in any more, EngineBusy where as many wait as may."""
        if self.ending:
            raise ServerEnding("the server is being stopped, and takes no more requests")
        waiting = sum(ticket.waits for ticket in self._tickets)
        if waiting >= self._most_waiting:
            raise EngineBusy(f"{waiting} requests wait already, and no more may", hint="Try again later.")

    @contextmanager
    def joined(self, model: str, priority: int) -> Iterator[Ticket]:
        """A request for a model is in the line until this ends. Raises what `check` raises."""
        self.check()
        ticket = Ticket(model, priority)
        self._tickets.add(ticket)
        self._empty.clear()
        try:
            yield ticket
        finally:
            self._tickets.discard(ticket)
            self.keep(ticket, 0)
            if not self._tickets:
                self._lanes.clear()
                self._empty.set()

    async def place(self, ticket: Ticket, answers: int, slots: int | None) -> float:
        """Waits until the request's answers may begin; for how long, in seconds. Raises ServerEnding.

        slots: what the model makes side by side; None where it is not known, and nobody waits.
        """
        lane, since = self._lanes[ticket.model], time.perf_counter()
        if slots is not None and ticket.waits:  # who has a place waits for no more, or two could wait for ever
            lane.most = slots + max(AHEAD, slots // 2)
            answers = min(answers, lane.most)
            if lane.waiting or not lane.has_room(answers):
                await self._turn(lane, ticket.priority, answers)
                ticket.waits, ticket.answers = False, answers
                return time.perf_counter() - since
        lane.running += answers
        ticket.waits, ticket.answers = False, ticket.answers + answers
        return 0.0

    def keep(self, ticket: Ticket, answers: int) -> None:
        """So many of a request's answers are still made; the places of the others are free.

        A client may take its time to read what was made, or never read it: others do not wait for that.
        """
        over = max(0, ticket.answers - answers)
        ticket.answers -= over
        self._lanes[ticket.model].free(over)

    def counts(self) -> tuple[Counter[str], Counter[str]]:
        """By model: requests that run, and requests that wait."""
        running = Counter(ticket.model for ticket in self._tickets if not ticket.waits)
        waiting = Counter(ticket.model for ticket in self._tickets if ticket.waits)
        return running, waiting

    async def drain(self, within_s: float) -> bool:
        """Lets nobody in any more and waits until all are gone; whether they were, within so long."""
        self.ending = True
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._empty.wait()
        return self._empty.is_set()

    def end_waiting(self) -> None:
        """Those who wait for a place get ServerEnding."""
        for lane in self._lanes.values():
            for *_, turn in lane.waiting:
                if not turn.done():
                    turn.set_exception(_ended())
            lane.waiting.clear()

    async def _turn(self, lane: _Lane, priority: int, answers: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(lane.waiting, (-priority, next(self._numbers), answers, turn))
        try:
            await turn
        except asyncio.CancelledError:
            granted = turn.done() and not turn.cancelled() and turn.exception() is None
            lane.free(answers if granted else 0)
            raise


def _ended() -> ServerEnding:
    return ServerEnding("the server is being stopped")


class Admission:
    """Wraps an application: what asks for an answer when the line is full, or at its end, is refused unread."""

    def __init__(self, app: Application, *, line: Line, refuse: Refuse) -> None:
        self._app, self._line, self._refuse = app, line, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            try:
                self._line.check()
            except (EngineBusy, ServerEnding) as error:
                await self._refuse(scope, error)(scope, receive, send)
                return
        await self._app(scope, receive, send)
