from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from edgeship.measure.load.conditions import Judged, read
from edgeship.measure.load.looks import Looks
from edgeship.measure.load.turns import LEAST_TURNS, Compared
from edgeship.measure.statistics.intervals import Interval

SLOWER = read("ttft_p50 > 1.1x")
Shows = Callable[[int], Interval | None]
HOLDS, FAILS, OPEN = Interval(1.2, 1.3), Interval(0.9, 1.0), Interval(1.0, 1.2)


def judged(where: Interval | None) -> Judged:
    value = None if where is None else (where.low + where.high) / 2
    return SLOWER.judge("concurrency 1", Compared(SLOWER.figure, 1.0, value, value, where, where), 5)


class Clock:
    """Each turn takes a second."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def looked(shows: Shows, turns: int = 8, most_turns: int = 48, spend_s: float = math.inf) -> tuple[list[int], str]:
    """How many turns there were at each look, and what the last one came to."""
    clock = Clock()
    looks, seen = Looks(turns, most_turns, spend_s, clock), list[int]()
    while True:
        for number in looks.next_turns():
            assert number == looks.made
            clock.now_s += 1
        seen.append(looks.made)
        if not looks.note([judged(shows(looks.made))]):
            return seen, looks.judged[0].verdict


@pytest.mark.parametrize(
    ("shows", "seen", "verdict"),
    [
        (lambda _: FAILS, [8], "fails"),
        (lambda _: HOLDS, [8, 16], "holds"),
        (lambda _: OPEN, [8, 16, 32, 48], "undecided"),
        (lambda made: FAILS if made > 20 else OPEN, [8, 16, 32], "fails"),
        (lambda made: OPEN if made == 16 else HOLDS, [8, 16, 32, 48], "holds"),
        (lambda _: None, [8], "undecided"),
    ],
)
def test_turns_are_doubled_until_it_is_settled(shows: Shows, seen: list[int], verdict: str) -> None:
    assert looked(shows) == (seen, verdict)


def test_what_holds_for_the_first_time_in_the_last_look_is_undecided() -> None:
    assert looked(lambda made: HOLDS if made > 40 else OPEN) == ([8, 16, 32, 48], "undecided")
    # Who looks only once looks at nothing again and again.
    assert looked(lambda _: HOLDS, turns=8, most_turns=8) == ([8], "holds")


def test_the_first_look_leaves_time_for_another() -> None:
    assert looked(lambda _: OPEN, spend_s=10) == ([6, 11], "undecided")
    assert looked(lambda _: HOLDS, spend_s=10) == ([6, 11], "holds")
    # Without enough turns for an interval nothing would be seen.
    assert looked(lambda made: HOLDS if made >= LEAST_TURNS else None, spend_s=6) == ([5, 7], "holds")


def test_time_ends_it_after_any_turn_but_the_first() -> None:
    assert looked(lambda _: None, spend_s=0) == ([1], "undecided")
    assert looked(lambda _: HOLDS, spend_s=2.5) == ([3], "undecided")
