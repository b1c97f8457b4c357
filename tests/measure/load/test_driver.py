"""When requests are sent, what of them is noted, and what ends a level."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from edgeship.errors import EngineBusy
from edgeship.measure.load import driver
from edgeship.measure.load.driver import HOPELESS, Bounds, Driven, Interrupted, Load, drive
from edgeship.measure.load.records import TIMEOUT, Arrival, Failure, Reply
from edgeship.measure.load.workload import Question, Script

FOR_EVER = 60.0


class Target:
    """Answers after so long, from threads of its own: each request in turn, and the rest as the last one.

    FOR_EVER never answers. hangs: whether a request times out without a word, by its number. at_once: how many it
    answered at the same time at most.
    """

    def __init__(
        self,
        *reply_after_s: float,
        failure: Failure | None = None,
        refuses: bool = False,
        hangs: Callable[[int], bool] = lambda _: False,
        answers: bool = True,
    ) -> None:
        self.after_s, self.failure, self.refuses = reply_after_s or (0.0,), failure, refuses
        self.hangs, self.answers = hangs, answers
        self.asked: list[Question] = []
        self.closed = self.at_once = self._running = 0
        self._lock = threading.Lock()

    def ask(self, question: Question, timeout_s: float, done: Callable[[Callable[[], Reply]], object]) -> Target:
        del timeout_s
        if self.refuses:
            raise EngineBusy("the line is full")
        with self._lock:
            number = len(self.asked)
            self.asked.append(question)
            self._running += 1
            self.at_once = max(self.at_once, self._running)
        after_s = self.after_s[min(number, len(self.after_s) - 1)]
        if after_s < FOR_EVER:
            threading.Thread(target=self._answer, args=(number, after_s, done), daemon=True).start()
        return self

    def _answer(self, number: int, after_s: float, done: Callable[[Callable[[], Reply]], object]) -> None:
        time.sleep(after_s)
        with self._lock:
            self._running -= 1
        end_s = time.perf_counter()
        reply = Reply(
            (Arrival(end_s, ("text",), 1),), end_s, output_tokens=1, failure=self.failure, text=f"answer {number}"
        )
        if self.hangs(number):
            reply = Reply((), end_s, failure=Failure(TIMEOUT, "nothing of the answer came"))
        done(lambda: reply)

    def close(self) -> None:
        self.closed += 1


def questions(count: int | None = None) -> Iterator[Script]:
    numbers = itertools.count() if count is None else range(count)
    return (Script(Question(messages=({"role": "user", "content": str(number)},))) for number in numbers)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_LEAST_GRACE_S", 0.1)
    monkeypatch.setattr(driver, "_TOLD_EVERY_S", 0.02)


def run(target: Target, load: Load, **bounds: Any) -> Driven:
    limits = Bounds(**({"requests": None, "duration_s": None, "timeout_s": 5.0} | bounds))
    return drive(target, questions(), load, limits)


def test_a_closed_loop_has_so_many_at_the_same_time_and_never_more() -> None:
    target = Target(0.01)
    found = run(target, Load(3), requests=9)
    assert (len(found.records), target.at_once, found.stopped) == (9, 3, None)
    assert [record.number for record in found.records] == list(range(9))
    assert all(record.scheduled_s is None and record.start_s == record.sent_s for record in found.records)


@pytest.mark.slow
def test_a_rate_does_not_wait_for_answers_and_counts_from_when_a_request_was_due() -> None:
    target = Target(0.05)
    found = run(target, Load(rate_per_s=200, arrivals="fixed"), requests=6)
    assert [record.scheduled_s for record in found.records] == pytest.approx([number / 200 for number in range(6)])
    assert target.at_once == 6
    assert all(record.sent_s >= record.start_s for record in found.records)


def test_times_of_a_poisson_process_are_the_seeds_and_come_at_its_rate() -> None:
    load = Load(rate_per_s=50)
    first, again, other = (list(itertools.islice(load.due_s(seed), 2000)) for seed in (1, 1, 2))
    assert first == again != other
    gaps = [after - before for before, after in itertools.pairwise(first)]
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(1 / 50, rel=0.1)
    assert spread == pytest.approx(mean, rel=0.1)  # as of an exponential distribution


@pytest.mark.slow
def test_what_ran_when_the_time_was_over_may_take_as_long_as_others_took_and_is_then_cut() -> None:
    target = Target(0.0, 0.0, FOR_EVER)
    found = run(target, Load(1), duration_s=0.05)
    assert found.stopped == "duration"
    assert [record.is_complete for record in found.records] == [True, True, False]
    assert not found.records[-1].is_error
    assert target.closed == 1
    assert found.wall_s >= 0.05


def test_nothing_is_sent_once_the_time_is_over() -> None:
    target = Target(0.02)
    found = run(target, Load(2), duration_s=0.1)
    assert all(record.sent_s < 0.1 for record in found.records)
    assert all(record.is_complete for record in found.records)


def test_a_target_that_only_fails_is_not_asked_for_ever() -> None:
    target = Target(failure=Failure("remote-failed", "the server failed (500)"))
    found = run(target, Load(1), duration_s=FOR_EVER)
    assert (len(found.records), found.stopped) == (HOPELESS, "failures")


def test_a_target_that_fails_as_often_as_it_is_asked_is_asked_as_often_as_it_should_be() -> None:
    target = Target(failure=Failure("remote-failed", "the server failed (500)"))
    found = run(target, Load(1), requests=4)
    assert (len(found.records), sum(record.is_error for record in found.records)) == (4, 4)


def test_a_target_that_falls_silent_is_given_up() -> None:
    found = run(Target(hangs=lambda number: number >= 3), Load(1), requests=50)
    assert (len(found.records), found.stopped) == (5, "silent")
    assert [record.is_error for record in found.records] == [False, False, False, True, True]


def test_all_clients_wait_in_vain_before_a_target_is_given_up() -> None:
    target = Target(0.0, 0.0, 0.0, 0.0, 0.3, hangs=lambda number: number >= 4)
    found = run(target, Load(4), requests=50)
    assert (sum(record.is_complete for record in found.records), found.stopped) == (4, "silent")
    # Those that were sent while others were answered do not count yet, nor does one that timed out before them.
    assert 4 <= sum(record.is_error for record in found.records) <= 8
    cut = [record for record in found.records if not record.is_complete and not record.is_error]
    assert {record.reply.failure and record.reply.failure.what for record in cut} <= {
        "the target was given up before it was answered"
    }


def test_a_target_that_never_answered_is_given_up_at_once() -> None:
    found = run(Target(hangs=lambda _: True, answers=False), Load(1), requests=50)
    assert (len(found.records), found.stopped) == (1, "silent")


def test_lost_requests_are_errors_and_the_others_go_on() -> None:
    found = run(Target(hangs=lambda number: number % 2 == 1), Load(1), requests=8)
    assert ([record.is_error for record in found.records], found.stopped) == ([False, True] * 4, None)


def test_a_target_that_answers_others_meanwhile_is_not_silent() -> None:
    target = Target(0.1, 0.1, 0.1, 0.0, hangs=lambda number: number < 3)
    found = run(target, Load(rate_per_s=500, arrivals="fixed"), requests=10)
    assert (sum(record.is_error for record in found.records), len(found.records), found.stopped) == (3, 10, None)


def test_ctrl_c_brings_what_came_until_then() -> None:
    def interrupt(text: str, part: float | None = None) -> None:
        del part
        if text.startswith("concurrency 1: 3 of"):
            raise KeyboardInterrupt

    target = Target(0.03, 0.03, 0.03, FOR_EVER)
    with pytest.raises(KeyboardInterrupt) as raised:
        drive(target, questions(), Load(1), Bounds(9, None, 5.0), progress=interrupt)
    assert isinstance(raised.value, Interrupted)
    found = raised.value.driven
    assert (raised.value.load, found.stopped, len(found.records)) == (Load(1), "interrupted", 3)
    assert all(record.is_complete for record in found.records)


def test_what_ran_at_ctrl_c_is_closed_and_no_answer() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    target = Target(0.03, FOR_EVER)
    with pytest.raises(Interrupted) as raised:
        drive(target, questions(), Load(2), Bounds(9, None, 5.0), progress=interrupt)
    first, second = raised.value.driven.records
    assert (first.is_complete, second.is_complete, second.is_error, target.closed) == (True, False, False, 1)
    assert second.reply.failure
    assert second.reply.failure.what == "the run was interrupted before it was answered"


def test_what_cannot_be_sent_is_an_error() -> None:
    found = run(Target(refuses=True), Load(2), requests=3)
    assert [record.reply.failure for record in found.records] == [Failure("engine-busy", "the line is full")] * 3


def test_a_conversation_is_asked_turn_by_turn_with_the_answers_so_far() -> None:
    def user(text: str) -> dict[str, str]:
        return {"role": "user", "content": text}

    target = Target()
    script = Script(Question(messages=(user("a"),)), ((user("b"),), (user("c"),)))
    bounds = Bounds(None, None, 5.0)
    found = drive(target, iter([script]), Load(1), bounds)
    assert [(record.conversation, record.turn) for record in found.records] == [(0, 0), (0, 1), (0, 2)]
    told = [[message["content"] for message in question.messages] for question in target.asked]
    assert told == [["a"], ["a", "answer 0", "b"], ["a", "answer 0", "b", "answer 1", "c"]]


def test_a_conversation_whose_turn_fails_is_not_gone_on_with() -> None:
    script = Script(Question(messages=({"role": "user", "content": "a"},)), (({"role": "user", "content": "b"},),))
    found = drive(Target(failure=Failure("x", "y")), iter([script]), Load(1), Bounds(None, None, 5.0))
    assert len(found.records) == 1
    assert found.stopped == "prompts"


def test_progress_is_told() -> None:
    told: list[tuple[str, float | None]] = []

    def tell(text: str, part: float | None = None) -> None:
        told.append((text, part))

    drive(Target(0.05), questions(), Load(1), Bounds(4, None, 5.0), progress=tell)
    text, part = told[0]
    assert text.startswith("concurrency 1: 1 of 4 requests, ")
    assert part == 0.25
