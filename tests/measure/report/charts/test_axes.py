from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.measure.report.charts import axes

ANY = st.floats(allow_nan=True, allow_infinity=True)


def written(axis: axes.Axis) -> list[str]:
    return [tick.text for tick in axis.ticks]


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([7.1, 3.6], ["0", "2", "4", "6", "8"]),
        ([1823.0], ["0", "500", "1,000", "1,500", "2,000"]),
        ([0.0021], ["0.0000", "0.0005", "0.0010", "0.0015", "0.0020", "0.0025"]),
        ([-3.0, 4.0], ["-4", "-2", "0", "2", "4"]),
        ([100.0], ["0", "20", "40", "60", "80", "100"]),
        ([], ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([0.0, 0.0], ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([math.nan, math.inf, None], ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
    ],
)
def test_ticks_are_round_and_hold_the_values(values: list[float | None], texts: list[str]) -> None:
    assert written(axes.linear(values)) == texts


def test_an_axis_may_begin_elsewhere_than_at_zero() -> None:
    axis = axes.linear([0.885, 0.945], axes.percent, zero=False)
    assert written(axis) == ["88 %", "90 %", "92 %", "94 %", "96 %"]
    assert written(axes.linear([5.0, 5.0], zero=False)) == ["0", "1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("values", "floor", "texts"),
    [
        ([0.0008, 6e-6, 0.0], 1e-6, ["≤ 1e-6", "1e-5", "0.0001", "0.001"]),
        ([3.0, 40.0], None, ["1", "10", "100"]),
        ([2.0, 2.0], None, ["1", "10"]),
        ([1e-8, 100.0], None, ["1e-8", "1e-6", "0.0001", "0.01", "1", "100"]),
        ([], None, ["1", "10"]),
        ([0.0, -1.0], 1e-6, ["≤ 1e-6", "1e-5"]),
    ],
)
def test_powers_of_ten(values: list[float], floor: float | None, texts: list[str]) -> None:
    assert written(axes.logarithmic(values, floor=floor)) == texts


@pytest.mark.parametrize(
    ("values", "texts", "log"),
    [
        ([8, 1, 2, 4, 2], ["1", "2", "4", "8"], True),
        ([10, 20, 30], ["10", "20", "30"], False),
        ([0.5, 1.5], ["0.5", "1.5"], False),
        ([0, 8], ["0", "8"], False),
        ([4], ["4"], False),
        ([], [], False),
        # Those whose texts would run into each other are not written.
        ([1, 1000, 1001, 1002], ["1", "1,000"], True),
    ],
)
def test_an_axis_of_what_was_tried(values: list[float], texts: list[str], log: bool) -> None:
    axis = axes.at(values)
    assert (written(axis), axis.log) == (texts, log)


@given(st.lists(ANY), st.sampled_from(["linear", "logarithmic", "at"]), ANY.filter(lambda value: not math.isnan(value)))
def test_every_value_has_a_place_on_every_axis(values: list[float], kind: str, value: float) -> None:
    axis: axes.Axis = getattr(axes, kind)(values)
    assert axis.low < axis.high
    for one in (value, *axes.finite(values)):
        assert 0 <= axis.place(one) <= 1
    assert axis.place(axis.low) == 0
    assert axis.place(axis.high) == 1
    places = [axis.place(tick.value) for tick in axis.ticks]
    assert places == sorted(places)
    assert len(axis.ticks) <= 2 * axes.MOST_TICKS


@given(st.lists(st.floats(-1e12, 1e12), min_size=1))
def test_the_values_lie_within_the_ends_of_a_linear_axis(values: list[float]) -> None:
    axis = axes.linear(values, zero=False)
    wide = axis.high - axis.low
    assert axis.low - 1e-6 * wide <= min(values)
    assert max(values) <= axis.high + 1e-6 * wide


def test_halves_lie_in_the_middle() -> None:
    assert axes.linear([10.0]).place(5.0) == 0.5
    assert axes.logarithmic([1.0, 100.0]).place(10.0) == pytest.approx(0.5)
    assert axes.linear([10.0]).place(-3.0) == 0
    assert axes.linear([10.0]).place(math.inf) == 1


def test_no_axis_has_a_place_for_what_is_no_number() -> None:
    with pytest.raises(ValueError, match="no number"):
        axes.linear([1.0]).place(math.nan)
