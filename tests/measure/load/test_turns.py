from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.measure.load import turns
from edgeship.measure.load.doubts import Expected
from edgeship.measure.load.driver import Driven, Load
from edgeship.measure.load.figures import NEEDED
from edgeship.measure.load.levels import Level
from edgeship.measure.load.records import Failure
from edgeship.measure.load.turns import FIGURES, LEAST_TURNS, Compared, compared
from edgeship.measure.load.watch import Cost
from tests.measure.load.samples import record

COST = Cost(wall_s=2.0, here=True, cpu_s=3.0, joules=6.0, rss_peak_bytes=10**8, processes=1)
FAILED = Failure("timeout", "too late")


def turn(firsts: Sequence[float], *, gap_s: float = 0.1, cost: Cost | None = COST, failed: int = 0) -> Driven:
    """Requests of four tokens each, whose first ones came so late."""
    seen = [record([first + gap_s * step for step in range(4)], number=number) for number, first in enumerate(firsts)]
    seen += [record([9.0], failure=FAILED)] * failed
    return Driven(tuple(seen), 2.0, cost=cost)


def level(driven: Sequence[Driven]) -> Level:
    return Level(Load(1), tuple(driven), Expected())


def drawn(seed: int, count: int, often: int = LEAST_TURNS, times: float = 1.0) -> list[list[float]]:
    """TTFTs of several turns, each of which was slow or fast as a whole."""
    random = np.random.default_rng(seed)
    pace = np.random.default_rng(99).lognormal(0, 0.5, often)
    return [list(times * pace[number] * random.uniform(0.9, 1.1, count)) for number in range(often)]


A, B = drawn(1, 20), drawn(2, 20, times=1.5)
BOTH = level([turn(firsts) for firsts in A]), level([turn(firsts) for firsts in B])


@pytest.fixture(scope="module")
def found() -> dict[str, Compared]:
    return compared(*BOTH)


def test_figures_and_ratios_are_those_of_the_raw_records(found: dict[str, Compared]) -> None:
    a, b = np.concatenate(A), np.concatenate(B)
    for name, of in (("mean", np.mean), ("p50", np.median), ("p90", lambda values: np.percentile(values, 90))):
        one = found[f"ttft_{name}"]
        assert (one.a, one.b) == pytest.approx((of(a), of(b)))
        assert one.ratio == pytest.approx(of(b) / of(a))
    assert found["tpot_mean"].a == pytest.approx(0.1)
    assert found["itl_p95"].ratio == pytest.approx(1.0)
    assert found["output_tokens_per_s"].a == pytest.approx(20 * 4 / 2.0)
    assert found["requests_per_s"].a == pytest.approx(10)
    assert found["cpu_s_per_token"].b == pytest.approx(3 / 80)
    assert found["joules_per_token"].b == pytest.approx(6 / 80)
    assert found["rss_peak"].a == 10**8
    assert set(found) == set(FIGURES)


def test_what_slowed_both_targets_down_makes_their_ratio_no_less_sure(found: dict[str, Compared]) -> None:
    one = found["ttft_mean"]
    assert one.ratio_interval
    assert one.b_interval
    assert 1.4 < one.ratio_interval.low <= 1.5 <= one.ratio_interval.high < 1.6
    # The turns themselves differ by far more.
    assert one.b_interval.high > 1.5 * one.b_interval.low


def test_a_level_beside_itself_is_once_as_much() -> None:
    for one in compared(BOTH[0], BOTH[0]).values():
        if one.ratio is not None:
            assert one.ratio == 1.0
            assert one.ratio_interval
            assert (one.ratio_interval.low, one.ratio_interval.high) == pytest.approx((1.0, 1.0))


def test_few_turns_have_a_ratio_and_no_interval() -> None:
    few = [level([turn(firsts) for firsts in side[:4]]) for side in (A, B)]
    one = compared(few[0], few[1])["ttft_p50"]
    assert one.ratio
    assert (one.ratio_interval, one.why) == (None, "4 turns are too few for an interval; it takes 5")


def test_a_percentile_that_the_requests_do_not_carry_has_no_ratio(found: dict[str, Compared]) -> None:
    one = found["ttft_p99"]
    assert (one.a, one.b, one.ratio) == (None, None, None)
    assert one.why == f"A: it takes {NEEDED[99] - 100} requests more"
    assert one.to_dict()["ratio_interval"] is None


def test_a_figure_that_is_refused_of_one_target_has_no_ratio() -> None:
    merged = level(
        [
            Driven(tuple(replace(one, reply=replace(one.reply, output_tokens=8)) for one in driven.records), 2.0)
            for driven in BOTH[1].repeats
        ]
    )
    found = compared(BOTH[0], merged)
    assert found["tpot_mean"].why == "B: it is refused (merged-chunks)"
    assert found["ttft_mean"].ratio
    assert found["cpu_s_per_token"].why == "B: no request shows it"


def test_what_was_not_seen_of_a_process_says_why() -> None:
    blind = replace(COST, joules=None, unknown={"joules": "no counter"})
    found = compared(level([turn(firsts, cost=blind) for firsts in A]), BOTH[1])
    assert found["joules_per_token"].why == "A: no counter"
    assert found["joules_per_token"].b == pytest.approx(6 / 80)


def test_errors_are_a_part_of_all_requests() -> None:
    failing = level([turn(firsts, failed=5) for firsts in B])
    one = compared(BOTH[0], failing)["errors"]
    assert (one.a, one.ratio) == (0.0, None)
    assert one.b == pytest.approx(0.2)
    assert one.why == "A: it is 0, so nothing is a multiple of it"
    assert one.b_interval
    assert (one.b_interval.low, one.b_interval.high) == pytest.approx((0.2, 0.2))


def test_a_target_that_fails_in_most_turns_has_no_interval() -> None:
    ill = level([turn(firsts if number == 0 else [], failed=20) for number, firsts in enumerate(B)])
    one = compared(BOTH[0], ill)["ttft_p50"]
    assert one.ratio
    assert one.ratio_interval is None


Turns = st.lists(st.lists(st.floats(0.001, 100.0), min_size=1, max_size=9), min_size=1, max_size=6)


@given(Turns, st.sampled_from([0.5, 0.9, 0.99]), st.data())
def test_quantiles_of_drawn_turns_are_those_of_all_their_values(
    values: list[list[float]], part: float, data: Any
) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(values) - 1), min_size=1, max_size=8))
    truth = np.quantile(np.concatenate([values[number] for number in chosen]), part)
    assert float(turns._quantile(values, part)(np.array(chosen))) == pytest.approx(truth)


def test_intervals_hold_as_often_as_they_say() -> None:
    random = np.random.default_rng(5)
    held, simulations = 0, 120
    for _ in range(simulations):
        pace = random.lognormal(0, 0.2, 12)
        a, b = (times * pace[:, None] * random.gamma(4, 0.25, (12, 6)) for times in (1.0, 1.2))
        first, second = (turns._quotient(list(side.sum(axis=1)), [6] * 12) for side in (a, b))
        found = turns._interval(lambda rows, one=first, other=second: other(rows) / one(rows), 12)  # type: ignore[misc]
        assert found
        held += found.low <= 1.2 <= found.high
    assert 0.9 <= held / simulations <= 0.99
