"""What holds, what fails, and how many cases more would tell."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeship.measure.statistics.intervals import Interval, PairedChange, paired_change, wilson
from edgeship.measure.statistics.noninferiority import (
    Finding,
    of_change,
    of_mean,
    of_rate,
    of_scores,
    of_share,
    of_slice_changes,
    of_slice_rates,
    poor_slices,
    together,
    worse_slices,
)


def change(cases: int, lost: int, gained: int) -> PairedChange:
    return paired_change(
        [True] * lost + [False] * gained + [True] * (cases - lost - gained),
        [False] * lost + [True] * gained + [True] * (cases - lost - gained),
    )


@pytest.mark.parametrize(
    ("cases", "lost", "gained", "outcome", "within"),
    [
        (324, 0, 0, "holds", True),
        (324, 2, 0, "holds", True),
        (324, 7, 3, "undecided", True),
        (324, 12, 2, "undecided", False),
        (324, 25, 2, "fails", False),
        (100, 0, 0, "undecided", True),
    ],
)
def test_a_margin_of_two_points(cases: int, lost: int, gained: int, outcome: str, within: bool) -> None:
    found = of_change(change(cases, lost, gained), 0.02)
    assert (found.outcome, found.within) == (outcome, within)
    assert (found.more is not None) == (outcome == "undecided")


def test_so_many_more_decide() -> None:
    """7 lost and 3 gained of 324: 6.18 x (10/324 - (4/324)^2) / (2/100 - 4/324)^2 cases are needed in all."""
    found = of_change(change(324, 7, 3), 0.02)
    assert found.more == math.ceil(6.1826 * (10 / 324 - (4 / 324) ** 2) / (0.02 - 4 / 324) ** 2) - 324
    # Ten times as many cases that are alike are enough.
    assert of_change(change(3240, 70, 30), 0.02).outcome == "holds"


def test_where_nothing_differs_the_rule_of_three_says_how_many() -> None:
    found = of_change(change(100, 0, 0), 0.02)
    assert (found.more, found.hopeless) == (33, True)
    assert of_change(change(133, 0, 0), 0.02).outcome == "holds"


def test_that_nothing_at_all_is_lost_is_meant_of_the_cases_that_there_are() -> None:
    assert [of_change(change(1000, 0, gained), 0.0).outcome for gained in (0, 9)] == ["holds", "holds"]
    assert of_change(change(1000, 3, 3), 0.0).outcome == "holds"
    assert of_change(change(1000, 30, 0), 0.0).outcome == "fails"
    found = of_change(change(1000, 1, 0), 0.0)
    assert (found.outcome, found.within, found.hopeless) == ("undecided", False, False)
    assert found.more is not None


@pytest.mark.parametrize(
    ("passed", "cases", "least", "outcome"),
    [
        (300, 324, 0.8, "holds"),
        (262, 324, 0.8, "undecided"),
        (240, 324, 0.8, "fails"),
        (2, 2, 0.8, "undecided"),
        (0, 5, 0.0, "holds"),
        (5, 5, 1.0, "holds"),
        (499, 500, 1.0, "fails"),
    ],
)
def test_a_rate(passed: int, cases: int, least: float, outcome: str) -> None:
    found = of_rate(passed, cases, least)
    assert (found.outcome, found.within) == (outcome, passed >= least * cases)


@pytest.mark.parametrize(("agreed", "outcome"), [(190, "holds"), (184, "undecided"), (170, "fails"), (200, "holds")])
def test_a_share_is_judged_by_its_own_interval(agreed: int, outcome: str) -> None:
    found = of_share(agreed / 200, wilson(agreed, 200), 200, 0.9)
    assert found.outcome == outcome == of_rate(agreed, 200, 0.9).outcome
    # Where positions are so alike that 200 say no more than 20 would, little is decided.
    assert of_share(agreed / 200, wilson(agreed // 10, 20), 200, 0.9).outcome == "undecided"


@pytest.mark.parametrize(
    ("mean", "error", "outcome"),
    [
        (0.05, 0.01, "holds"),
        (0.09, 0.01, "undecided"),
        (0.2, 0.01, "fails"),
        (0.1, 0.0, "holds"),
        (0.05, None, "undecided"),
    ],
)
def test_a_mean(mean: float, error: float | None, outcome: str) -> None:
    assert of_mean(mean, error, 200, 0.1).outcome == outcome


def scores(
    random: np.random.Generator, cases: int, differing: float, mean_change: float
) -> tuple[list[float], list[float]]:
    """Scores from 0 to 1 of which some differ, by `mean_change` on average."""
    reference = random.uniform(0.3, 0.7, cases)
    moved = random.random(cases) < differing
    return list(reference), list(reference + moved * (mean_change / differing + random.uniform(-0.3, 0.3, cases)))


@pytest.mark.parametrize(("cases", "differing"), [(60, 0.5), (200, 0.1), (200, 0.02), (30, 1.0)])
def test_scores_that_fell_by_the_margin_hold_in_no_more_than_5_percent(cases: int, differing: float) -> None:
    random = np.random.default_rng(1)
    drop = 0.1 * differing
    found = [of_scores(*scores(random, cases, differing, -drop), drop).outcome for _ in range(200)]
    assert found.count("holds") <= 0.07 * len(found)
    assert found.count("fails") <= 0.07 * len(found)


def test_scores_that_did_not_fall_hold() -> None:
    random = np.random.default_rng(2)
    found = of_scores(*scores(random, 400, 0.5, 0.0), 0.05)
    assert found.outcome == "holds"
    assert of_scores([0.9] * 50, [0.2] * 50, 0.1).outcome == "fails"


def test_a_few_scores_that_are_all_the_same_show_nothing() -> None:
    found = of_scores([1.0] * 6, [1.0] * 6, 0.02)
    assert (found.outcome, found.within, found.hopeless, found.more) == ("undecided", True, True, 127)
    assert of_scores([1.0] * 2, [0.0] * 2, 0.02).bounds == Interval(-1.0, 1.0)


@pytest.mark.parametrize(("reference", "candidate"), [([0.5], []), ([], [])])
def test_scores_that_do_not_pair_are_refused(reference: list[float], candidate: list[float]) -> None:
    with pytest.raises(ValueError, match="cannot pair"):
        of_scores(reference, candidate, 0.02)


def finding(outcome: str, *, within: bool = True, more: int | None = None) -> Finding:
    return Finding(outcome, 0.0, 0.0, Interval(0, 0), within, more)  # type: ignore[arg-type]


def test_of_several_the_worst_decides() -> None:
    holds, fails = finding("holds"), finding("fails", within=False)
    soon, late, never = (finding("undecided", more=more) for more in (10, 1000, None))
    assert together([holds, fails, late]) is fails
    assert together([soon, holds, late]) is late
    assert together([late, never]) is never
    assert together([holds]) is holds


def test_a_slice_needs_more_than_bad_luck() -> None:
    slices = {"a": change(100, 25, 0), "b": change(100, 1, 0), "c": change(8, 1, 0), "d": change(100, 6, 0)}
    found = worse_slices(slices, 0.02)
    assert list(found) == ["a"]
    assert found["a"] < 0.001
    # What one slice alone would show is not shown where many are looked at.
    alone = worse_slices({"d": change(100, 7, 0)}, 0.02)
    assert list(alone) == ["d"]
    assert worse_slices({"d": change(100, 7, 0)} | {str(n): change(100, 1, 1) for n in range(20)}, 0.02) == {}


def test_a_poor_slice_is_named_unless_it_may_be_bad_luck() -> None:
    found = poor_slices({"a": (3, 20), "b": (8, 20), "c": (0, 3), "d": (19, 20)}, 0.5)
    assert list(found) == ["a"]
    assert poor_slices({"c": (0, 6)}, 0.5)
    assert not poor_slices({"c": (0, 6)} | {str(number): (6, 6) for number in range(9)}, 0.5)


def test_a_slice_that_would_fail_as_the_only_one_is_undecided_among_several() -> None:
    found = of_slice_rates({"a": (0, 5), "b": (9, 60), "c": (60, 60), "d": (1, 3)}, 0.5)
    assert {name: (of.outcome, of.is_beyond) for name, of in found.items()} == {
        "a": ("undecided", True),
        "b": ("fails", True),
        "c": ("holds", False),
        "d": ("undecided", False),
    }
    # With as many more it is one of the poor slices, whatever stands beside it.
    more = found["a"].more
    assert more
    assert list(poor_slices({"a": (0, 5 + more), "c": (60, 60), "d": (1, 3), "e": (60, 60)}, 0.5)) == ["a"]


def test_a_slice_that_lost_all_its_few_cases_is_undecided_among_several() -> None:
    found = of_slice_changes({"a": change(4, 4, 0), "b": change(100, 25, 0), "c": change(100, 1, 0)}, 0.02)
    assert [of.outcome for of in found.values()] == ["undecided", "fails", "undecided"]
    assert [of.is_beyond for of in found.values()] == [True, True, False]
    more = found["a"].more
    assert more
    assert list(worse_slices({"a": change(4 + more, 4 + more, 0), "b": change(9, 0, 0), "c": change(9, 0, 0)}, 0.02))
