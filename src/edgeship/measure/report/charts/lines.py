"""Lines over a common axis: latency over concurrency, memory over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeship.measure.report.charts import axes
from edgeship.measure.report.charts.frame import Frame
from edgeship.measure.report.charts.shapes import Chart, Dot, Path, Shape, series

MOST_POINTS = 240
"""Of a line: the picture is not much wider in dots of a screen. Of more, the highest and lowest of each part stay."""


@dataclass(frozen=True)
class Point:
    """A value at x, with its interval where there is one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """One line."""

    name: str
    points: tuple[Point, ...]


def lines(
    title: str,
    note: str,
    drawn: Sequence[Series],
    *,
    x_name: str,
    y_name: str,
    sweep: bool = True,
    text: Callable[[float], str] = "{:,.3g}".format,
) -> Chart | None:
    """One line for each series that has values; None where none has.

    sweep: x are the few values that were tried, each of which is marked; else it goes on steadily, as time does.
    """
    found = [Series(one.name, _ordered(one.points)) for one in drawn]
    found = [one for one in found if one.points]
    if not found:
        return None
    every = [point for one in found for point in one.points]
    x_axis = axes.at(point.x for point in every) if sweep else axes.linear(point.x for point in every)
    frame = Frame(x_axis, axes.linear([value for point in every for value in (point.y, point.high)]), x_name, y_name)
    shapes = frame.shapes()
    for index, one in enumerate(found):
        shapes += _line(one, series(index), frame, sweep, text)
    legend = tuple((series(index), one.name) for index, one in enumerate(found)) if len(found) > 1 else ()
    return Chart(title, note, "; ".join(_said(one, x_name, text) for one in found), frame.height, tuple(shapes), legend)


def _line(one: Series, kind: str, frame: Frame, sweep: bool, text: Callable[[float], str]) -> list[Shape]:
    points = thinned(one.points)
    shapes: list[Shape] = []
    within = [(point.x, point.low, point.high) for point in points if point.low is not None and point.high is not None]
    if len(within) > 1:
        upper = [frame.place(x, high) for x, _, high in within]
        shapes.append(Path((*upper, *(frame.place(x, low) for x, low, _ in reversed(within))), f"band {kind}"))
    shapes.append(Path(tuple(frame.place(point.x, point.y) for point in points), f"line {kind}"))
    if sweep:
        for point in points:
            shapes.append(Dot(*frame.place(point.x, point.y), f"dot {kind}", f"{one.name}: {text(point.y)}", 3.5))
    return shapes


def thinned(points: Sequence[Point]) -> tuple[Point, ...]:
    """At most MOST_POINTS of them, with every peak."""
    if len(points) <= MOST_POINTS:
        return tuple(points)
    parts = MOST_POINTS // 2
    kept = []
    for index in range(parts):
        part = points[index * len(points) // parts : (index + 1) * len(points) // parts]
        kept += sorted({min(part, key=_height), max(part, key=_height)}, key=lambda point: point.x)
    return tuple(kept)


def _height(point: Point) -> float:
    return point.y


def _ordered(points: Sequence[Point]) -> tuple[Point, ...]:
    drawn = (point for point in points if axes.has_place(point.x) and axes.has_place(point.y))
    return tuple(sorted(drawn, key=lambda point: point.x))


def _said(one: Series, x_name: str, text: Callable[[float], str]) -> str:
    """The line in words: all of a few points, the ends and the highest of many."""
    points = one.points
    if len(points) > 12:
        points = tuple(sorted({points[0], max(points, key=_height), points[-1]}, key=lambda point: point.x))
    return f"{one.name}: " + ", ".join(f"{text(point.y)} at {point.x:,g}" for point in points) + f" ({x_name})"
