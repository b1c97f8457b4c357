"""Bootstrap intervals: for a statistic of one sample, of two that are independent, or of two whose values are pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from edgeship.measure.statistics.intervals import Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.float64]

RESAMPLES = 4000
# The skewness of a mean of so many values shifts its interval by nothing to be seen, and takes n x n steps to find.
_MOST_LEFT_OUT = 4000
_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Statistic:
    """What is worked out of samples, along the last axis of each.

    smooth: it moves a little with each value, as a mean does. A quantile jumps from value to value.
    part: of a quantile of one sample, how much lies below it.
    least: so many values of each sample it takes for an honest 95 % interval.
    """

    name: str
    of: Callable[..., Any]
    samples: int = 1
    smooth: bool = True
    part: float | None = None
    least: int = 5


def _mean(values: Values) -> Any:
    return values.mean(axis=-1)


MEAN = Statistic("mean", _mean)


def quantile(part: float) -> Statistic:
    """The value that `part` of all values lie below, interpolated as numpy does.

    Where the largest value of a sample lies below the true quantile in more than 2.5 % of all samples, no interval
    within the sample can be one of 95 %: the 99th percentile takes 368 values, the 90th 36, the median 6.
    """
    if not 0 < part < 1:
        raise ValueError(f"no quantile lies at {part}")

    def of(values: Values) -> Any:
        import numpy as np

        return np.quantile(values, part, axis=-1)

    least = math.ceil(math.log(0.025) / math.log(max(part, 1 - part)))
    return Statistic(f"quantile {part:g}", of, smooth=False, part=part, least=least)


MEDIAN = quantile(0.5)


def ratio(statistic: Statistic) -> Statistic:
    """The statistic of the second sample, divided by that of the first."""
    return Statistic(
        f"ratio of {statistic.name}",
        lambda first, second: statistic.of(second) / statistic.of(first),
        samples=2,
        smooth=statistic.smooth,
        least=statistic.least,
    )


def difference(statistic: Statistic) -> Statistic:
    """The statistic of the second sample, less that of the first."""
    return Statistic(
        f"difference of {statistic.name}",
        lambda first, second: statistic.of(second) - statistic.of(first),
        samples=2,
        smooth=statistic.smooth,
        least=statistic.least,
    )


def interval(
    statistic: Statistic,
    *samples: Sequence[float] | Values,
    paired: bool = False,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval | None:
    """The interval of a statistic at the given confidence, or None where there is no honest one.

    There is none where a sample has less than `statistic.least` values, and for a ratio by what may as well be zero.
    paired: the samples' values belong together one by one, and are drawn together.
    seed: the same seed gives the same interval.

    Smooth statistics get BCa, widened as Student's t is for few values. A quantile of one sample needs no draws: its
    values enclose it as often as the binomial distribution says. Ratios and differences of quantiles get percentiles.
    Simulated with 1,000 samples each of normal, lognormal (sigma 0.5) and exponential values, 95 % intervals hold 92 to
    97 % of the time from 12 values on. With 5, those of means hold 85 to 92 %, of their ratios 95 to 96 %. The ratio of
    the means of pairs, each 1.1 times the other give or take 0.1, holds 90 to 95 % (exponential values: 90 to 94 %).
    """
    import numpy as np

    arrays: list[Values] = [np.asarray(sample, dtype=np.float64) for sample in samples]
    _check(statistic, arrays, paired, confidence)
    fewest = min(array.size for array in arrays)
    if fewest < statistic.least:
        return None
    if statistic.part is not None:
        return _enclosed(np.sort(arrays[0]), statistic.part, (1 - confidence) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = _drawn(statistic, arrays, paired, resamples, seed)
        found = float(statistic.of(*arrays))
        if not (np.isfinite(drawn).all() and math.isfinite(found)):
            return None
        levels = [(1 - confidence) / 2, (1 + confidence) / 2]
        if statistic.smooth:
            levels = _levels(_shift(drawn, found), _skew(statistic, arrays, paired), fewest, levels[1])
    low, high = np.quantile(drawn, levels)
    return Interval(float(low), float(high))


def _check(statistic: Statistic, arrays: list[Values], paired: bool, confidence: float) -> None:
    import numpy as np

    if len(arrays) != statistic.samples or any(array.ndim != 1 for array in arrays):
        raise ValueError(f"{statistic.name} takes {statistic.samples} lists of values; {len(arrays)} were given")
    if paired and len({array.size for array in arrays}) > 1:
        raise ValueError(f"cannot pair {arrays[0].size} values with {arrays[1].size}")
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError(f"the {statistic.name} of what is not finite has no interval")
    if not 0 < confidence < 1:
        raise ValueError(f"no interval has the confidence {confidence}")


def _enclosed(ordered: Values, part: float, tail: float) -> Interval | None:
    """The values that a quantile lies between, outside each with the probability `tail` at the most; None without such.

    So many values lie below the quantile as of so many throws show heads, where `part` of all do.
    """
    import numpy as np

    counts = np.arange(ordered.size + 1)
    factorials = np.concatenate([[0.0], np.cumsum(np.log(counts[1:]))])
    chances = np.exp(
        factorials[-1] - factorials - factorials[::-1] + counts * math.log(part) + counts[::-1] * math.log(1 - part)
    )
    low = int(np.count_nonzero(np.cumsum(chances) <= tail)) - 1
    high = ordered.size - int(np.count_nonzero(np.cumsum(chances[::-1]) <= tail))
    return Interval(float(ordered[low]), float(ordered[high])) if low >= 0 and high < ordered.size else None


def _levels(shift: float, skew: float, values: int, level: float) -> list[float]:
    """Which parts of the draws lie below the ends of BCa's interval, whose upper end is to lie at `level`.

    Draws from few values spread less than the values' source does: the interval is taken as much wider as Student's t
    lies outside the normal distribution.
    """
    wide = _t_quantile(level, values - 1) * math.sqrt(values / (values - 1))
    ends = (shift - wide, shift + wide)
    return [NormalDist().cdf(shift + end / max(1e-9, 1 - skew * end)) for end in ends]


def _drawn(statistic: Statistic, arrays: list[Values], paired: bool, resamples: int, seed: int) -> Values:
    """The statistic of so many samples drawn from the samples, with replacement."""
    import numpy as np

    random = np.random.default_rng(seed)
    drawn: list[Values] = []
    step = max(1, _AT_ONCE // max(array.size for array in arrays))
    for begin in range(0, resamples, step):
        count = min(step, resamples - begin)
        places = random.integers(0, arrays[0].size, (count, arrays[0].size))
        chosen = [arrays[0][places]]
        for array in arrays[1:]:
            if not paired:
                places = random.integers(0, array.size, (count, array.size))
            chosen.append(array[places])
        drawn.append(statistic.of(*chosen))
    return np.concatenate(drawn)


def _shift(drawn: Values, found: float) -> float:
    """How far the middle of the draws lies from what was found, in standard deviations."""
    import numpy as np

    below = (np.count_nonzero(drawn < found) + np.count_nonzero(drawn == found) / 2) / drawn.size
    return NormalDist().inv_cdf(min(max(below, 0.5 / drawn.size), 1 - 0.5 / drawn.size))


def _skew(statistic: Statistic, arrays: list[Values], paired: bool) -> float:
    """How the statistic's spread grows with it (the acceleration of BCa), by leaving out each value once."""
    import numpy as np

    if max(array.size for array in arrays) > _MOST_LEFT_OUT:
        return 0.0
    cubes = squares = 0.0
    for moved in range(1 if paired else len(arrays)):
        size = arrays[moved].size
        found: list[Values] = []
        step = max(1, _AT_ONCE // size)
        for begin in range(0, size, step):
            kept = np.arange(size - 1)
            places = kept + (kept >= np.arange(begin, min(begin + step, size))[:, None])
            left = [array[places] if paired or index == moved else array for index, array in enumerate(arrays)]
            found.append(statistic.of(*left))
        without = np.concatenate(found)
        influence = (without.mean() - without) * (size - 1) / size
        cubes += float((influence**3).sum())
        squares += float((influence**2).sum())
    return cubes / (6 * squares**1.5) if squares > 0 else 0.0


def _t_quantile(part: float, freedom: int) -> float:
    """Student's t at `part`, from its series about the normal distribution; exact for one and two degrees."""
    if freedom == 1:
        return math.tan(math.pi * (part - 0.5))
    if freedom == 2:
        return (2 * part - 1) * math.sqrt(2 / (4 * part * (1 - part)))
    z = NormalDist().inv_cdf(part)
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * freedom**4)
    )
