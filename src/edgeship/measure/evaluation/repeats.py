"""What several attempts at each case say: how often all of them are right, how often one is. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgeship.measure.statistics.intervals import Interval, wilson


@dataclass(frozen=True)
class Repeats:
    """Of k attempts at a case, drawn from those that were made.

    all_pass: how likely all of them are right (pass^k). any_passes: how likely one is (pass@k).
    cases: those with at least k attempts, which this is the mean of.
    """

    k: int
    cases: int
    all_pass: float
    any_passes: float


def repeats(outcomes: Sequence[tuple[str, bool]]) -> tuple[Repeats, ...]:
    """For each k from 1 to the most attempts at a case; outcomes: (case, whether it passed), one for each attempt.

    Of n attempts with c right ones, comb(c, k) / comb(n, k) of the draws of k hold right ones alone, and
    comb(n - c, k) / comb(n, k) none: both are unbiased, where c / n to the power of k is not.
    """
    counts = _by_case(outcomes)
    found = []
    for k in range(1, max((made for _, made in counts), default=0) + 1):
        enough = [(right, made) for right, made in counts if made >= k]
        every = math.fsum(math.comb(right, k) / math.comb(made, k) for right, made in enough)
        none = math.fsum(math.comb(made - right, k) / math.comb(made, k) for right, made in enough)
        found.append(Repeats(k, len(enough), every / len(enough), 1 - none / len(enough)))
    return tuple(found)


def rate_interval(outcomes: Sequence[tuple[str, bool]]) -> Interval:
    """Wilson's 95 % interval for the rate of right answers, where attempts at a case are alike.

    As many independent answers stand for all as have the same error: between the number of cases and that of answers.
    """
    counts = _by_case(outcomes)
    answers, cases = len(outcomes), len(counts)
    right = sum(passed for _, passed in outcomes)
    if cases == answers:
        return wilson(right, answers)
    rate = right / answers
    if cases == 1:
        return wilson(rate, 1)
    # The variance of a ratio of sums over cases, each of which is drawn as a whole.
    spread = math.fsum((found - rate * made) ** 2 for found, made in counts) * cases / (cases - 1) / answers**2
    alike = rate * (1 - rate) / spread if spread else answers
    standing = min(max(alike, cases), answers) if rate not in (0.0, 1.0) else cases
    return wilson(rate * standing, standing)


def _by_case(outcomes: Sequence[tuple[str, bool]]) -> list[tuple[int, int]]:
    """(right ones, attempts) of each case."""
    counts: dict[str, tuple[int, int]] = {}
    for name, passed in outcomes:
        right, made = counts.get(name, (0, 0))
        counts[name] = (right + passed, made + 1)
    return list(counts.values())
