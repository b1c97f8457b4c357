from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.measure.statistics import paired_change, wilson

outcomes = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("passed", "total", "low", "high"),
    [
        # Published: Newcombe 1998, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (8, 10, 0.4902, 0.9433),
    ],
)
def test_wilson_as_published(passed: int, total: int, low: float, high: float) -> None:
    interval = wilson(passed, total)
    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


def test_wilson_of_nothing_says_nothing() -> None:
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)


@given(st.integers(1, 500).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_wilson_holds_the_rate(case: tuple[int, int]) -> None:
    passed, total = case
    interval = wilson(passed, total)
    assert 0 <= interval.low <= passed / total <= interval.high <= 1
    mirrored = wilson(total - passed, total)
    assert mirrored.low == pytest.approx(1 - interval.high)


def test_paired_change_by_hand() -> None:
    # 12 only the reference passes, 2 only the candidate, 84 both, 2 neither: Agresti and Min add half to each.
    reference = [True] * 12 + [False] * 2 + [True] * 84 + [False] * 2
    candidate = [False] * 12 + [True] * 2 + [True] * 84 + [False] * 2
    change = paired_change(reference, candidate)
    assert (change.cases, change.lost, change.gained, change.change) == (100, 12, 2, -0.10)
    # centre -10/102, standard error sqrt(12.5 + 2.5 - 100/102)/102
    assert change.interval.low == pytest.approx(-0.09804 - 1.96 * 0.036711, abs=1e-4)
    assert change.interval.high == pytest.approx(-0.09804 + 1.96 * 0.036711, abs=1e-4)


def test_no_difference_is_not_certainty() -> None:
    few, many = paired_change([True] * 5, [True] * 5), paired_change([True] * 500, [True] * 500)
    assert few.change == many.change == 0
    assert few.interval.low < -0.2
    assert -0.01 < many.interval.low < 0 < many.interval.high < 0.01


@given(outcomes)
def test_swapping_the_two_turns_the_change_round(pairs: list[tuple[bool, bool]]) -> None:
    left, right = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    there, back = paired_change(left, right), paired_change(right, left)
    assert there.change == -back.change
    assert there.interval.low == pytest.approx(-back.interval.high)
    assert -1 <= there.interval.low <= there.change <= there.interval.high <= 1


@pytest.mark.parametrize(("reference", "candidate"), [([True], []), ([], [])])
def test_what_cannot_be_paired_is_refused(reference: list[bool], candidate: list[bool]) -> None:
    with pytest.raises(ValueError, match="cannot pair"):
        paired_change(reference, candidate)
