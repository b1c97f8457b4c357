"""95 % intervals for rates and for the change of a rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Z_95 = 1.959964


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
    """

    cases: int
    lost: int
    gained: int
    change: float
    interval: Interval


def wilson(passed: int, total: int, z: float = Z_95) -> Interval:
    """Wilson's score interval for the rate `passed` / `total`; 0 to 1 where total is 0."""
    if total == 0:
        return Interval(0.0, 1.0)
    rate, weight = passed / total, z * z / total
    centre = (rate + weight / 2) / (1 + weight)
    half = z * math.sqrt(rate * (1 - rate) / total + weight / (4 * total)) / (1 + weight)
    return Interval(
        0.0 if passed == 0 else max(0.0, centre - half), 1.0 if passed == total else min(1.0, centre + half)
    )


def paired_change(reference: Sequence[bool], candidate: Sequence[bool], z: float = Z_95) -> PairedChange:
    """The change of the pass rate, with Agresti and Min's interval.

    Its half a case added to every cell keeps the interval honest where hardly any outcome differs.
    reference, candidate: the outcome of each case, in the same order.
    """
    if len(reference) != len(candidate) or not reference:
        raise ValueError(f"cannot pair {len(reference)} outcomes with {len(candidate)}")
    pairs = list(zip(reference, candidate, strict=True))
    cases, lost, gained = len(pairs), pairs.count((True, False)), pairs.count((False, True))
    adjusted = cases + 2
    centre = (gained - lost) / adjusted
    half = z * math.sqrt((gained + lost + 1) - (gained - lost) ** 2 / adjusted) / adjusted
    return PairedChange(
        cases,
        lost,
        gained,
        (gained - lost) / cases,
        Interval(max(-1.0, centre - half), min(1.0, centre + half)),
    )
