"""Size against quality and speed: by two of them in each picture, and what no other beats in all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeship.measure.choice.pareto import pareto
from edgeship.measure.report.charts import axes
from edgeship.measure.report.charts.frame import Frame
from edgeship.measure.report.charts.scatter import Spot, scatter
from edgeship.measure.report.charts.shapes import Chart
from edgeship.measure.report.page import units
from edgeship.measure.report.page.blocks import Pictures, Sentences, pictures

KLD_FLOOR_NATS = 1e-6
"""What differs by less differs by rounding."""


@dataclass(frozen=True)
class Option:
    """What may be taken. kld_nats, pass_rate: None where it was not measured. interval: of the pass rate."""

    label: str
    size_bytes: float
    decode_tokens_per_s: float
    kld_nats: float | None = None
    pass_rate: float | None = None
    interval: tuple[float, float] | None = None
    chosen: bool = False


def scatters(options: Sequence[Option]) -> Pictures | None:
    """Each measure of quality over size, and over speed."""
    return pictures(
        *(_fidelity(options, speed=speed) for speed in (False, True)),
        *(_passing(options, speed=speed) for speed in (False, True)),
    )


def front(options: Sequence[Option], best: Sequence[str] | None = None) -> Sentences | None:
    """Which of them no other beats in size, speed and quality at once, and what beats the rest.

    best: the labels of those, where that is known; else the quality is the agreement.
    """
    found = [one for one in options if one.kld_nats is not None or one.pass_rate is not None]
    if len(found) < 2:
        return None
    if best is None:
        points = [(one.size_bytes, -one.decode_tokens_per_s, one.kld_nats or 0.0) for one in found]
        best = [found[index].label for index in pareto(points)]
    unbeaten = "any of them" if len(best) == len(found) else ", ".join(best)
    return Sentences(
        (
            "The dashed line joins those that no other beats in both measures of its picture. In size, speed and "
            f"quality together no other beats {unbeaten}.",
        )
    )


def _fidelity(options: Sequence[Option], *, speed: bool) -> Chart | None:
    spots = [
        Spot(one.label, _across(one, speed=speed), one.kld_nats, _said(one, units.nats(one.kld_nats)), one.chosen)
        for one in options
        if one.kld_nats is not None
    ]
    y_axis = axes.logarithmic((spot.y for spot in spots), floor=KLD_FLOOR_NATS)
    frame = Frame(axes.linear(spot.x for spot in spots), y_axis, _name(speed=speed), "mean KLD, nats")
    title, note = (
        f"Fidelity over {'speed' if speed else 'size'}",
        f"best is below, at the {'right' if speed else 'left'}",
    )
    return scatter(title, note, spots, frame, more_x=speed)


def _passing(options: Sequence[Option], *, speed: bool) -> Chart | None:
    spots = []
    for one in options:
        if one.pass_rate is not None:
            low, high = one.interval or (None, None)
            said = _said(one, units.percent(one.pass_rate))
            spots.append(Spot(one.label, _across(one, speed=speed), one.pass_rate, said, one.chosen, low, high))
    y_axis = axes.linear([y for spot in spots for y in (spot.y, spot.low, spot.high)], axes.percent, zero=False)
    frame = Frame(axes.linear(spot.x for spot in spots), y_axis, _name(speed=speed), "cases passed")
    title = f"Cases passed over {'speed' if speed else 'size'}"
    note = f"best is above, at the {'right' if speed else 'left'}"
    return scatter(title, note, spots, frame, more_x=speed, more_y=True)


def _across(one: Option, *, speed: bool) -> float:
    return one.decode_tokens_per_s if speed else one.size_bytes / 1e6


def _name(*, speed: bool) -> str:
    return "decode speed, tokens/s" if speed else "size, MB"


def _said(one: Option, quality: str) -> str:
    return f"{one.label}: {units.memory(one.size_bytes)}, {units.tokens_per_s(one.decode_tokens_per_s)}, {quality}"
