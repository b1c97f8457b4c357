from __future__ import annotations

import itertools
import random

import pytest

from edgeship.measure.evaluation.repeats import rate_interval, repeats
from edgeship.measure.statistics.intervals import wilson


def test_all_and_any_of_k_attempts() -> None:
    outcomes = [("a", True), ("a", True), ("b", True), ("b", False), ("c", False), ("c", False)]
    one, two = repeats(outcomes)
    assert (one.k, one.cases, one.all_pass, one.any_passes) == (1, 3, 0.5, 0.5)
    assert (two.k, two.cases) == (2, 3)
    assert two.all_pass == pytest.approx(1 / 3)
    assert two.any_passes == pytest.approx(2 / 3)


@pytest.mark.parametrize("right", range(6))
def test_they_are_what_all_draws_give(right: int) -> None:
    attempts = [number < right for number in range(5)]
    for k, found in enumerate(repeats([("a", passed) for passed in attempts]), 1):
        draws = list(itertools.combinations(attempts, k))
        assert found.all_pass == pytest.approx(sum(map(all, draws)) / len(draws))
        assert found.any_passes == pytest.approx(sum(map(any, draws)) / len(draws))


def test_cases_with_fewer_attempts_are_left_out_of_more() -> None:
    one, two = repeats([("a", True), ("a", False), ("b", True)])
    assert (one.cases, two.cases) == (2, 1)
    assert (one.all_pass, two.all_pass, two.any_passes) == (0.75, 0.0, 1.0)
    assert repeats([]) == ()


def test_an_interval_of_single_attempts_is_wilsons() -> None:
    assert rate_interval([(str(number), number < 7) for number in range(10)]) == wilson(7, 10)
    assert rate_interval([("a", True), ("a", True)]) == wilson(1, 1)


def test_attempts_that_are_alike_say_no_more_than_one() -> None:
    once = [(str(number), number < 70) for number in range(100)]
    alike = rate_interval(once * 4)
    assert alike.low == pytest.approx(wilson(70, 100).low, abs=0.005)
    assert alike.high == pytest.approx(wilson(70, 100).high, abs=0.005)
    assert rate_interval([(str(number), True) for number in range(20)] * 3) == wilson(20, 20)


def test_attempts_that_are_not_alike_say_as_much_as_cases() -> None:
    # Each case is right in exactly three of four attempts: knowing more cases would say nothing more.
    found = rate_interval([(str(number), attempt < 3) for number in range(25) for attempt in range(4)])
    assert found == wilson(75, 100)


def test_the_interval_holds_the_truth() -> None:
    draw = random.Random(1)
    held = 0
    for _ in range(400):
        outcomes = []
        for number in range(60):
            chance = draw.choice([0.1, 0.9, 0.9])
            outcomes += [(str(number), draw.random() < chance) for _ in range(3)]
        bounds = rate_interval(outcomes)
        held += bounds.low <= (0.1 + 0.9 * 2) / 3 <= bounds.high
    assert 0.92 <= held / 400 <= 0.98
