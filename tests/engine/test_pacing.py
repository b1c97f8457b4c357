from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.engine import pacing as flow_module
from edgeship.engine.api import Token
from edgeship.engine.pacing import Flow
from edgeship.errors import EngineFailed


class Clock:
    """A time that only moves when it is told to; `Flow` asks `perf_counter`."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(flow_module, "time", clock)
    return clock


def token(number: int, *, last: bool = False) -> Token:
    return Token(number, "", "stop" if last else None)


@pytest.mark.usefixtures("clock")
def test_without_a_gap_nothing_is_held() -> None:
    flow = Flow()
    for number in range(3):
        flow.put(token(number))
        assert flow.ahead_s() == 0.0
    assert [flow.take() for _ in range(3)] == [token(0), token(1), token(2)]
    assert flow.empty()


def test_what_is_made_at_once_lasts_for_a_while(clock: Clock) -> None:
    flow = Flow()
    flow.gap_s, flow.most_s = 2.0, 5.0
    held = []
    for number in range(5):
        flow.put(token(number))
        held.append(flow.ahead_s())
    # The first one comes out at once, and none is held for longer than five seconds.
    assert held == [0.0, 2.0, 4.0, 5.0, 5.0]
    clock.now += 4.5
    assert flow.ahead_s() == 0.5
    clock.now += 10.0
    assert flow.ahead_s() == 0.0


@given(
    st.lists(st.tuples(st.floats(0, 3), st.floats(0, 3), st.floats(0, 9)), min_size=1, max_size=20),
)
def test_due_times_keep_order_and_bounds(steps: list[tuple[float, float, float]]) -> None:
    clock = Clock()
    flow, due, most = Flow(), 0.0, 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow_module, "time", clock)
        for wait, flow.gap_s, flow.most_s in steps:
            clock.now += wait
            most = max(most, flow.most_s)
            flow.put(token(0))
            assert 0.0 <= flow.ahead_s() <= flow.most_s + 1e-9
            assert clock.now + flow.ahead_s() >= min(due, clock.now + flow.most_s) - 1e-9
            due = clock.now + flow.ahead_s()


@pytest.mark.parametrize("end", [token(1, last=True), EngineFailed("it broke")])
def test_the_end_and_what_stands_before_it_are_not_held(end: Token | Exception) -> None:
    flow = Flow()
    flow.gap_s = flow.most_s = 3600.0
    taken: list[Token | Exception] = []
    reader = threading.Thread(target=lambda: taken.extend(flow.take() for _ in range(3)))
    reader.start()
    flow.put(token(0))
    flow.put(token(1))
    time.sleep(0.01)
    flow.put(end)
    reader.join(30)
    assert not reader.is_alive()
    assert taken == [token(0), token(1), end]
