"""Intervals and tests for rates and for the change of a rate on the same cases, and how many cases decide."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

Z_95 = 1.959964
Z_ONE_SIDED_95 = 1.644854
MOST_CASES = 10_000_000
"""Whatever takes more is not decided by more cases."""
_ON_THE_LIMIT = 1e-9
_NO_VARIANCE = 1e-12
_ROUNDING = 1e-9
_HALVINGS = 50


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`, both included."""

    low: float
    high: float


@dataclass(frozen=True)
class PairedChange:
    """How a pass rate changed from a reference to a candidate on the same cases.

    change: candidate minus reference, as a part of all cases; negative is worse.
    lost: cases that only the reference passes; gained: cases that only the candidate passes.
    interval: of 95 %. bounds: of 90 %, so that the truth lies above the lower end with 95 % confidence, and so below
    the upper one; limits are judged by these.
    """

    cases: int
    lost: int
    gained: int
    change: float
    interval: Interval
    bounds: Interval


def wilson(passed: float, total: float, z: float = Z_95) -> Interval:
    """Wilson's score interval for the rate `passed` / `total`; 0 to 1 where total is 0."""
    if total == 0:
        return Interval(0.0, 1.0)
    rate, weight = passed / total, z * z / total
    centre = (rate + weight / 2) / (1 + weight)
    half = z * math.sqrt(rate * (1 - rate) / total + weight / (4 * total)) / (1 + weight)
    return Interval(
        0.0 if passed == 0 else max(0.0, centre - half), 1.0 if passed == total else min(1.0, centre + half)
    )


def paired_change(reference: Sequence[bool], candidate: Sequence[bool]) -> PairedChange:
    """The change of the pass rate, with Tango's score intervals.

    They hold the truth as often as they say where few outcomes differ and where the change is no zero, which is where a
    margin is judged; Wald's and Agresti and Min's do not.
    reference, candidate: the outcome of each case, in the same order.
    """
    if len(reference) != len(candidate) or not reference:
        raise ValueError(f"cannot pair {len(reference)} outcomes with {len(candidate)}")
    pairs = list(zip(reference, candidate, strict=True))
    cases, lost, gained = len(pairs), pairs.count((True, False)), pairs.count((False, True))
    return PairedChange(
        cases,
        lost,
        gained,
        (gained - lost) / cases,
        tango(cases, lost, gained),
        tango(cases, lost, gained, Z_ONE_SIDED_95),
    )


def tango(cases: int, lost: int, gained: int, z: float = Z_95) -> Interval:
    """The changes of a paired rate that lie at most `z` standard errors from what was found, each by its own error."""
    found = (gained - lost) / cases
    low = _bisect(lambda change: score(cases, lost, gained, change) > z, -1.0, found)
    high = _bisect(lambda change: score(cases, lost, gained, change) > -z, found, 1.0)
    return Interval(low, high)


def score(cases: int, lost: int, gained: int, change: float) -> float:
    """How many standard errors the change that was found lies above `change`, were that the true one.

    Tango (Statistics in Medicine 17, 1998): the error is that of the likeliest rates whose difference is `change`.
    """
    difference = gained - lost - cases * change
    a = 2 * cases
    b = (2 * cases - gained + lost) * change - gained - lost
    c = -lost * change * (1 - change)
    rate_lost = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = cases * (2 * rate_lost + change * (1 - change))
    if variance <= _NO_VARIANCE:
        return 0.0 if abs(difference) < _NO_VARIANCE else math.copysign(math.inf, difference)
    return difference / math.sqrt(variance)


def _bisect(above: Callable[[float], bool], low: float, high: float) -> float:
    """Where `above` turns from true to false between the two."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if above(middle) else (low, middle)
    return (low + high) / 2


def mcnemar(lost: int, gained: int) -> float:
    """McNemar's exact p, two-sided: how likely chance parts so many differing outcomes so unevenly, or more."""
    return min(1.0, 2 * fewer_gained(lost, gained)) if lost > gained else min(1.0, 2 * fewer_gained(gained, lost))


def fewer_gained(lost: int, gained: int) -> float:
    """McNemar's exact p, one-sided: how likely chance gives so few of the differing outcomes as gained, or fewer."""
    differing = lost + gained
    least = math.lgamma(differing + 1) - differing * math.log(2)
    chances = (least - math.lgamma(count + 1) - math.lgamma(differing - count + 1) for count in range(gained + 1))
    return min(1.0, math.fsum(map(math.exp, chances)))


def drop_beyond(cases: int, lost: int, gained: int, margin: float) -> float:
    """How likely so large a drop, or a larger one, is by chance where the true one is no larger than `margin`.

    The larger of the score's p, which few cases make too small, and of McNemar's exact one, which asks for any drop.
    """
    return max(NormalDist().cdf(score(cases, lost, gained, -margin)), fewer_gained(lost, gained))


def shortfall(passed: int, cases: int, least: float) -> float:
    """How likely chance lets so few cases pass, or fewer, where the true rate is `least`: exact, one-sided."""
    if not 0 < least < 1 or passed == cases:
        return 0.0 if least >= 1 and passed < cases else 1.0
    ways = math.lgamma(cases + 1)
    chances = (
        ways
        - math.lgamma(count + 1)
        - math.lgamma(cases - count + 1)
        + count * math.log(least)
        + (cases - count) * math.log1p(-least)
        for count in range(passed + 1)
    )
    return min(1.0, math.fsum(map(math.exp, chances)))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """The p of each of several tests, adjusted by Holm: all that are below 5 % are so with 95 % confidence together."""
    ordered, adjusted, largest = sorted(p_values, key=lambda name: p_values[name]), {}, 0.0
    for place, name in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - place) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def cases_to_decide(variance: float, distance: float, power: float = 0.8, z: float = Z_ONE_SIDED_95) -> int | None:
    """How many cases show with `power` on which side of a limit a mean lies; None where it lies on the limit itself.

    variance: of a single case's value; distance: from the mean to the limit. For paired outcomes without a change the
    variance is the part of them that differ: 310 cases for a margin of 2 points where that is 2 %, 773 for 5 %.
    """
    if abs(distance) < _ON_THE_LIMIT:
        return None
    needed = (z + NormalDist().inv_cdf(power)) ** 2 * variance / distance**2
    return math.ceil(needed - _ROUNDING) if needed < MOST_CASES else None


def least_cases(margin: float, z: float = Z_ONE_SIDED_95) -> int | None:
    """How many cases it takes to show a margin where not a single outcome differs; None where no number is enough."""
    return max(1, math.ceil(z * z * (1 - margin) / margin - _ROUNDING)) if margin > z * z / MOST_CASES else None
