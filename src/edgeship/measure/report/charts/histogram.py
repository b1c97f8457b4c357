"""How often values of each size occur, over axes of powers of ten: what is rare is what one looks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgeship.measure.report.charts import axes
from edgeship.measure.report.charts.frame import Frame
from edgeship.measure.report.charts.shapes import Box, Chart

_HEIGHT = 220.0


@dataclass(frozen=True)
class Bin:
    """How many values lie from `low` to `high`.

    What is below all others may begin at zero, and what is above all may have no end.
    """

    low: float
    high: float
    count: int


def histogram(
    title: str, note: str, bins: Sequence[Bin], *, x_name: str, of: Sequence[Sequence[Bin]] = ()
) -> Chart | None:
    """One box for each bin that holds something; None where none does.

    of: the bins of all charts that stand beside this one, which have the same axes.
    """
    total = sum(one.count for one in bins)
    if not total or any(math.isnan(one.low) or math.isnan(one.high) for one in bins):
        return None
    every = [*of, bins]
    edges = [edge for part in every for one in part if one.count for edge in (one.low, one.high)]
    frame = Frame(
        axes.logarithmic(edges, floor=min((edge for edge in axes.finite(edges) if edge > 0), default=1.0)),
        axes.logarithmic([0.5 / max(map(_total, every)), 1.0], lambda share: f"{share * 100:g} %"),
        x_name,
        "share of tokens",
        _HEIGHT,
    )
    shapes = frame.shapes()
    for one in bins:
        if one.count:
            left, top = frame.place(one.low, one.count / total)
            right, bottom = frame.place(one.high, frame.y.low)
            # What lies below the axis's first value, or above its last, is drawn as a narrow box at that end.
            if right - left < 4:
                left, right = (left, left + 4) if left < frame.right - 4 else (frame.right - 4, frame.right)
            said = f"{one.low:.2g} to {one.high:.2g}: {one.count:,} of {total:,}"
            shapes.append(Box(left, top, round(right - left, 1), round(bottom - top, 1), "bin", said))
    return Chart(title, note, _said(bins, total), frame.height, tuple(shapes))


def _said(bins: Sequence[Bin], total: int) -> str:
    """The bins in words: where half and nearly all of the values lie."""
    parts = []
    for share in (0.5, 0.99):
        count = 0
        for one in bins:
            count += one.count
            if count >= share * total:
                parts.append(f"{share:.0%} of the values are at most {one.high:.2g}")
                break
    return f"{total:,} values; {'; '.join(parts)}"


def _total(bins: Sequence[Bin]) -> int:
    return sum(one.count for one in bins) or 1
