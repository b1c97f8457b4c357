"""Who waits, who goes first, and what the end of a server does to them."""

from __future__ import annotations

import asyncio
import random
from contextlib import ExitStack

import pytest

from edgeship.errors import EngineBusy, ServerEnding
from edgeship.serve.line import AHEAD, Line

SLOTS = 4
MOST = SLOTS + AHEAD


class Visit:
    """One request: it waits for places in a task of its own, and leaves when it is told to."""

    def __init__(self, line: Line, *, priority: int = 0, answers: int = 1, slots: int | None = SLOTS) -> None:
        self._line, self._stack = line, ExitStack()
        self._ticket = self._stack.enter_context(line.joined("model", priority))
        self.task = asyncio.create_task(line.place(self._ticket, answers, slots))

    @property
    def runs(self) -> bool:
        return self._ticket.answers > 0

    def leave(self) -> None:
        self._stack.close()


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_no_more_run_than_the_model_has_places_for_and_a_few() -> None:
    async def scenario() -> None:
        line = Line(100)
        visits = [Visit(line) for _ in range(MOST + 2)]
        await settled()
        assert [visit.runs for visit in visits] == [True] * MOST + [False] * 2
        assert line.counts() == ({"model": MOST}, {"model": 2})
        visits[0].leave()
        await settled()
        assert [visit.runs for visit in visits[1:]] == [True] * MOST + [False]

    asyncio.run(scenario())


def test_who_has_priority_goes_first_and_else_who_came_first() -> None:
    async def scenario() -> None:
        line = Line(100)
        running = [Visit(line) for _ in range(MOST)]
        waiting = [Visit(line, priority=priority) for priority in (0, 1, 0, 1)]
        order = []
        for visit in running[:4]:
            await settled()
            visit.leave()
            await settled()
            order.append(next(each for each in waiting if each.runs and each not in order))
        assert order == [waiting[1], waiting[3], waiting[0], waiting[2]]

    asyncio.run(scenario())


def test_a_model_that_has_no_slots_keeps_nobody_waiting() -> None:
    async def scenario() -> None:
        line = Line(100)
        visits = [Visit(line, slots=None) for _ in range(50)]
        await settled()
        assert all(visit.runs for visit in visits)

    asyncio.run(scenario())


def test_an_answer_that_is_made_leaves_its_place_before_it_is_read() -> None:
    async def scenario() -> None:
        line = Line(100)
        with line.joined("model", 0) as reader:
            await line.place(reader, 2 * MOST, SLOTS)
            waiting = [Visit(line), Visit(line)]
            line.keep(reader, MOST)
            await settled()
            assert [visit.runs for visit in waiting] == [False, False]
            line.keep(reader, MOST - 1)
            await settled()
            assert [visit.runs for visit in waiting] == [True, False]
            line.keep(reader, 0)
            line.keep(reader, 0)
            await settled()
            assert waiting[1].runs
            assert line.counts() == ({"model": 3}, {})
        line.keep(reader, 0)
        rest = [Visit(line) for _ in range(MOST - 1)]
        await settled()
        assert sum(visit.runs for visit in rest) == MOST - 2

    asyncio.run(scenario())


def test_who_wants_many_answers_waits_for_all_their_places_and_gets_them() -> None:
    async def scenario() -> None:
        line = Line(100)
        first, greedy, last = Visit(line), Visit(line, answers=16), Visit(line)
        await settled()
        assert (greedy.runs, last.runs) == (False, False)
        first.leave()
        await settled()
        assert (greedy.runs, last.runs) == (True, False)
        greedy.leave()
        await settled()
        assert last.runs

    asyncio.run(scenario())


def test_who_gives_up_waiting_holds_up_nobody() -> None:
    async def scenario() -> None:
        line = Line(100)
        running = [Visit(line) for _ in range(MOST)]
        greedy, small = Visit(line, answers=MOST), Visit(line)
        await settled()
        running[0].leave()
        await settled()
        assert not small.runs
        greedy.task.cancel()
        greedy.leave()
        await settled()
        assert small.runs

    asyncio.run(scenario())


def test_more_than_may_wait_are_refused_at_once() -> None:
    async def scenario() -> None:
        line = Line(2)
        visits = []
        for _ in range(MOST + 2):
            visits.append(Visit(line))
            await settled()
        with pytest.raises(EngineBusy, match="2 requests wait already"):
            Visit(line)

    asyncio.run(scenario())


def test_the_end_waits_for_those_who_run_and_lets_nobody_in() -> None:
    async def scenario() -> None:
        line = Line(100)
        visit = Visit(line)
        draining = asyncio.create_task(line.drain(60))
        await settled()
        with pytest.raises(ServerEnding):
            Visit(line)
        assert not draining.done()
        visit.leave()
        assert await draining

    asyncio.run(scenario())


def test_who_still_waits_in_the_end_is_told_so() -> None:
    async def scenario() -> None:
        line = Line(100)
        visits = [Visit(line) for _ in range(MOST + 1)]
        await settled()
        assert not await line.drain(0.01)
        line.end_waiting()
        with pytest.raises(ServerEnding):
            await visits[-1].task

    asyncio.run(scenario())


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_places_are_neither_lost_nor_given_twice(seed: int) -> None:
    async def scenario() -> None:
        line, chance = Line(10_000), random.Random(seed)
        visits: list[Visit] = []
        for _ in range(300):
            if visits and chance.random() < 0.5:
                visit = visits.pop(chance.randrange(len(visits)))
                visit.task.cancel()
                await asyncio.wait([visit.task])
                visit.leave()
            else:
                visits.append(Visit(line, priority=chance.randrange(3), answers=chance.randrange(1, 9)))
            if chance.random() < 0.7:
                await settled()
            taken = [visit._ticket.answers for visit in visits if visit.runs]
            assert sum(taken) <= MOST
        while visits:
            await settled()
            runs = [visit for visit in visits if visit.runs]
            assert runs, "somebody waits for ever"
            visits.remove(runs[0])
            runs[0].leave()
        assert await line.drain(0)

    asyncio.run(scenario())
