from __future__ import annotations

import math

import pytest

from edgeship.measure.report.charts.histogram import Bin, histogram
from edgeship.measure.report.charts.shapes import Box, Chart, Words


def bins(*counts: int, first: float = 1e-4) -> list[Bin]:
    return [Bin(first * 10**place, first * 10 ** (place + 1), count) for place, count in enumerate(counts)]


def drawn(found: list[Bin], *others: list[Bin]) -> Chart:
    chart = histogram("int4", "", found, x_name="nats", of=others)
    assert chart is not None
    return chart


def boxes(chart: Chart) -> list[Box]:
    return [shape for shape in chart.shapes if isinstance(shape, Box)]


def texts(chart: Chart) -> set[str]:
    return {shape.text for shape in chart.shapes if isinstance(shape, Words)}


def test_each_bin_that_holds_something_is_a_box_of_its_share() -> None:
    chart = drawn(bins(1000, 0, 100, 10))
    high, middle, low = boxes(chart)
    # Ten times as many stand by one step higher, whatever the step.
    assert middle.y - high.y == pytest.approx(low.y - middle.y, abs=0.2)
    assert high.width == pytest.approx(middle.width, abs=0.2)
    assert middle.x == pytest.approx(high.x + 2 * high.width, abs=0.3)
    assert low.x == pytest.approx(middle.x + middle.width, abs=0.3)
    assert high.y + high.height == pytest.approx(low.y + low.height)
    assert low.said == "0.1 to 1: 10 of 1,110"
    assert chart.said == "1,110 values; 50% of the values are at most 0.001; 99% of the values are at most 0.1"


def test_even_one_of_many_is_seen() -> None:
    assert min(box.height for box in boxes(drawn(bins(9_999, 1)))) > 5


def test_charts_beside_each_other_have_the_same_axes() -> None:
    one, other = bins(10, 1), bins(1, 1, 1, 1, 5)
    assert texts(drawn(one, one, other)) == texts(drawn(other, one, other))
    assert texts(drawn(one)) != texts(drawn(other))


def test_what_lies_below_and_above_all_bins_is_drawn_at_the_ends() -> None:
    found = [Bin(0.0, 1e-4, 5), *bins(5), Bin(1e-3, math.inf, 5)]
    first, _, last = boxes(drawn(found))
    assert (first.width, last.width) == (4, 4)
    assert first.x < last.x


def test_nothing_is_no_picture() -> None:
    assert histogram("a", "", [], x_name="") is None
    assert histogram("a", "", bins(0, 0), x_name="") is None
    assert histogram("a", "", [Bin(math.nan, 1.0, 1)], x_name="") is None
