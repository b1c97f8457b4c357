from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import xlogy
from scipy.stats import binom

from edgeship.measure.statistics.intervals import (
    cases_to_decide,
    fewer_gained,
    holm,
    least_cases,
    mcnemar,
    paired_change,
    shortfall,
    tango,
    wilson,
)

outcomes = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("passed", "total", "low", "high"),
    [
        # Published: Newcombe 1998, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (8, 10, 0.4902, 0.9433),
    ],
)
def test_wilson_as_published(passed: int, total: int, low: float, high: float) -> None:
    interval = wilson(passed, total)
    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


def test_wilson_of_nothing_says_nothing() -> None:
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)


@given(st.integers(1, 500).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_wilson_holds_the_rate(case: tuple[int, int]) -> None:
    passed, total = case
    interval = wilson(passed, total)
    assert 0 <= interval.low <= passed / total <= interval.high <= 1
    mirrored = wilson(total - passed, total)
    assert mirrored.low == pytest.approx(1 - interval.high)


def test_paired_change() -> None:
    # 12 only the reference passes, 2 only the candidate, 84 both, 2 neither.
    reference = [True] * 12 + [False] * 2 + [True] * 84 + [False] * 2
    candidate = [False] * 12 + [True] * 2 + [True] * 84 + [False] * 2
    change = paired_change(reference, candidate)
    assert (change.cases, change.lost, change.gained, change.change) == (100, 12, 2, -0.10)
    assert change.interval == tango(100, 12, 2)
    assert change.interval.low < change.bounds.low < -0.10 < change.bounds.high < change.interval.high


def score_by_search(cases: int, lost: int, gained: int, change: float) -> float:
    """The score with the likeliest rates found by maximising the likelihood, instead of by Tango's formula."""

    def unlikely(rate_lost: float) -> float:
        rate_gained = rate_lost + change
        same = 1 - rate_lost - rate_gained
        return -float(xlogy(lost, rate_lost) + xlogy(gained, rate_gained) + xlogy(cases - lost - gained, same))

    low, high = max(0.0, -change), (1 - change) / 2
    rate: float = minimize_scalar(unlikely, bounds=(low, high), method="bounded", options={"xatol": 1e-10}).x
    return (gained - lost - cases * change) / math.sqrt(cases * (2 * rate + change - change**2))


@pytest.mark.parametrize(
    ("cases", "lost", "gained"), [(100, 12, 2), (324, 7, 3), (50, 1, 0), (44, 1, 1), (30, 9, 14), (200, 0, 5)]
)
@pytest.mark.parametrize("z", [1.644854, 1.959964])
def test_an_intervals_ends_lie_z_likeliest_errors_away(cases: int, lost: int, gained: int, z: float) -> None:
    found = tango(cases, lost, gained, z)
    assert score_by_search(cases, lost, gained, found.low) == pytest.approx(z, abs=1e-4)
    assert score_by_search(cases, lost, gained, found.high) == pytest.approx(-z, abs=1e-4)


def held(cases: int, differing: float, change: float) -> tuple[float, float, float]:
    """How often the interval of 95 % and the two bounds of 95 % hold the true change: exactly, over all outcomes."""
    lose, gain = (differing - change) / 2, (differing + change) / 2
    both = above = below = 0.0
    for count in range(cases + 1):
        if (weight := float(binom.pmf(count, cases, differing))) < 1e-7:
            continue
        for lost in range(count + 1):
            if (likely := weight * float(binom.pmf(lost, count, lose / (lose + gain)))) < 1e-7:
                continue
            found, bounds = (tango(cases, lost, count - lost, z) for z in (1.959964, 1.644854))
            both += likely * (found.low <= change <= found.high)
            above += likely * (bounds.low <= change)
            below += likely * (change <= bounds.high)
    return both, above, below


@pytest.mark.parametrize(
    ("cases", "differing", "change"),
    [(100, 0.05, 0.0), (100, 0.1, -0.02), (200, 0.05, -0.02), (324, 0.03, -0.02), (324, 0.02, 0.0), (60, 0.2, -0.05)],
)
def test_95_percent_are_93_to_97(cases: int, differing: float, change: float) -> None:
    """Agresti and Min's bound, of 324 cases of which 2 % differ at a true drop of 2 points, held but 89 %."""
    assert all(0.93 <= share <= 0.97 for share in held(cases, differing, change))


@pytest.mark.parametrize(("rate", "total"), [(0.8, 324), (0.95, 324), (0.5, 60), (0.9, 150), (0.3, 40)])
def test_wilson_holds_95_percent(rate: float, total: int) -> None:
    shares = [0.0, 0.0, 0.0]
    for passed in range(total + 1):
        likely = float(binom.pmf(passed, total, rate))
        found, bounds = wilson(passed, total), wilson(passed, total, 1.644854)
        holds = (found.low <= rate <= found.high, bounds.low <= rate, rate <= bounds.high)
        shares = [share + likely * right for share, right in zip(shares, holds, strict=True)]
    assert all(0.93 <= share <= 0.97 for share in shares)


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (7, 3), (3, 7), (5, 5), (20, 2), (400, 330), (5200, 4800)])
def test_mcnemar_as_scipy_finds_it(lost: int, gained: int) -> None:
    expected = scipy.stats.binomtest(lost, lost + gained, 0.5).pvalue if lost + gained else 1.0
    assert mcnemar(lost, gained) == pytest.approx(expected)
    one_sided = scipy.stats.binomtest(gained, lost + gained, 0.5, "less").pvalue if lost + gained else 1.0
    assert fewer_gained(lost, gained) == pytest.approx(one_sided)


