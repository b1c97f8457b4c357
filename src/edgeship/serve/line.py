"""The line in front of the models: who waits, who runs, and who is told at once to come back later.

An engine answers in the order in which it was asked. So it is given hardly more than it can make side by side, and the
others wait here. A request that wants many answers has its places one by one: whoever has priority goes first, and then
whoever has the fewest places, so that many answers to one client keep no other waiting. To be used by one event loop.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field

from edgeship.errors import EngineBusy, ServerEnding
from edgeship.serve import exchange as exchanges
from edgeship.serve.bodies import Application, Receive, Refuse, Scope, Send

AHEAD = 2
"""So many answers more than a model has slots are begun, or half as many as it has: a slot never waits for us."""
_TICKET = "edgeship.ticket"


@dataclass(eq=False)
class Ticket:
    """A request in the line. number: those that came earlier have a lower one. waits: for its first place.

    model: None before it is known. answers: places that it has.
    """

    number: int
    priority: int
    waits: bool
    model: str | None = None
    answers: int = 0

    @property
    def rank(self) -> tuple[int, int, int]:
        """Who has a lower one goes first."""
        return -self.priority, self.answers, self.number


@dataclass
class _Lane:
    """One model's part of the line: how many answers may run, how many do, and who waits for a place.

    most: None where nobody waits.
    """

    most: int | None = None
    running: int = 0
    waiting: list[tuple[Ticket, asyncio.Future[None]]] = field(default_factory=list)

    @property
    def free(self) -> int:
        return 0 if self.most is None else max(0, self.most - self.running)

    def take(self, ticket: Ticket) -> None:
        ticket.waits = False
        ticket.answers += 1
        self.running += 1

    def end(self, ticket: Ticket, answers: int) -> None:
        ticket.answers -= answers
        self.running -= answers
        self.give()

    def give(self) -> None:
        """Places that are free go to those who are next."""
        self.waiting = [(ticket, turn) for ticket, turn in self.waiting if not turn.done()]
        while self.free and self.waiting:
            ticket, turn = first = min(self.waiting, key=lambda one: one[0].rank)
            self.waiting.remove(first)
            self.take(ticket)
            turn.set_result(None)


class Line:
    """most_waiting: requests that may wait for all models together."""

    def __init__(self, most_waiting: int) -> None:
        self._most_waiting = most_waiting
        self._tickets: set[Ticket] = set()
        self._lanes: defaultdict[str | None, _Lane] = defaultdict(_Lane)
        self._numbers = itertools.count()
        self._left = asyncio.Event()
        self.ending = False

    def enter(self, priority: int = 0, *, waits: bool = True) -> Ticket:
        """A new request is in the line until it leaves. waits: it asks for something.

        Then it raises ServerEnding where nobody is let in any more, and EngineBusy where as many wait as may. Those
        whose bodies are still read wait too: else all that come at the same time would be let in.
        """
        if waits:
            self._require_open()
            waiting = sum(ticket.waits for ticket in self._tickets)
            # Whoever finds a free place has it as soon as it is known what it is asked for.
            if waiting >= self._most_waiting + sum(lane.free for lane in self._lanes.values()):
                raise EngineBusy(f"{waiting} requests wait already, and no more may", hint="Try again later.")
        ticket = Ticket(next(self._numbers), priority, waits)
        self._tickets.add(ticket)
        return ticket

    def join(self, ticket: Ticket, model: str) -> None:
        """It is known now which model a request is for. Raises ServerEnding."""
        self._require_open()
        ticket.model = model

    def know(self, model: str, slots: int | None) -> None:
        """A model is open. slots: answers that it makes side by side; None where that is not known."""
        self._lanes[model].most = None if slots is None else slots + max(AHEAD, slots // 2)

    async def place(self, ticket: Ticket) -> float:
        """Waits until one more of the request's answers may begin; for how long, in seconds. Raises ServerEnding."""
        lane, since = self._lanes[ticket.model], time.perf_counter()
        if lane.most is None:
            lane.take(ticket)
            return 0.0
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lane.waiting.append((ticket, turn))
        lane.give()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.exception() is None:
                self.end_answer(ticket)  # it had its place already
            raise
        return time.perf_counter() - since

    def end_answer(self, ticket: Ticket) -> None:
        """One of a request's answers is made, and its place free.

        A client may take its time to read what was made, or never read it: others do not wait for that.
        """
        if ticket.answers:
            self._lanes[ticket.model].end(ticket, 1)

    def leave(self, ticket: Ticket) -> None:
        """The request is over, and so are its answers."""
        self._tickets.discard(ticket)
        if ticket.answers:
            self._lanes[ticket.model].end(ticket, ticket.answers)
        self._left.set()

    def counts(self) -> tuple[Counter[str], Counter[str]]:
        """By model: requests that run, and requests that wait."""
        running = Counter(ticket.model for ticket in self._tickets if ticket.model and not ticket.waits)
        waiting = Counter(ticket.model for ticket in self._tickets if ticket.model and ticket.waits)
        return running, waiting

    async def drain(self, within_s: float) -> bool:
        """Lets nobody in any more and waits until all are gone who joined; whether they were, within so long."""
        self.ending = True
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._joined():
                    self._left.clear()
                    await self._left.wait()
        return not self._joined()

    def end_waiting(self) -> None:
        """Those who wait for a place get ServerEnding."""
        for lane in self._lanes.values():
            for _, turn in lane.waiting:
                if not turn.done():
                    turn.set_exception(_ended())
            lane.waiting.clear()

    def _joined(self) -> bool:
        """Whether anybody wants something of a model."""
        return any(ticket.model for ticket in self._tickets)

    def _require_open(self) -> None:
        if self.ending:
            raise ServerEnding("the server is being stopped, and takes no more requests")


def _ended() -> ServerEnding:
    return ServerEnding("the server is being stopped")


class Admission:
    """Wraps an application: what asks for an answer when the line is full, or at its end, is refused unread."""

    def __init__(self, app: Application, *, line: Line, refuse: Refuse) -> None:
        self._app, self._line, self._refuse = app, line, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            ticket = self._line.enter(exchanges.of(scope).priority, waits=scope["method"] == "POST")
        except (EngineBusy, ServerEnding) as error:
            await self._refuse(scope, error)(scope, receive, send)
            return
        scope[_TICKET] = ticket
        try:
            await self._app(scope, receive, send)
        finally:
            self._line.leave(ticket)


def ticket_of(scope: Scope) -> Ticket:
    """That of a request."""
    ticket: Ticket = scope[_TICKET]
    return ticket
