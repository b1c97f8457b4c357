from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.measure.report.charts.lines import MOST_POINTS, Point, Series, lines, thinned
from edgeship.measure.report.charts.shapes import WIDTH, Chart, Dot, Path, Words


def drawn(*series: Series, sweep: bool = True) -> Chart:
    chart = lines("TTFT", "lower is better", series, x_name="clients", y_name="ms", sweep=sweep)
    assert chart is not None
    return chart


def line(*ys: float, name: str = "a") -> Series:
    return Series(name, tuple(Point(2.0**place, y) for place, y in enumerate(ys)))


def test_each_value_that_was_tried_is_marked_in_its_place() -> None:
    chart = drawn(line(10.0, 20.0, 40.0))
    dots = [shape for shape in chart.shapes if isinstance(shape, Dot)]
    (path,) = [shape for shape in chart.shapes if isinstance(shape, Path)]
    assert path.points == tuple((dot.x, dot.y) for dot in dots)
    # The axis goes by ratios: 1, 2 and 4 lie equally far apart; and 20 lies half as high as 40.
    assert dots[1].x - dots[0].x == pytest.approx(dots[2].x - dots[1].x, abs=0.2)
    bottom = next(shape.y1 for shape in chart.shapes if getattr(shape, "kind", "") == "zero")  # type: ignore[union-attr]
    assert bottom - dots[2].y == pytest.approx(2 * (bottom - dots[1].y), abs=0.2)
    assert {shape.text for shape in chart.shapes if isinstance(shape, Words)} >= {"1", "2", "4", "clients", "ms"}
    assert chart.said == "a: 10 at 1, 20 at 2, 40 at 4 (clients)"
    assert chart.legend == ()


def test_several_lines_look_different_and_have_a_legend() -> None:
    chart = drawn(line(1.0, 2.0), line(2.0, 3.0, name="b"))
    assert chart.legend == (("s0", "a"), ("s1", "b"))
    assert [shape.kind for shape in chart.shapes if isinstance(shape, Path)] == ["line s0", "line s1"]


def test_intervals_are_a_band_around_the_line() -> None:
    points = tuple(Point(x, 10.0, 8.0, 13.0) for x in (1.0, 2.0))
    band, path = (shape for shape in drawn(Series("a", points)).shapes if isinstance(shape, Path))
    assert band.kind == "band s0"
    assert len(band.points) == 4
    assert band.points[0][1] < path.points[0][1] < band.points[3][1]


def test_time_goes_on_steadily_and_is_not_marked() -> None:
    chart = drawn(Series("a", tuple(Point(x, 5.0) for x in (0.0, 1.0, 10.0))), sweep=False)
    (path,) = [shape for shape in chart.shapes if isinstance(shape, Path)]
    (start, near, end) = (x for x, _ in path.points)
    assert near - start == pytest.approx((end - start) / 10, abs=0.2)
    assert not [shape for shape in chart.shapes if isinstance(shape, Dot)]


def test_what_is_no_number_is_left_out_and_nothing_is_no_picture() -> None:
    chart = drawn(Series("a", (Point(1.0, 1.0), Point(2.0, math.nan), Point(math.inf, 1.0))), Series("none", ()))
    assert len([shape for shape in chart.shapes if isinstance(shape, Dot)]) == 1
    assert lines("TTFT", "", [Series("a", (Point(1.0, math.nan),))], x_name="", y_name="") is None
    assert lines("TTFT", "", [], x_name="", y_name="") is None


@given(st.lists(st.integers(0, 1000), max_size=1500))
def test_thinning_keeps_order_and_peaks(values: list[int]) -> None:
    points = [Point(float(place), float(value)) for place, value in enumerate(values)]
    kept = thinned(points)
    assert len(kept) <= MOST_POINTS
    assert list(kept) == sorted(kept, key=lambda point: point.x)
    assert set(kept) <= set(points)
    if points:
        assert max(point.y for point in kept) == max(values)
        assert min(point.y for point in kept) == min(values)


def test_a_long_line_is_said_by_its_ends_and_its_peak() -> None:
    points = tuple(Point(float(x), 9.0 if x == 7 else 1.0) for x in range(100))
    assert drawn(Series("a", points), sweep=False).said == "a: 1 at 0, 9 at 7, 1 at 99 (clients)"
    assert all(
        x <= WIDTH for shape in drawn(Series("a", points)).shapes if isinstance(shape, Path) for x, _ in shape.points
    )
