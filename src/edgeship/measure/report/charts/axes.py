"""Axes: from which value to which, where a value lies between them, and the round values that are written."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

_ROUND = (1.0, 2.0, 5.0, 10.0)
MOST_TICKS = 5
_ABSURD, _NOTHING = 1e18, 1e-30
"""No figure is as large, and what is as small is zero."""


@dataclass(frozen=True)
class Tick:
    """A value that is written at the axis."""

    value: float
    text: str


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, by differences or (log) by ratios."""

    low: float
    high: float
    ticks: tuple[Tick, ...]
    log: bool = False

    def place(self, value: float) -> float:
        """Where a value lies: 0 at the low end, 1 at the high one. What is outside lies at the end."""
        if math.isnan(value):
            raise ValueError("no axis has a place for what is no number")
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        # Halves, since the difference of two huge ends is no number any more.
        return (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)


def has_place(value: float) -> bool:
    """Whether a value can be drawn: no infinity, and no number that could only be a fault."""
    return math.isfinite(value) and abs(value) <= _ABSURD


def finite(values: Iterable[float | None]) -> list[float]:
    """Those that can be drawn."""
    drawn = (value for value in values if value is not None and has_place(value))
    return [value if abs(value) > _NOTHING else 0.0 for value in drawn]


def linear(
    values: Iterable[float | None], text: Callable[[float, float], str] | None = None, *, zero: bool = True
) -> Axis:
    """An axis that holds these values, with round ends, from zero unless `zero` is false.

    text: writes a value at an axis whose ticks lie so far apart.
    """
    found = [*finite(values), *([0.0] if zero else [])] or [0.0]
    low, high = min(found), max(found)
    if low == high:
        low, high = (0.0, 1.0) if high == 0 else (min(low, 0.0), max(high, 0.0))
    step = _round_step(high / MOST_TICKS - low / MOST_TICKS)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    write = text or plain
    ticks = tuple(Tick(index * step, write(index * step, step)) for index in range(first, last + 1))
    return Axis(first * step, last * step, ticks)


def logarithmic(
    values: Iterable[float | None],
    text: Callable[[float], str] | None = None,
    *,
    floor: float | None = None,
) -> Axis:
    """An axis that holds those of the values that are above zero, from one power of ten to another.

    floor: what is smaller, and zero, lies at the low end, whose text says so.
    """
    values = finite(values)
    positive = [value for value in values if value > 0]
    least, most = min(positive, default=floor or 1.0), max(positive, default=floor or 1.0)
    if floor is not None:
        least, most = max(least, floor), max(most, floor)
    first, last = math.floor(math.log10(least) + 1e-9), math.ceil(math.log10(most) - 1e-9)
    last = max(last, first + 1)
    every = math.ceil((last - first) / MOST_TICKS)
    write = text or power
    ticks = [Tick(10.0**exponent, write(10.0**exponent)) for exponent in range(first, last + 1, every)]
    if floor is not None and any(value <= 10.0**first for value in values):
        ticks[0] = Tick(ticks[0].value, f"≤ {ticks[0].text}")
    return Axis(10.0**first, 10.0**last, tuple(ticks), log=True)


def at(values: Iterable[float], text: Callable[[float], str] | None = None) -> Axis:
    """An axis whose ticks are the values themselves, such as those of a sweep; by ratios where they are far apart."""
    found = sorted({value for value in finite(values) if value >= 0})
    write = text or (lambda value: plain(value, 1.0) if float(value).is_integer() else f"{value:g}")
    low, high = (found[0], found[-1]) if found else (0.0, 1.0)
    log = low > 0 and high / low >= 4
    if low == high:
        low, high = (low / 2, high * 2) if low else (0.0, 1.0)
    axis = Axis(low, high, (), log)
    ticks: list[Tick] = []
    room = 1 / (MOST_TICKS + 3)
    for value in found:
        # A tick whose text would run into the last one is left out.
        if not ticks or axis.place(value) - axis.place(ticks[-1].value) >= room:
            ticks.append(Tick(value, write(value)))
    return Axis(low, high, tuple(ticks), log)


def plain(value: float, step: float) -> str:
    """A value with as many digits as its axis's step needs."""
    if abs(value) >= 1e15 or (step < 1e-4 and value):
        return f"{value:.1e}"
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{digits}f}"


def percent(value: float, step: float) -> str:
    """A share."""
    return f"{plain(value * 100, step * 100)} %"


def power(value: float) -> str:
    """A power of ten: in full where that is short."""
    return f"{value:,g}" if 1e-4 <= value < 1e5 else f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")


def _round_step(about: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is no smaller."""
    exponent = math.floor(math.log10(about))
    return next(step * 10.0**exponent for step in _ROUND if step * 10.0**exponent >= about * (1 - 1e-9))
