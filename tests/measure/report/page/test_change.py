from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.measure.report.page.change import Figure, beside, change, in_words
from edgeship.measure.statistics.intervals import wilson

RATES = st.tuples(st.integers(0, 50), st.integers(1, 50)).map(lambda pair: (min(pair), max(pair)))


def share(passed: int, cases: int) -> Figure:
    interval = wilson(passed, cases)
    return Figure("pass rate", passed / cases, "{:.2f}".format, True, interval.low, interval.high, share=True)


def latency(value: float | None, low: float | None = None, high: float | None = None) -> Figure:
    return Figure("latency", value, "{:g} ms".format, False, low, high)


def test_the_interval_of_two_rates_is_newcombes() -> None:
    """Newcombe 1998, table II, method 10: 56/70 against 48/80."""
    found = change(share(48, 80), share(56, 70))
    assert found is not None
    assert found.change == pytest.approx(0.2)
    assert found.low == pytest.approx(0.0524, abs=1e-4)
    assert found.high == pytest.approx(0.3339, abs=1e-4)


@given(RATES, RATES)
def test_a_change_of_shares_lies_in_its_interval_and_turns_with_the_order(
    one: tuple[int, int], other: tuple[int, int]
) -> None:
    there, back = change(share(*one), share(*other)), change(share(*other), share(*one))
    assert there is not None
    assert back is not None
    assert there.low is not None
    assert there.high is not None
    assert there.low <= there.change + 1e-12
    assert there.change <= there.high + 1e-12
    assert back.low is not None
    assert back.low == pytest.approx(-there.high)


def test_all_else_changes_by_a_part_of_itself() -> None:
    found = change(latency(100.0, 90.0, 110.0), latency(150.0, 140.0, 160.0))
    assert found is not None
    assert found.change == pytest.approx(0.5)
    low = math.log(1.5) - math.hypot(math.log(150 / 140), math.log(110 / 100))
    assert found.low == pytest.approx(math.expm1(low))


@pytest.mark.parametrize(("before", "after"), [(None, 1.0), (1.0, None), (0.0, 1.0), (1.0, 0.0), (-1.0, 1.0)])
def test_what_nothing_can_be_a_part_of_has_no_change(before: float | None, after: float | None) -> None:
    assert change(latency(before), latency(after)) is None


def test_a_change_beyond_all_numbers_is_none() -> None:
    assert change(latency(5e-324), latency(1.0)) is None


@pytest.mark.parametrize("bounds", [(None, None), (0.0, 3.0), (0.5, 0.0), (-2.0, -1.0)])
def test_without_both_intervals_the_change_has_none(bounds: tuple[float | None, float | None]) -> None:
    found = change(latency(1.0, *bounds), latency(2.0, 1.5, 2.5))
    assert found is not None
    assert found.change == pytest.approx(1.0)
    assert found.low is None


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ((50.0, 45.0, 55.0), "-50.0 % [-56.6, -42.4], better"),
        ((200.0, 180.0, 220.0), "+100.0 % [+73.5, +130.5], worse"),
        ((101.0, 90.0, 112.0), "+1.0 % [-13.0, +17.1], within chance"),
    ],
)
def test_a_change_is_for_the_better_where_more_than_chance_says_so(
    after: tuple[float, float, float], said: str
) -> None:
    before, found = latency(100.0, 90.0, 110.0), latency(*after)
    assert in_words(before, found, change(before, found)) == said


def test_figures_stand_beside_each_other_and_what_nobody_knows_is_left_out() -> None:
    first = [latency(2.0, 1.0, 3.0), Figure("nothing", None, str), Figure("old", 1.0, str)]
    table = beside(["a", "b"], [first, [latency(1.0), Figure("nothing", None, str), Figure("new", 2.0, str)]])
    assert table is not None
    assert table.header == ("figure", "a", "b", "change")
    assert table.rows == (
        ("latency", "2 ms [1, 3]", "1 ms", "-50.0 %"),
        ("old", "1.0", "–", "–"),
        ("new", "–", "2.0", "–"),
    )
    assert beside(["a", "b"], [[Figure("nothing", None, str)], []]) is None
