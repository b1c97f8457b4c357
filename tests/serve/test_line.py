"""Who waits, who goes first, and what the end of a server does to them."""

from __future__ import annotations

import asyncio
import random

import pytest

from edgeship.errors import EngineBusy, ServerEnding
from edgeship.serve.line import AHEAD, Line

SLOTS = 4
MOST = SLOTS + AHEAD


class Visit:
    """One request: a task of its own waits for its places, one after another, and it leaves when it is told to."""

    def __init__(self, line: Line, *, priority: int = 0, answers: int = 1, slots: int | None = SLOTS) -> None:
        self._line, self.ticket = line, line.enter(priority)
        line.join(self.ticket, "model")
        line.know("model", slots)
        self.task = asyncio.create_task(self._take(answers))

    async def _take(self, answers: int) -> None:
        for _ in range(answers):
            await self._line.place(self.ticket)

    @property
    def runs(self) -> bool:
        return self.places > 0

    @property
    def places(self) -> int:
        return self.ticket.answers

    def end_answer(self) -> None:
        self._line.end_answer(self.ticket)

    def leave(self) -> None:
        self.task.cancel()
        self._line.leave(self.ticket)


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
        reader = Visit(line, answers=MOST)
        await settled()
        waiting = [Visit(line), Visit(line)]
        await settled()
        assert [visit.runs for visit in waiting] == [False, False]
        reader.end_answer()
        await settled()
        assert [visit.runs for visit in waiting] == [True, False]
        for _ in range(MOST + 3):  # an end that is told twice leaves no place of another
            reader.end_answer()
        await settled()
        assert waiting[1].runs
        assert line.counts() == ({"model": 3}, {})
        rest = [Visit(line) for _ in range(MOST)]
        await settled()
        assert sum(visit.runs for visit in rest) == MOST - 2

    asyncio.run(scenario())


def test_who_wants_many_answers_has_all_places_where_nobody_else_wants_one() -> None:
    async def scenario() -> None:
        line = Line(100)
        greedy = Visit(line, answers=2 * MOST)
        await settled()
        for left in range(2 * MOST, 0, -1):
            assert greedy.places == min(MOST, left)
            assert line.counts() == ({"model": 1}, {})
            greedy.end_answer()
            await settled()
        assert greedy.task.done()

    asyncio.run(scenario())


def test_who_comes_after_a_request_for_many_answers_waits_for_one_of_them() -> None:
    async def scenario() -> None:
        line = Line(100)
        greedy = Visit(line, answers=1000)
        await settled()
        small = [Visit(line) for _ in range(3)]
        await settled()
        for number in range(3):
            greedy.end_answer()
            await settled()
            assert [visit.runs for visit in small] == [True] * (number + 1) + [False] * (2 - number)
        small[0].leave()
        await settled()
        assert greedy.places == MOST - 2

    asyncio.run(scenario())


def test_requests_for_many_answers_share_the_places() -> None:
    async def scenario() -> None:
        line = Line(100)
        greedy = [Visit(line, answers=1000) for _ in range(3)]
        await settled()
        assert [visit.places for visit in greedy] == [MOST, 0, 0]
        for _ in range(MOST):
            max(greedy, key=lambda visit: visit.places).end_answer()
            await settled()
        assert [visit.places for visit in greedy] == [MOST // 3] * 3

    asyncio.run(scenario())


def test_who_wants_many_answers_is_not_passed_by_for_ever() -> None:
    async def scenario() -> None:
        line = Line(100)
        running = [Visit(line) for _ in range(MOST)]
        greedy = Visit(line, answers=1000)
        begun = 0
        for _ in range(50):
            running += [Visit(line)]  # there is always somebody else who waits
            await settled()
            if greedy.places:
                greedy.end_answer()
                begun += 1
            else:
                running.pop(0).leave()
            await settled()
        assert begun > 10

    asyncio.run(scenario())


def test_priority_goes_before_turns() -> None:
    async def scenario() -> None:
        line = Line(100)
        greedy = Visit(line, priority=1, answers=2 * MOST)
        await settled()
        small = Visit(line)
        for _ in range(MOST):
            greedy.end_answer()
            await settled()
        assert not small.runs
        greedy.end_answer()
        await settled()
        assert small.runs

    asyncio.run(scenario())


def test_who_gives_up_waiting_holds_up_nobody() -> None:
    async def scenario() -> None:
        line = Line(100)
        running = [Visit(line) for _ in range(MOST)]
        gone, small = Visit(line), Visit(line)
        await settled()
        gone.leave()
        running[0].leave()
        await settled()
        assert (gone.runs, small.runs) == (False, True)

    asyncio.run(scenario())


def test_a_place_that_is_given_to_who_is_just_leaving_is_free_again() -> None:
    async def scenario() -> None:
        line = Line(100)
        running = [Visit(line) for _ in range(MOST)]
        gone, small = Visit(line), Visit(line)
        await settled()
        running[0].leave()
        assert gone.runs
        gone.task.cancel()  # before it hears of its place
        await settled()
        assert (gone.runs, small.runs) == (False, True)

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


def test_all_that_come_at_once_are_let_in_where_they_find_places() -> None:
    async def scenario() -> None:
        line = Line(2)
        line.know("model", SLOTS)
        for _ in range(MOST + 2):  # none of them has its place yet
            line.enter()
        with pytest.raises(EngineBusy, match=f"{MOST + 2} requests wait already"):
            line.enter()
        line.enter(waits=False)

    asyncio.run(scenario())


def test_the_end_waits_for_nobody_who_has_said_nothing_yet() -> None:
    async def scenario() -> None:
        line = Line(2)
        ticket = line.enter()
        assert await line.drain(60)
        with pytest.raises(ServerEnding):
            line.join(ticket, "model")
        assert await line.drain(60)

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
            if visits and chance.random() < 0.4:
                visit = visits.pop(chance.randrange(len(visits)))
                visit.leave()
                await asyncio.wait([visit.task])
            elif visits and chance.random() < 0.3:
                chance.choice(visits).end_answer()
            else:
                visits.append(Visit(line, priority=chance.randrange(3), answers=chance.randrange(1, 9)))
            if chance.random() < 0.7:
                await settled()
            assert sum(visit.places for visit in visits) <= MOST
        await settled()
        while visits := [visit for visit in visits if visit.runs or not visit.task.done()]:
            runs = [visit for visit in visits if visit.runs]
            assert runs, "somebody waits for ever"
            if not all(visit.task.done() for visit in visits):
                assert sum(visit.places for visit in visits) == MOST, "a place is free, and somebody waits"
            chance.choice(runs).end_answer()
            await settled()
        assert line.counts()[1] == {}

    asyncio.run(scenario())
