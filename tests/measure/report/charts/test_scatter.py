from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.measure.report.charts import axes
from edgeship.measure.report.charts.frame import Frame
from edgeship.measure.report.charts.scatter import Spot, scatter
from edgeship.measure.report.charts.shapes import WIDTH, Chart, Dot, Path, Stroke, Words


def frame(spots: Sequence[Spot]) -> Frame:
    return Frame(axes.linear(spot.x for spot in spots), axes.linear(spot.y for spot in spots), "size", "nats")


def drawn(*spots: Spot, more_x: bool = False, more_y: bool = False) -> Chart:
    chart = scatter("Fidelity", "", spots, frame(spots), more_x=more_x, more_y=more_y)
    assert chart is not None
    return chart


def spot(label: str, x: float, y: float, **more: bool) -> Spot:
    return Spot(label, x, y, f"{label} at {x:g}, {y:g}", **more)


SPOTS = (spot("a", 1, 9), spot("b", 2, 3), spot("c", 4, 4), spot("d", 8, 1, chosen=True))


def test_the_front_joins_what_no_other_beats() -> None:
    chart = drawn(*SPOTS)
    (line,) = [shape for shape in chart.shapes if isinstance(shape, Path)]
    dots = [shape for shape in chart.shapes if isinstance(shape, Dot)]
    assert [dot.kind for dot in dots] == ["dot", "dot", "dot beaten", "dot chosen"]
    assert line.points == tuple((dot.x, dot.y) for dot in dots if "beaten" not in dot.kind)
    assert chart.said.endswith("On the front: a, b, d")


@pytest.mark.parametrize(
    ("more_x", "more_y", "front"), [(False, True, "a"), (True, False, "d"), (True, True, "a, c, d")]
)
def test_more_may_be_better(more_x: bool, more_y: bool, front: str) -> None:
    assert drawn(*SPOTS, more_x=more_x, more_y=more_y).said.endswith(f"On the front: {front}")


def test_less_lies_at_the_left_and_below() -> None:
    dots = [shape for shape in drawn(*SPOTS).shapes if isinstance(shape, Dot)]
    assert [dot.x for dot in dots] == sorted(dot.x for dot in dots)
    assert [dot.y for dot in dots] == sorted(
        (dot.y for dot in dots), key=lambda y: [dots[i].y for i in range(4)].index(y)
    )
    assert dots[3].y > dots[0].y


def test_fewer_than_two_are_no_picture() -> None:
    lone = [spot("a", 1, 1), spot("b", math.nan, 1), spot("c", 1, math.inf)]
    assert scatter("Fidelity", "", lone, frame(lone)) is None
    assert scatter("Fidelity", "", [], frame([])) is None


def test_where_a_value_lies_by_chance_is_drawn() -> None:
    spots = [Spot("a", 1, 2, "a", low=1, high=3), spot("b", 2, 4)]
    whiskers = [one for one in drawn(*spots).shapes if isinstance(one, Stroke) and one.kind == "whisker"]
    assert len(whiskers) == 1
    assert whiskers[0].y1 > whiskers[0].y2


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=2, max_size=8))
def test_names_cover_neither_one_another_nor_the_edge(places: list[tuple[float, float]]) -> None:
    chart = drawn(*(spot(f"int4-{number}", x, y) for number, (x, y) in enumerate(places)))
    labels = [shape for shape in chart.shapes if isinstance(shape, Words) and shape.kind == "label"]
    assert len(labels) == len(places)
    for label in labels:
        reach = 7 * len(label.text)
        assert (label.x - reach >= 0) if label.anchor == "end" else (label.x + reach <= WIDTH)
