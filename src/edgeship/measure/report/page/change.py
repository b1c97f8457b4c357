"""How a figure changed between two measurements that know nothing of each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeship.measure.report.page.blocks import MOST_ROWS
from edgeship.measure.report.tables import NONE, Table


@dataclass(frozen=True)
class Figure:
    """A figure of one measurement.

    low, high: where it lies with 95 % confidence, where that is known. text: writes it.
    more_is_better: None where neither is. share: it changes by points, and not by a part of itself.
    """

    name: str
    value: float | None
    text: Callable[[float], str]
    more_is_better: bool | None = None
    low: float | None = None
    high: float | None = None
    share: bool = False

    def __str__(self) -> str:
        if self.value is None:
            return NONE
        if self.low is None or self.high is None:
            return self.text(self.value)
        written = self.text(self.value)
        unit = written.rpartition(" ")[2]
        low, high = (self.text(bound).removesuffix(unit).rstrip() for bound in (self.low, self.high))
        return f"{written} [{low}, {high}]"


@dataclass(frozen=True)
class Change:
    """From one figure to another: points of a share, else a part of the first. low, high: its 95 % interval."""

    change: float
    low: float | None = None
    high: float | None = None


def change(before: Figure, after: Figure) -> Change | None:
    """What became of a figure; None where one of the two is not known, or nothing can be a part of it.

    The interval is made of both figures' own (Zou and Donner's), which takes them for independent of each other.
    """
    if before.value is None or after.value is None:
        return None
    if before.share:
        return _difference(_bounds(before, float), _bounds(after, float), float)
    if before.value <= 0 or after.value <= 0:
        return None
    try:
        # Of ratios the logarithms are differences.
        return _difference(_bounds(before, math.log), _bounds(after, math.log), math.expm1)
    except OverflowError:
        return None  # it is more times as much than there are numbers for


def _bounds(figure: Figure, scale: Callable[[float], float]) -> tuple[float, float | None, float | None]:
    assert figure.value is not None
    low, high = figure.low, figure.high
    if low is None or high is None or (scale is math.log and min(low, high) <= 0):
        return scale(figure.value), None, None
    return scale(figure.value), scale(low), scale(high)


def _difference(
    before: tuple[float, float | None, float | None],
    after: tuple[float, float | None, float | None],
    back: Callable[[float], float],
) -> Change:
    (a, a_low, a_high), (b, b_low, b_high) = before, after
    if a_low is None or a_high is None or b_low is None or b_high is None:
        return Change(back(b - a))
    low = b - a - math.hypot(b - b_low, a_high - a)
    high = b - a + math.hypot(b_high - b, a - a_low)
    return Change(back(b - a), back(low), back(high))


def in_words(before: Figure, after: Figure, found: Change | None) -> str:
    """A change as tables show it, with whether it is for the better where more than chance says so."""
    if found is None:
        return NONE
    unit = " points" if before.share else " %"
    said = f"{found.change * 100:+.1f}{unit}"
    if found.low is None or found.high is None:
        return said
    said += f" [{found.low * 100:+.1f}, {found.high * 100:+.1f}]"
    if found.low <= 0 <= found.high:
        return f"{said}, within chance"
    if after.more_is_better is None:
        return said
    return f"{said}, {'better' if (found.low > 0) == after.more_is_better else 'worse'}"


def beside(names: Sequence[str], figures: Sequence[Sequence[Figure]]) -> Table | None:
    """Figures of several measurements, a row for each figure; the last column has its change from first to last.

    None where no figure is known to any.
    """
    rows = []
    for name in dict.fromkeys(figure.name for one in figures for figure in one):
        found = [next((figure for figure in one if figure.name == name), None) for one in figures]
        if all(figure is None or figure.value is None for figure in found):
            continue
        first, last = found[0], found[-1]
        said = in_words(first, last, change(first, last)) if first and last else NONE
        rows.append((name, *(str(figure) if figure else NONE for figure in found), said))
    last_column = "change" if len(names) == 2 else "change, first to last"
    return Table(("figure", *names, last_column), tuple(rows[:MOST_ROWS])) if rows else None
