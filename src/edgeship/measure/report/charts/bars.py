"""Bars of one measure, from a common zero, with the interval of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeship.measure.report.charts import axes
from edgeship.measure.report.charts.shapes import LETTER_WIDTH, WIDTH, Box, Chart, Shape, Stroke, Words, short

_ROW, _THICK, _GAP = 30.0, 20.0, 8.0
_LEAST_LABEL = 42.0


@dataclass(frozen=True)
class Bar:
    """A value and what is written at it; low and high bound an interval, where there is one."""

    label: str
    value: float
    text: str
    low: float | None = None
    high: float | None = None
    chosen: bool = False


def bars(title: str, note: str, values: Sequence[Bar]) -> Chart | None:
    """One bar for each value; None where there is none that is a number."""
    drawn = [bar for bar in values if axes.has_place(bar.value)]
    if not drawn:
        return None
    top = max([*axes.finite(bar.value for bar in drawn), *axes.finite(bar.high for bar in drawn)]) or 1.0
    left = max(_LEAST_LABEL, _GAP + LETTER_WIDTH * 1.1 * max(len(short(bar.label)) for bar in drawn))
    room = WIDTH - left - _GAP - LETTER_WIDTH * max(len(bar.text) for bar in drawn)

    def across(value: float) -> float:
        return round(left + max(0.0, value / top) * room, 1)

    height = _ROW * len(drawn) + 4
    shapes: list[Shape] = [Stroke(left, 0, left, height, "zero")]
    for index, bar in enumerate(drawn):
        shapes += _bar(bar, index * _ROW + 2 + _ROW / 2, across, left)
    said = "; ".join(f"{bar.label} {bar.text}" for bar in drawn)
    return Chart(title, note, said, height, tuple(shapes))


def _bar(bar: Bar, middle: float, across: Callable[[float], float], left: float) -> list[Shape]:
    kind = "bar chosen" if bar.chosen else "bar"
    width = round(across(bar.value) - left, 1)
    shapes: list[Shape] = [
        Words(0, middle + 5, short(bar.label)),
        Box(left, middle - _THICK / 2, width, _THICK, kind, f"{bar.label}: {bar.text}"),
    ]
    end = across(bar.value)
    if bar.low is not None and bar.high is not None:
        low, end = across(bar.low), max(end, across(bar.high))
        shapes.append(Stroke(low, middle, across(bar.high), middle, "interval"))
        shapes += [Stroke(x, middle - 4, x, middle + 4, "interval") for x in (low, across(bar.high))]
    shapes.append(Words(end + _GAP, middle + 5, bar.text))
    return shapes
