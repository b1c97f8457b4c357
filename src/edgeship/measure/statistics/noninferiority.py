"""Whether something is no worse than it may be: it holds, it fails, or more cases would decide."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from edgeship.measure.statistics import bootstrap
from edgeship.measure.statistics.intervals import (
    Z_95,
    Z_ONE_SIDED_95,
    Interval,
    PairedChange,
    cases_to_decide,
    drop_beyond,
    holm,
    least_cases,
    shortfall,
    wilson,
)

Outcome = Literal["holds", "fails", "undecided"]
"""holds, fails: with 95 % confidence, one-sided."""
_CONFIDENCE = 0.9
"""Of an interval both of whose ends are bounds of 95 %."""
_LEVEL = 0.05
_ROUNDING = 1e-9
_MOST_TIMES = 10
"""Whether more cases of a slice would decide is looked for up to so many times those that there are."""


@dataclass(frozen=True)
class Finding:
    """How a figure lies to the limit that it must not fall below.

    bounds: the true figure lies above the lower end with 95 % confidence, and so below the upper one.
    within: the figure itself reaches the limit, whatever chance may have done to it.
    more: about so many more cases would decide with 80 % power, if they are like these; None where it is decided, or
    where the figure lies on the limit so that no number is enough.
    hopeless: there are so few cases that even one without any fault could not be shown to hold.
    """

    outcome: Outcome
    figure: float
    limit: float
    bounds: Interval
    within: bool
    more: int | None = None
    hopeless: bool = False

    @property
    def is_beyond(self) -> bool:
        """Whether the true figure by itself lies below the limit, with 95 % confidence."""
        return self.bounds.high < self.limit - _ROUNDING


def found(
    figure: float, limit: float, bounds: Interval, *, cases: int, variance: float, least: int | None = 1
) -> Finding:
    """The finding for a figure that must be at least `limit`.

    variance: of a single case's value. least: so many cases it takes where they could not be better; None where no
    number is enough, as for a rate of 1 or a drop of 0: such a limit applies to the cases that were asked, and holds
    if these reach it.
    """
    within = figure >= limit - _ROUNDING
    if bounds.low >= limit - _ROUNDING or (within and least is None):
        return Finding("holds", figure, limit, bounds, within)
    if bounds.high < limit - _ROUNDING:
        return Finding("fails", figure, limit, bounds, within)
    needed = cases_to_decide(variance, figure - limit)
    more = None if needed is None else max(needed, least or 1, cases + 1) - cases
    return Finding("undecided", figure, limit, bounds, within, more, hopeless=least is not None and cases < least)


def of_change(change: PairedChange, margin: float) -> Finding:
    """Whether a pass rate fell by no more than `margin` on the same cases."""
    variance = (change.lost + change.gained) / change.cases - change.change**2
    return found(
        change.change, -margin, change.bounds, cases=change.cases, variance=variance, least=least_cases(margin)
    )


def of_rate(passed: int, cases: int, least: float) -> Finding:
    """Whether a rate reaches `least`."""
    rate = passed / cases
    return found(
        rate,
        least,
        wilson(passed, cases, Z_ONE_SIDED_95),
        cases=cases,
        variance=rate * (1 - rate),
        least=least_cases(1 - least),
    )


def of_share(share: float, interval: Interval, cases: int, least: float) -> Finding:
    """Whether a share reaches `least`, by its interval of 95 %: what was counted need not be independent."""
    narrower = Z_ONE_SIDED_95 / Z_95
    bounds = Interval(share - narrower * (share - interval.low), share + narrower * (interval.high - share))
    error = (interval.high - interval.low) / (2 * Z_95)
    return found(share, least, bounds, cases=cases, variance=cases * error**2)


def of_mean(mean: float, error: float | None, cases: int, most: float) -> Finding:
    """Whether a mean with its standard error is at most `most`; the finding is of what it has left to there."""
    spread = Z_ONE_SIDED_95 * error if error is not None else math.inf
    bounds = Interval(most - mean - spread, most - mean + spread)
    variance = cases * error**2 if error is not None else math.inf
    return found(most - mean, 0.0, bounds, cases=cases, variance=variance)


def of_scores(
    reference: Sequence[float], candidate: Sequence[float], margin: float, *, largest: float = 1.0, seed: int = 0
) -> Finding:
    """Whether the mean score fell by no more than `margin` on the same cases, by a bootstrap of the pairs.

    largest: how far two scores can lie apart. Two cases that do so, one either way, are drawn from besides: where
    hardly a score differs, those that happen to be there would not show what others may.
    Raises ValueError where there are no scores, or the two do not pair.
    """
    import numpy as np

    if len(reference) != len(candidate) or not len(reference):
        raise ValueError(f"cannot pair {len(reference)} scores with {len(candidate)}")
    changes = np.subtract(candidate, reference)
    drawn_from = np.concatenate([changes, [largest, -largest]])
    bounds = bootstrap.interval(bootstrap.MEAN, drawn_from, confidence=_CONFIDENCE, seed=seed)
    return found(
        float(changes.mean()),
        -margin,
        bounds or Interval(-largest, largest),
        cases=len(changes),
        variance=float(changes.var()),
        least=least_cases(margin / largest),
    )


def together(findings: Sequence[Finding]) -> Finding:
    """The finding that decides where all must hold: one that fails, or the undecided one that needs most cases."""
    worst = {"fails": 0, "undecided": 1, "holds": 2}
    return min(findings, key=lambda one: (worst[one.outcome], one.within, one.more is not None, -(one.more or 0)))


def worse_slices(slices: Mapping[str, PairedChange], margin: float) -> dict[str, float]:
    """The slices whose rate surely fell by more than `margin`, with their p, which is Holm's: several are looked at."""
    adjusted = holm({name: drop_beyond(of.cases, of.lost, of.gained, margin) for name, of in slices.items()})
    return {name: p for name, p in adjusted.items() if p < _LEVEL}


