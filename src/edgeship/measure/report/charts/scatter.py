"""Points in a plane of two measures, with the front of those that no other beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeship.measure.choice.pareto import pareto
from edgeship.measure.report.charts import axes
from edgeship.measure.report.charts.frame import Frame
from edgeship.measure.report.charts.shapes import LETTER_WIDTH, Chart, Dot, Path, Shape, Stroke, Words, short

_DOT, _LINE, _BESIDE = 6.0, 15.0, 10.0


@dataclass(frozen=True)
class Spot:
    """A thing by two measures. text: what it says where it is pointed at. low, high: where y lies, if that is known."""

    label: str
    x: float
    y: float
    text: str
    chosen: bool = False
    low: float | None = None
    high: float | None = None


def scatter(
    title: str, note: str, spots: Sequence[Spot], frame: Frame, *, more_x: bool = False, more_y: bool = False
) -> Chart | None:
    """The spots, and a line through the front; None where fewer than two can be placed.

    more_x, more_y: more of it is better.
    """
    found = [spot for spot in spots if axes.has_place(spot.x) and axes.has_place(spot.y)]
    if len(found) < 2:
        return None
    front = pareto([(-spot.x if more_x else spot.x, -spot.y if more_y else spot.y) for spot in found])
    line = sorted((found[index] for index in front), key=lambda spot: spot.x)
    shapes = frame.shapes()
    if len(line) > 1:
        shapes.append(Path(tuple(frame.place(spot.x, spot.y) for spot in line), "front"))
    for index, spot in enumerate(found):
        if spot.low is not None and spot.high is not None:
            (x, low), (_, high) = frame.place(spot.x, spot.low), frame.place(spot.x, spot.high)
            shapes.append(Stroke(x, low, x, high, "whisker"))
        kind = "dot chosen" if spot.chosen else "dot" if index in front else "dot beaten"
        shapes.append(Dot(*frame.place(spot.x, spot.y), kind, spot.text, _DOT))
    shapes += _labels(found, frame)
    said = f"{'; '.join(spot.text for spot in found)}. On the front: {', '.join(spot.label for spot in line)}"
    return Chart(title, note, said, frame.height, tuple(shapes))


def _labels(spots: Sequence[Spot], frame: Frame) -> list[Shape]:
    """The names beside the spots, on the side where there is room, moved up where they would cover one another."""
    places = [frame.place(spot.x, spot.y) for spot in spots]
    taken = [(x - _DOT, x + _DOT, y) for x, y in places]
    made: list[Shape] = []
    for spot in sorted(spots, key=lambda spot: -frame.place(spot.x, spot.y)[1]):
        x, y = frame.place(spot.x, spot.y)
        label = short(spot.label)
        width = LETTER_WIDTH * len(label)
        is_left = x + _BESIDE + width > frame.right
        start, middle = x - _BESIDE - width if is_left else x + _BESIDE, y - 2
        while any(abs(middle - there) < _LINE and start < end and begin < start + width for begin, end, there in taken):
            middle -= _LINE
        taken.append((start, start + width, middle))
        end = x - _BESIDE if is_left else x + _BESIDE
        made.append(Words(end, round(max(middle, 8.0) + 4, 1), label, "label", "end" if is_left else "start"))
    return made
