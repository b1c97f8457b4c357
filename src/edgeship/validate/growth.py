"""How much of something stays of each request, from readings at rest between blocks of the same requests. Pure.

A straight line through the readings, with errors that know nothing of each other, would be the wrong model. An
allocator takes memory in steps and keeps it: what was read once too high stays too high, so that the errors add up as
those of a random walk, and a line's interval comes out many times too narrow: one step looks like a leak beyond doubt.
What is independent is the growth from one rest to the next. Its mean over the blocks is the growth a request, and the
bootstrap over blocks says how sure that is: a step that came once in ten blocks is missing in a third of the draws, so
that the interval reaches down to nothing; a leak is in every block. (The median, or Theil and Sen's slope, would not
do: a leak of small objects shows as a step now and then, and most blocks then show nothing.)

Growth that ends is none, so the first half of all requests warms up, however many there are, and is not judged: where
one more look follows, it asks as much as all before it, so that all of what is judged then is new, and twice as far
from the beginning. That bounds the search for the end of the warm-up, which no test of few noisy values finds reliably.

The blocks of a later look are longer, not more: what comes and goes, such as a connection that is kept for a while, is
then divided by more requests, while steps that stay are as many as before in all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgeship.measure.statistics.bootstrap import MEAN, difference, interval
from edgeship.measure.statistics.intervals import Interval
from edgeship.validate.verdict import Outcome

_MOST_REQUESTS = 10_000_000


@dataclass(frozen=True)
class Blocks:
    """What was read before the first of some blocks, and after each; there are five blocks at least.

    requests: in each block. before: requests that were made before the first of them.
    """

    readings: Sequence[float]
    requests: int
    before: int = 0

    @property
    def grown(self) -> list[float]:
        """What stays of each request, by block."""
        pairs = zip(self.readings, self.readings[1:], strict=False)
        return [(after - before) / self.requests for before, after in pairs]

    @property
    def all_requests(self) -> int:
        """Those of the blocks, and those before."""
        return self.before + self.requests * (len(self.readings) - 1)


@dataclass(frozen=True)
class Growth:
    """What stays of each request or token. interval: of 95 %. requests: that were made to find it, warm-up and all."""

    figure: float
    interval: Interval
    requests: int

    def judge(self, most: float) -> Outcome:
        """Whether more than `most` stays: surely, surely not, or who knows."""
        if self.interval.low > most:
            return "fail"
        return "pass" if self.interval.high <= most else "undecided"

    def needed(self, most: float) -> int | None:
        """About how many requests would decide, since intervals shrink with their root; None for far too many."""
        half, away = (self.interval.high - self.interval.low) / 2, abs(self.figure - most)
        requests = self.requests * (half / away) ** 2 if away else math.inf
        return None if requests > _MOST_REQUESTS else max(math.ceil(requests), 2 * self.requests)


def growth(blocks: Blocks) -> Growth:
    """What stays of each request."""
    grown = blocks.grown
    found = interval(MEAN, grown)
    assert found, "five blocks are enough"
    return Growth(sum(grown) / len(grown), found, blocks.all_requests)


def growth_of_tokens(short: Blocks, long: Blocks, tokens: tuple[float, float]) -> Growth:
    """What stays of each token: how much more of a long request than of a short one, by the tokens that it has more.

    tokens: in each request of both.
    """
    first, second, more = short.grown, long.grown, tokens[1] - tokens[0]
    found = interval(difference(MEAN), first, second)
    assert found, "five blocks are enough"
    figure = sum(second) / len(second) - sum(first) / len(first)
    return Growth(figure / more, Interval(found.low / more, found.high / more), long.all_requests)
