"""The frame of a chart with two axes: its lines and what is written at them, and where a pair of values lies."""

from __future__ import annotations

from dataclasses import dataclass

from edgeship.measure.report.charts.axes import Axis
from edgeship.measure.report.charts.shapes import LETTER_WIDTH, WIDTH, Shape, Stroke, Words

HEIGHT = 270.0
_TOP, _BELOW, _RIGHT, _GAP = 24.0, 44.0, 14.0, 8.0


@dataclass(frozen=True)
class Frame:
    """Two axes and their names."""

    x: Axis
    y: Axis
    x_name: str
    y_name: str
    height: float = HEIGHT

    @property
    def left(self) -> float:
        """Where the plot begins: the widest text of the axis stands before it."""
        return _GAP + LETTER_WIDTH * max((len(tick.text) for tick in self.y.ticks), default=1)

    @property
    def right(self) -> float:
        """Where the plot ends."""
        return WIDTH - _RIGHT

    @property
    def bottom(self) -> float:
        """Where the lowest values lie."""
        return self.height - _BELOW

    @property
    def top(self) -> float:
        """Where the highest values lie."""
        return _TOP

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a pair of values lies."""
        across = self.left + self.x.place(x) * (self.right - self.left)
        return round(across, 1), round(self.bottom - self.y.place(y) * (self.bottom - self.top), 1)

    def shapes(self) -> list[Shape]:
        """Lines at the y axis's ticks, and the texts."""
        made: list[Shape] = [Words(0, 12, self.y_name, "name")]
        for tick in self.y.ticks:
            _, y = self.place(self.x.low, tick.value)
            made.append(Stroke(self.left, y, self.right, y, "grid"))
            made.append(Words(self.left - _GAP / 2, y + 4, tick.text, "tick", "end"))
        for tick in self.x.ticks:
            x, _ = self.place(tick.value, self.y.low)
            made.append(Stroke(x, self.bottom, x, self.bottom + 4, "grid"))
            made.append(Words(self._within(x, tick.text), self.bottom + 17, tick.text, "tick", "middle"))
        made.append(Stroke(self.left, self.bottom, self.right, self.bottom, "zero"))
        made.append(Words((self.left + self.right) / 2, self.height - 6, self.x_name, "name", "middle"))
        return made

    def _within(self, x: float, text: str) -> float:
        """The middle of a text that would reach beyond the picture."""
        half = LETTER_WIDTH * len(text) / 2
        return round(min(max(x, half), WIDTH - half), 1)
