"""Bootstrap intervals hold what they say, and refuse what they cannot say."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeship.measure.statistics.bootstrap import (
    MEAN,
    MEDIAN,
    Statistic,
    _t_quantile,
    difference,
    interval,
    quantile,
    ratio,
)
from edgeship.measure.statistics.intervals import Interval

Source = Callable[[np.random.Generator, int], Any]
SAMPLES = 400


def normal(random: np.random.Generator, size: int) -> Any:
    return random.normal(10.0, 2.0, size)


def skewed(random: np.random.Generator, size: int) -> Any:
    return random.lognormal(0.0, 0.5, size)


def coverage(statistic: Statistic, source: Source, size: int, truth: float, *, paired: bool = False) -> float:
    """In how many samples' intervals the truth lies; a second sample is half as large again as the first, or paired."""
    random, held = np.random.default_rng(1), 0
    for _ in range(SAMPLES):
        samples = [source(random, size)]
        if paired:
            samples.append(samples[0] * random.normal(1.1, 0.1, size))
        elif statistic.samples == 2:
            samples.append(source(random, size + size // 2))
        found = interval(statistic, *samples, paired=paired, resamples=800)
        assert found is not None
        held += bool(found.low <= truth <= found.high)
    return held / SAMPLES


@pytest.mark.parametrize(
    ("statistic", "source", "size", "truth"),
    [
        (MEAN, normal, 12, 10.0),
        (MEAN, skewed, 50, math.exp(0.125)),
        (MEDIAN, skewed, 30, 1.0),
        (MEDIAN, normal, 61, 10.0),
        (quantile(0.9), normal, 100, 10 + 2 * 1.2815516),
        (difference(MEAN), normal, 20, 0.0),
        (ratio(MEAN), skewed, 20, 1.0),
        (ratio(MEDIAN), skewed, 20, 1.0),
    ],
    ids=lambda value: value.name if isinstance(value, Statistic) else getattr(value, "__name__", None),
)
def test_95_percent_are_about_95(statistic: Statistic, source: Source, size: int, truth: float) -> None:
    assert 0.93 <= coverage(statistic, source, size, truth) <= 0.98


def test_95_percent_of_pairs_are_about_95() -> None:
    assert 0.93 <= coverage(ratio(MEAN), normal, 30, 1.1, paired=True) <= 0.97


def test_as_scipy_finds_it() -> None:
    values = skewed(np.random.default_rng(2), 200)
    ours = interval(MEAN, values, resamples=20000)
    theirs = scipy.stats.bootstrap((values,), np.mean, n_resamples=20000, method="BCa", rng=3).confidence_interval
    assert ours is not None
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_two_samples_as_scipy_finds_them() -> None:
    random = np.random.default_rng(4)
    first, second = skewed(random, 150), 2 * skewed(random, 250)
    ours = interval(ratio(MEAN), first, second, resamples=20000)
    theirs = scipy.stats.bootstrap(
        (first, second), lambda a, b, axis: b.mean(axis) / a.mean(axis), n_resamples=20000, method="BCa", rng=5
    ).confidence_interval
    assert ours is not None
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.015)


def test_pairs_see_what_independent_samples_do_not() -> None:
    first = np.random.default_rng(6).lognormal(0.0, 1.0, 40)
    second = 1.05 * first
    pairs, apart = interval(ratio(MEAN), first, second, paired=True), interval(ratio(MEAN), first, second)
    assert pairs is not None
    assert apart is not None
    assert (pairs.low, pairs.high) == pytest.approx((1.05, 1.05))
    assert apart.low < 0.8 < 1.3 < apart.high


def test_the_same_seed_gives_the_same() -> None:
    values = [1.0, 2.0, 4.0, 4.5, 7.0, 9.0]
    assert interval(MEAN, values, seed=1) == interval(MEAN, values, seed=1) != interval(MEAN, values, seed=2)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=12, max_size=30),
    st.sampled_from([MEAN, MEDIAN, quantile(0.6)]),
    st.booleans(),
)
def test_an_interval_lies_within_the_values(values: list[float], statistic: Statistic, wide: bool) -> None:
    found = interval(statistic, values, confidence=0.99 if wide else 0.8, resamples=200)
    assert found is not None
    slack = 1e-9 * max(map(abs, values))
    assert min(values) - slack <= found.low <= found.high <= max(values) + slack


def test_what_does_not_vary_has_no_width() -> None:
    assert interval(MEAN, [3.0] * 9) == Interval(3.0, 3.0)
    assert interval(ratio(MEAN), [2.0] * 9, [3.0] * 9) == Interval(1.5, 1.5)


@pytest.mark.parametrize(("part", "size"), [(0.5, 6), (0.5, 31), (0.9, 100), (0.99, 1000), (0.05, 300)])
def test_a_quantile_lies_between_values_as_the_binomial_distribution_says(part: float, size: int) -> None:
    found = interval(quantile(part), range(size))
    assert found is not None
    below = scipy.stats.binom(size, part)
    assert below.cdf(found.low) <= 0.025 < below.cdf(found.low + 1)
    assert below.sf(found.high) <= 0.025 < below.sf(found.high - 1)


@pytest.mark.parametrize(("part", "least"), [(0.5, 6), (0.9, 36), (0.99, 368), (0.1, 36)])
def test_a_quantile_takes_enough_values(part: float, least: int) -> None:
    statistic = quantile(part)
    assert statistic.least == least
    assert interval(statistic, range(least - 1)) is None
    assert interval(statistic, range(least), resamples=100) is not None


def test_a_ratio_by_what_may_be_zero_has_no_interval() -> None:
    assert interval(ratio(MEDIAN), [0.0] * 5 + [1.0] * 5, [1.0] * 10) is None


def test_a_large_sample_is_drawn_piece_by_piece() -> None:
    values = np.random.default_rng(7).normal(5.0, 1.0, 300_000)
    found = interval(MEAN, values, resamples=50)
    assert found is not None
    assert 4.99 < found.low < found.high < 5.01


@pytest.mark.parametrize(
    ("statistic", "samples", "changes", "said"),
    [
        (MEAN, ([1.0], [2.0]), {}, "mean takes 1 lists of values; 2 were given"),
        (ratio(MEAN), ([1.0] * 9, [1.0] * 8), {"paired": True}, "cannot pair 9 values with 8"),
        (MEAN, ([1.0, math.nan],), {}, "not finite"),
        (MEAN, ([1.0] * 9,), {"confidence": 95}, "confidence 95"),
    ],
)
def test_what_has_no_interval_is_refused(statistic: Statistic, samples: Any, changes: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        interval(statistic, *samples, **changes)


@pytest.mark.parametrize("part", [0.0, 1.0, 95])
def test_what_is_no_quantile_is_refused(part: float) -> None:
    with pytest.raises(ValueError, match="no quantile"):
        quantile(part)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 8, 20, 100, 10_000])
@pytest.mark.parametrize("part", [0.9, 0.95, 0.975])
def test_students_t(freedom: int, part: float) -> None:
    assert _t_quantile(part, freedom) == pytest.approx(scipy.stats.t.ppf(part, freedom), rel=0.01)
