"""Bar charts for the report's page: where each bar begins and ends, and what it says. The page draws them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeship.measure.compare import figures_of_kld
from edgeship.measure.measurement import Measurement
from edgeship.system.storage import megabytes

BAR_WIDTH = 250.0
LETTER_WIDTH, LABEL_GAP = 9, 10


@dataclass(frozen=True)
class Bar:
    """One bar. width, low, high: of BAR_WIDTH; low and high, where given, bound an interval."""

    label: str
    text: str
    width: float
    chosen: bool
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Chart:
    """Bars of one measure, from a common zero."""

    title: str
    better: str
    bars: tuple[Bar, ...]

    @property
    def label_width(self) -> int:
        """Room for the longest label, in the units of BAR_WIDTH."""
        return max(50, LABEL_GAP + LETTER_WIDTH * max(len(bar.label) for bar in self.bars))


@dataclass(frozen=True)
class _Value:
    value: float
    text: str
    low: float | None = None
    high: float | None = None


def charts(
    measurements: Sequence[tuple[str, Measurement]], chosen: str | None, reference: str | None = None
) -> tuple[Chart, ...]:
    """The charts of what was measured, each by its label; a measure that nobody has gets none."""
    against = reference or "the reference"
    made = (
        _chart(title.format(reference=against), better, read, measurements, chosen) for title, better, read in _MEASURES
    )
    return tuple(chart for chart in made if chart is not None)


def _chart(
    title: str,
    better: str,
    read: Callable[[Measurement], _Value | None],
    measurements: Sequence[tuple[str, Measurement]],
    chosen: str | None,
) -> Chart | None:
    found = [(label, read(measurement)) for label, measurement in measurements]
    values = [(label, value) for label, value in found if value is not None]
    if not values:
        return None
    top = max(max(value.value, value.high or 0.0) for _, value in values) or 1.0

    def scaled(value: float | None) -> float | None:
        return None if value is None else round(value / top * BAR_WIDTH, 1)

    bars = (
        Bar(
            label.upper(),
            value.text,
            scaled(value.value) or 0.0,
            label == chosen,
            scaled(value.low),
            scaled(value.high),
        )
        for label, value in values
    )
    return Chart(title, better, tuple(bars))


def _size(measured: Measurement) -> _Value:
    return _Value(measured.size_bytes, megabytes(measured.size_bytes))


def _decode(measured: Measurement) -> _Value:
    speed = measured.speed.decode_tokens_per_s
    return _Value(speed.median, f"{speed.median:,.0f} tok/s", speed.min, speed.max)


def _pass_rate(measured: Measurement) -> _Value | None:
    result = measured.evaluation
    if result is None:
        return None
    interval = result.pass_rate_95
    return _Value(result.pass_rate, f"{result.pass_rate * 100:.1f} %", interval.low, interval.high)


def _kld(measured: Measurement) -> _Value | None:
    if measured.fidelity is None:
        return None
    nats = measured.fidelity.mean_kld_nats
    return _Value(nats, f"{figures_of_kld(nats)} nats")


_MEASURES: tuple[tuple[str, str, Callable[[Measurement], _Value | None]], ...] = (
    ("Size", "shorter is better", _size),
    ("Decode speed", "longer is better", _decode),
    ("Evaluation, cases passed", "longer is better", _pass_rate),
    ("Mean KLD from {reference}", "shorter is better", _kld),
)
