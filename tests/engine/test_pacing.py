from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.engine import pacing
from edgeship.engine.api import Token
from edgeship.engine.pacing import Callbacks, CalledSteps, ReadSteps
from edgeship.engine.steps import Relay
from edgeship.errors import EngineFailed
from tests.waiting import until


class Clock:
    """A time that only moves when it is told to; pacing asks `perf_counter`."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pacing, "time", clock)
    return clock


def token(number: int, *, last: bool = False) -> Token:
    return Token(number, "", "stop" if last else None)


@pytest.mark.usefixtures("clock")
def test_without_a_gap_nothing_is_held() -> None:
    steps = ReadSteps()
    for number in range(3):
        steps.put(token(number))
        assert steps.ahead_s() == 0.0
    assert [steps.take() for _ in range(3)] == [token(0), token(1), token(2)]
    assert steps.empty()


def test_what_is_made_at_once_lasts_for_a_while(clock: Clock) -> None:
    steps = ReadSteps()
    steps.gap_s, steps.most_s = 2.0, 5.0
    held = []
    for number in range(5):
        steps.put(token(number))
        held.append(steps.ahead_s())
    # The first one comes out at once, and none is held for longer than five seconds.
    assert held == [0.0, 2.0, 4.0, 5.0, 5.0]
    clock.now += 4.5
    assert steps.ahead_s() == 0.5
    clock.now += 10.0
    assert steps.ahead_s() == 0.0


@given(
    st.lists(st.tuples(st.floats(0, 3), st.floats(0, 3), st.floats(0, 9)), min_size=1, max_size=20),
)
def test_due_times_keep_order_and_bounds(made: list[tuple[float, float, float]]) -> None:
    clock = Clock()
    steps, due, most = ReadSteps(), 0.0, 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pacing, "time", clock)
        for wait, steps.gap_s, steps.most_s in made:
            clock.now += wait
            most = max(most, steps.most_s)
            steps.put(token(0))
            assert 0.0 <= steps.ahead_s() <= steps.most_s + 1e-9
            assert clock.now + steps.ahead_s() >= min(due, clock.now + steps.most_s) - 1e-9
            due = clock.now + steps.ahead_s()


@pytest.mark.parametrize("end", [token(1, last=True), EngineFailed("it broke")])
def test_the_end_and_what_stands_before_it_are_not_held(end: Token | Exception) -> None:
    steps = ReadSteps()
    steps.gap_s = steps.most_s = 3600.0
    taken: list[Token | Exception] = []
    reader = threading.Thread(target=lambda: taken.extend(steps.take() for _ in range(3)))
    reader.start()
    steps.put(token(0))
    steps.put(token(1))
    time.sleep(0.01)
    steps.put(end)
    reader.join(30)
    assert not reader.is_alive()
    assert taken == [token(0), token(1), end]


# --- callbacks -------------------------------------------------------------------------------------------------------


@pytest.fixture
def callbacks() -> Iterator[Callbacks]:
    made = Callbacks("test")
    yield made
    made.close()


def never() -> None:
    raise AssertionError("no callback failed")


def test_a_callback_is_given_steps_in_order_and_when_they_are_due(clock: Clock, callbacks: Callbacks) -> None:
    given: list[object] = []
    steps = CalledSteps(callbacks, given.append, never)
    steps.gap_s = steps.most_s = 3600.0
    for number in range(3):
        steps.put(token(number))
    until(lambda: given == [token(0)])
    assert steps.ahead_s() == 3600.0  # the third is due no later than after `most_s`
    clock.now += 3600.0
    # Something else is made, and what is due by now goes out with it.
    CalledSteps(callbacks, given.append, never).put(token(9, last=True))
    until(lambda: len(given) == 4)
    assert given == [token(0), token(1), token(2), token(9, last=True)]


def test_a_relay_is_called_by_whoever_makes_the_steps(callbacks: Callbacks) -> None:
    threads: list[threading.Thread] = []
    steps = CalledSteps(callbacks, Relay(lambda _: threads.append(threading.current_thread())), never)
    for number in range(2):
        steps.put(token(number))
    assert threads == [threading.current_thread()] * 2


def test_a_relay_is_given_nothing_before_what_is_held_back(clock: Clock, callbacks: Callbacks) -> None:
    given: list[object] = []
    steps = CalledSteps(callbacks, Relay(given.append), never)
    steps.gap_s = steps.most_s = 3600.0
    for number in range(3):
        steps.put(token(number))
    assert given == [token(0)]
    clock.now += 7200.0
    steps.put(token(3, last=True))
    until(lambda: len(given) == 4)
    assert given == [token(0), token(1), token(2), token(3, last=True)]


def test_a_relay_waits_for_the_step_that_is_on_its_way(callbacks: Callbacks) -> None:
    given: list[object] = []
    begun, going_on = threading.Event(), threading.Event()

    def slow(step: object) -> None:
        begun.set()
        going_on.wait()
        given.append(step)

    steps = CalledSteps(callbacks, Relay(slow), never)
    steps.gap_s = steps.most_s = 0.01
    going_on.set()
    steps.put(token(0))
    going_on.clear()
    begun.clear()
    steps.put(token(1))
    begun.wait()  # it was held back, and is given by the thread of the callbacks
    steps.put(token(2, last=True))
    assert given == [token(0)]
    going_on.set()
    until(lambda: given == [token(0), token(1), token(2, last=True)])


@pytest.mark.parametrize("end", [token(1, last=True), EngineFailed("it broke")])
def test_a_callback_is_not_kept_waiting_for_the_end(callbacks: Callbacks, end: Token | Exception) -> None:
    given: list[object] = []
    steps = CalledSteps(callbacks, given.append, never)
    steps.gap_s = steps.most_s = 3600.0
    for step in (token(0), token(1), end):
        steps.put(step)
    until(lambda: given == [token(0), token(1), end])


def test_a_callback_that_fails_is_not_called_again(callbacks: Callbacks, caplog: pytest.LogCaptureFixture) -> None:
    given: list[object] = []
    failures: list[str] = []

    def fail(step: object) -> None:
        given.append(step)
        raise ZeroDivisionError("a bug")

    steps = CalledSteps(callbacks, fail, lambda: failures.append("told"))
    for number in range(3):
        steps.put(token(number))
    other: list[object] = []
    CalledSteps(callbacks, other.append, never).put(token(9, last=True))
    until(lambda: bool(other))
    assert (given, failures) == ([token(0)], ["told"])
    assert "a bug" in caplog.text


def test_closing_waits_for_what_is_left(callbacks: Callbacks) -> None:
    given: list[object] = []
    CalledSteps(callbacks, given.append, never).put(token(0, last=True))
    callbacks.close()
    assert given == [token(0, last=True)]
    # A callback may close what calls it.
    own = Callbacks("own")
    CalledSteps(own, lambda _: own.close(), never).put(token(0, last=True))
    own.close()


def test_a_callback_that_does_not_come_back_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeship.engine.pacing.CALLBACK_S", 0.01)
    called, going_on = threading.Event(), threading.Event()

    def hang(_: object) -> None:
        called.set()
        going_on.wait()

    callbacks = Callbacks("test")
    CalledSteps(callbacks, hang, going_on.set).put(token(0, last=True))
    assert called.wait(60)
    callbacks.close()
    assert not going_on.is_set()
    going_on.set()
