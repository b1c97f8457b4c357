"""How much of something stays of each request, from readings at rest between blocks of the same requests. Pure.

A straight line through the readings, with errors that know nothing of each other, would be the wrong model. An
allocator takes memory in steps and keeps it: what was read once too high stays too high, so that the errors add up as
those of a random walk, and a line's interval comes out many times too narrow: one step looks like a leak beyond doubt.
What is independent is the growth from one rest to the next. Its mean over the blocks is the growth a request, and the
bootstrap over blocks says how sure that is: a step that came once in ten blocks is missing in a third of the draws, so
that the interval reaches down to nothing; a leak is in every block. (The median, or Theil and Sen's slope, would not do:
a leak of small objects shows as a step now and then, and most blocks then show nothing.)

Growth that ends is none. The first half of all blocks warms up, however many there are, and is not judged: where a
first look is followed by one twice as long, all of what is judged then is new, and twice as far from the beginning.
That bounds the search for the end of the warm-up, which no test of few noisy values finds reliably.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgeship.measure.statistics.bootstrap import MEAN, difference, interval
from edgeship.measure.statistics.intervals import Interval
from edgeship.validate.verdict import Outcome

LEAST_BLOCKS = 2 * MEAN.least
"""So many blocks it takes for an interval: half of them are judged."""
_MOST_REQUESTS = 10_000_000


@dataclass(frozen=True)
class Growth:
    """What stays of each request, or of each token. interval: of 95 %. requests: that were made to find it, warm-up and all."""

    figure: float
    interval: Interval
    requests: int

    def judge(self, most: float) -> Outcome:
        """Whether more than `most` stays: surely, surely not, or who knows."""
        if self.interval.low > most:
            return "fail"
        return "pass" if self.interval.high <= most else "undecided"

    def needed(self, most: float) -> int | None:
        """About how many requests would decide, since intervals become narrower by their root; None for far too many."""
        half, away = (self.interval.high - self.interval.low) / 2, abs(self.figure - most)
        requests = self.requests * (half / away) ** 2 if away else math.inf
        return None if requests > _MOST_REQUESTS else max(math.ceil(requests), 2 * self.requests)


def growth(readings: Sequence[float], requests: int) -> Growth:
    """What stays of each request. readings: before the first block, and after each. requests: in each block."""
    judged = _judged(readings)
    found = interval(MEAN, judged)
    assert found, "LEAST_BLOCKS are enough"
    return Growth(
        sum(judged) / len(judged) / requests,
        Interval(found.low / requests, found.high / requests),
        requests * (len(readings) - 1),
    )


def growth_of_tokens(
    short: Sequence[float], long: Sequence[float], requests: int, tokens: tuple[float, float]
) -> Growth:
    """What stays of each token: how much more of a long request than of a short one, by the tokens that it has more.

    short, long, requests: as for `growth`. tokens: in each request of both.
    """
    first, second = _judged(short), _judged(long)
    found = interval(difference(MEAN), first, second)
    assert found, "LEAST_BLOCKS are enough"
    more = (tokens[1] - tokens[0]) * requests
    figure = sum(second) / len(second) - sum(first) / len(first)
    return Growth(figure / more, Interval(found.low / more, found.high / more), requests * (len(long) - 1))


def _judged(readings: Sequence[float]) -> list[float]:
    """How much was grown in each block of the later half."""
    grown = [after - before for before, after in zip(readings, readings[1:], strict=False)]
    assert len(grown) >= LEAST_BLOCKS
    return grown[len(grown) // 2 :]