def poor_slices(slices: Mapping[str, tuple[int, int]], least: float) -> dict[str, float]:
    """The slices of (passed, cases) whose rate surely lies below `least`, with their p, which is Holm's as well."""
    adjusted = holm({name: shortfall(passed, cases, least) for name, (passed, cases) in slices.items()})
    return {name: p for name, p in adjusted.items() if p < _LEVEL}


def of_slice_rates(slices: Mapping[str, tuple[int, int]], least: float) -> dict[str, Finding]:
    """Whether the rate of each slice of (passed, cases) reaches `least`.

    A slice fails if it is one of `poor_slices`. If it would fail as the only slice, it is undecided, and `is_beyond`.
    """
    surely = poor_slices(slices, least)

    def among(name: str, passed: int, cases: int) -> Finding:
        def p(count: int) -> float:
            return shortfall(round(passed * count / cases), count, least)

        return _among(of_rate(passed, cases, least), cases, len(slices), p, surely=name in surely)

    return {name: among(name, *of) for name, of in slices.items()}


def of_slice_changes(slices: Mapping[str, PairedChange], margin: float) -> dict[str, Finding]:
    """Whether the rate of each slice fell by no more than `margin`.

    A slice fails if it is one of `worse_slices`. If it would fail as the only slice, it is undecided, and `is_beyond`.
    """
    surely = worse_slices(slices, margin)

    def among(name: str, of: PairedChange) -> Finding:
        def p(count: int) -> float:
            share = count / of.cases
            return drop_beyond(count, round(of.lost * share), round(of.gained * share), margin)

        return _among(of_change(of, margin), of.cases, len(slices), p, surely=name in surely)

    return {name: among(name, of) for name, of in slices.items()}


def beyond(slices: Mapping[str, Finding]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Of several slices those that fail, and those that would as the only ones, but may look so by chance.

    The worst comes first.
    """
    order = sorted(slices, key=lambda name: slices[name].figure)
    surely = tuple(name for name in order if slices[name].outcome == "fails")
    perhaps = tuple(name for name in order if slices[name].outcome == "undecided" and slices[name].is_beyond)
    return surely, perhaps


def _among(found: Finding, cases: int, slices: int, p: Callable[[int], float], *, surely: bool) -> Finding:
    """The finding of a slice that is one of several, from its finding as the only one.

    p: how likely chance alone gives what so many cases of it would show, if they are like those that there are.
    """
    if surely:
        return replace(found, outcome="fails", more=None)
    if found.outcome != "fails":
        return found
    counts = range(cases + 1, _MOST_TIMES * cases, max(1, cases // 10))
    enough = next((count for count in counts if slices * p(count) < _LEVEL), None)
    return replace(found, outcome="undecided", more=None if enough is None else enough - cases)