def test_holm_by_hand() -> None:
    assert holm({"a": 0.04, "b": 0.01, "c": 0.03, "d": 0.5}) == pytest.approx(
        {"a": 0.09, "b": 0.04, "c": 0.09, "d": 0.5}
    )
    assert holm({}) == {}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_raises_each_and_keeps_their_order(values: list[float]) -> None:
    adjusted = holm({str(index): value for index, value in enumerate(values)})
    for index, value in enumerate(values):
        assert value <= adjusted[str(index)] <= min(1.0, len(values) * value) + 1e-12
        assert all(adjusted[str(index)] <= adjusted[str(j)] for j, other in enumerate(values) if value < other)


@pytest.mark.parametrize(("differing", "cases"), [(0.02, 310), (0.05, 773), (0.10, 1546)])
def test_how_many_cases_show_that_two_points_are_not_lost(differing: float, cases: int) -> None:
    assert cases_to_decide(differing, 0.02) == cases


def test_so_many_cases_decide_as_often_as_they_are_said_to() -> None:
    """With 80 % power: 773 cases of which 5 % differ without a change hold a margin of 2 points four times in five."""
    random, cases = np.random.default_rng(1), 773
    outcomes = random.multinomial(cases, [0.025, 0.025, 0.95], 1000)
    holds = [tango(cases, int(lost), int(gained), 1.644854).low >= -0.02 for lost, gained, _ in outcomes]
    assert 0.77 <= np.mean(holds) <= 0.83


@pytest.mark.parametrize(("variance", "distance"), [(0.05, 0.0), (0.05, 1e-8), (math.inf, 0.1)])
def test_what_no_number_of_cases_decides(variance: float, distance: float) -> None:
    assert cases_to_decide(variance, distance) is None


@pytest.mark.parametrize("margin", [0.01, 0.02, 0.1, 0.5])
def test_the_least_number_of_cases_just_suffices(margin: float) -> None:
    least = least_cases(margin)
    assert least is not None
    assert tango(least, 0, 0, 1.644854).low >= -margin > tango(least - 1, 0, 0, 1.644854).low
    assert wilson(least, least, 1.644854).low >= 1 - margin > wilson(least - 1, least - 1, 1.644854).low


def test_no_number_shows_that_there_is_no_drop_at_all() -> None:
    assert (least_cases(0.0), least_cases(1.0)) == (None, 1)


def test_no_difference_is_not_certainty() -> None:
    few, many = paired_change([True] * 5, [True] * 5), paired_change([True] * 500, [True] * 500)
    assert few.change == many.change == 0
    assert few.interval.low < -0.2
    assert -0.01 < many.interval.low < 0 < many.interval.high < 0.01


@given(outcomes)
def test_swapping_the_two_turns_the_change_round(pairs: list[tuple[bool, bool]]) -> None:
    left, right = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    there, back = paired_change(left, right), paired_change(right, left)
    assert there.change == -back.change
    assert there.interval.low == pytest.approx(-back.interval.high, abs=1e-9)
    assert -1 <= there.interval.low <= there.change <= there.interval.high <= 1


@pytest.mark.parametrize(("reference", "candidate"), [([True], []), ([], [])])
def test_what_cannot_be_paired_is_refused(reference: list[bool], candidate: list[bool]) -> None:
    with pytest.raises(ValueError, match="cannot pair"):
        paired_change(reference, candidate)


@given(st.integers(1, 3000), st.floats(0.01, 0.99), st.data())
def test_a_shortfall_is_the_lower_tail_of_the_binomial(cases: int, least: float, data: st.DataObject) -> None:
    passed = data.draw(st.integers(0, cases))
    assert shortfall(passed, cases, least) == pytest.approx(binom.cdf(passed, cases, least), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(("passed", "least", "p"), [(0, 0.0, 1.0), (3, 1.0, 1.0), (2, 1.0, 0.0)])
def test_a_shortfall_of_rates_without_chance_is_sure(passed: int, least: float, p: float) -> None:
    assert shortfall(passed, 3, least) == p
