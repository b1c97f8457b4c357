from __future__ import annotations

import math

import pytest

from edgeship.measure.report.charts.bars import Bar, bars
from edgeship.measure.report.charts.shapes import WIDTH, Box, Chart, Stroke, Words


def drawn(*values: Bar) -> Chart:
    chart = bars("Size", "shorter is better", values)
    assert chart is not None
    return chart


def boxes(chart: Chart) -> list[Box]:
    return [shape for shape in chart.shapes if isinstance(shape, Box)]


def test_bars_have_one_zero_and_one_scale() -> None:
    chart = drawn(*(Bar(f"p{part}", 8 / part, f"{part} MB") for part in (1, 2, 4, 8)))
    found = boxes(chart)
    assert {box.x for box in found} == {found[0].x}
    assert [box.width for box in found] == pytest.approx([found[0].width / part for part in (1, 2, 4, 8)], abs=0.2)
    assert chart.said == "p1 1 MB; p2 2 MB; p4 4 MB; p8 8 MB"


def test_intervals_are_drawn_in_the_same_scale_and_nothing_leaves_the_picture() -> None:
    chart = drawn(Bar("a", 50.0, "50.0 tok/s", 40.0, 100.0, chosen=True), Bar("b", 25.0, "25.0 tok/s"))
    first, second = boxes(chart)
    (whole, *ends) = [shape for shape in chart.shapes if isinstance(shape, Stroke) and shape.kind == "interval"]
    assert len(ends) == 2
    assert whole.x1 - first.x == pytest.approx(first.width * 0.8, abs=0.2)
    assert whole.x2 - first.x == pytest.approx(first.width * 2, abs=0.2)
    assert (first.kind, second.kind) == ("bar chosen", "bar")
    words = [shape for shape in chart.shapes if isinstance(shape, Words)]
    # The text stands behind the interval's end.
    assert [shape.x for shape in words if shape.text == "50.0 tok/s"] == [whole.x2 + 8]
    assert all(shape.x + 7 * len(shape.text) <= WIDTH for shape in words)


def test_an_interval_that_reaches_below_zero_begins_there() -> None:
    (interval, *_) = [
        shape for shape in drawn(Bar("a", 1.0, "1", -1.0, 2.0)).shapes if getattr(shape, "kind", "") == "interval"
    ]
    assert isinstance(interval, Stroke)
    assert interval.x1 == boxes(drawn(Bar("a", 1.0, "1")))[0].x


def test_zeros_are_drawn_and_what_is_no_number_is_not() -> None:
    chart = drawn(Bar("a", 0.0, "0"), Bar("b", math.nan, "?"), Bar("c", math.inf, "?"))
    assert [box.width for box in boxes(chart)] == [0.0]
    assert bars("Size", "", [Bar("b", math.nan, "?")]) is None
    assert bars("Size", "", []) is None


def test_a_long_label_moves_the_bars_and_an_endless_one_is_cut() -> None:
    short, long, endless = (boxes(drawn(Bar("x" * count, 1.0, "1")))[0] for count in (4, 16, 1000))
    assert short.x < long.x < endless.x < WIDTH / 2 + 20
