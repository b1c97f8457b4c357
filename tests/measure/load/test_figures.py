"""The figures of records: by their definitions, and as numpy has them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.measure.load import figures
from edgeship.measure.load.doubts import Expected, output_tokens
from edgeship.measure.load.driver import Driven, Load
from edgeship.measure.load.levels import Level
from edgeship.measure.load.records import UNFINISHED, Arrival, Failure, Record
from tests.measure.load.samples import arrivals, record


def level(*records: Record, wall_s: float = 2.0, slo: figures.Slo | None = None, repeats: int = 1) -> dict:  # type: ignore[type-arg]
    driven = Driven(records, wall_s)
    return Level(Load(1), (driven,) * repeats, Expected(), slo).to_dict()


def test_latencies_by_their_definitions() -> None:
    one = record([0.3, 0.4, 0.5, 0.7], sent_s=0.1)
    assert figures.ttft_s(one) == pytest.approx(0.2)
    assert figures.e2e_s(one) == pytest.approx(0.6)
    assert figures.tpot_s(one, 4) == pytest.approx(0.4 / 3)
    assert figures.gaps_s(one, shown_only=True) == pytest.approx([0.1, 0.1, 0.2])


def test_latency_counts_from_when_a_request_was_due() -> None:
    late = record([1.3, 1.4], sent_s=1.0, scheduled_s=0.2)
    assert figures.ttft_s(late) == pytest.approx(1.1)
    assert figures.e2e_s(late) == pytest.approx(1.2)


def test_the_first_piece_of_any_channel_is_the_first_and_text_is_told_beside_it() -> None:
    pieces = (Arrival(0.1, (), 1), *arrivals([0.2], "thinking", 1), *arrivals([0.4, 0.5], tokens=1))
    one = record([0.5], arrivals=pieces)
    assert (figures.ttft_s(one), figures.first_text_s(one)) == (0.2, 0.4)
    # The token that showed nothing came before, and is not among those that took from the first to the end.
    assert figures.tpot_s(one, 4) == pytest.approx(0.3 / 2)


def test_tpot_leaves_out_all_tokens_of_a_first_piece_that_holds_several() -> None:
    pieces = tuple(Arrival(at_s, ("text",), 4) for at_s in (0.4, 0.8))
    assert figures.tpot_s(record([0.8], arrivals=pieces), 8) == pytest.approx(0.1)


def test_an_answer_of_one_token_has_no_tpot() -> None:
    assert figures.tpot_s(record([0.3]), 1) is None


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=700))
def test_percentiles_agree_with_numpy_and_are_told_only_where_there_are_enough(values: list[float]) -> None:
    for percent, needed in ((50, 11), (90, 64), (95, 130), (99, 662)):
        found = figures.percentile(values, percent)
        assert found == (pytest.approx(np.percentile(values, percent)) if len(values) >= needed else None)


def test_a_percentile_that_is_not_told_says_how_many_more_values_it_needs() -> None:
    found = figures.spread([[0.01 * value] for value in range(100)])
    assert (found["p90"], found["p95"], found["p99"]) == (pytest.approx(0.891), None, None)
    assert (found["needs"], found["mean"], found["values"]) == ({"p95": 30, "p99": 562}, pytest.approx(0.495), 100)


def test_so_many_values_are_needed_that_they_hardly_lie_all_on_one_side_of_a_percentile() -> None:
    for percent, needed in figures.NEEDED.items():
        part = percent / 100
        assert 0.0009 < part**needed + (1 - part) ** needed < 0.0014


def test_the_interval_holds_the_mean_and_takes_enough_requests() -> None:
    values = np.random.default_rng(1).gamma(3, 0.1, 200).tolist()
    found = figures.spread([[value] for value in values])
    for name, of in (("mean", np.mean), ("p50", np.median)):
        low, high = found["interval"][name]
        assert low < of(values) < high < 1.2 * low
    assert figures.spread([[0.1], [0.2]])["interval"] == {"mean": None, "p50": None}


def test_rates_are_of_whole_answers_and_of_all_the_time() -> None:
    failed = record(failure=Failure("remote-failed", "it broke"))
    found = level(record(), record(), failed, wall_s=2.0)
    assert (found["output_tokens_per_s"], found["input_tokens_per_s"], found["requests_per_s"]) == (3.0, 10.0, 1.0)
    assert (found["requests"], found["completed"], found["errors"]) == (3, 2, 1)
    assert found["error_kinds"] == [{"kind": "remote-failed", "what": "it broke", "count": 1}]


def test_an_error_is_never_a_fast_answer() -> None:
    fast = record([0.001], failure=Failure("another-model", "x was asked, and y answered"))
    found = level(*[record(number=number) for number in range(11)], fast)
    assert found["ttft_s"]["values"] == 11
    assert found["e2e_s"]["p50"] == pytest.approx(0.3)


def test_what_ran_when_the_time_was_over_is_no_error_and_in_no_figure() -> None:
    found = level(record(), record([0.1], failure=Failure(UNFINISHED, "the time was over")))
    assert (found["errors"], found["unfinished"], found["ttft_s"]["values"]) == (0, 1, 1)
    assert any("unfinished: 1 requests" in warning for warning in found["warnings"])


def test_goodput_counts_errors_as_not_good() -> None:
    slo = figures.Slo({"ttft": 0.15, "tpot": 0.1})
    failed, slow = record(failure=Failure("timeout", "too slow")), record([0.1, 0.4, 0.6])
    found = level(record(), slow, failed, slo=slo, wall_s=2.0)["goodput"]
    assert (found["good"], found["share"], found["requests_per_s"]) == (1, pytest.approx(1 / 3), 0.5)


def test_goodput_by_a_figure_that_is_refused_is_refused() -> None:
    merged = record([0.1, 0.2], output_tokens=40)
    assert level(merged, slo=figures.Slo({"tpot": 1.0}))["goodput"] is None
    assert level(merged, slo=figures.Slo({"ttft": 1.0}))["goodput"]["share"] == 1.0


def test_refused_figures_are_null_and_named() -> None:
    found = level(record([0.1, 0.2], output_tokens=40))
    assert (found["itl_s"]["mean"], found["tpot_s"]["mean"], found["tps_per_user"]) == (None, None, None)
    assert found["refused"] == {"itl_s": "merged-chunks", "tpot_s": "merged-chunks"}
    assert found["ttft_s"]["mean"] == pytest.approx(0.1)
    assert any(warning.startswith("merged-chunks: ") for warning in found["warnings"])


def test_repeats_are_told_one_by_one_and_five_have_an_interval() -> None:
    assert level(record(), repeats=4)["output_tokens_per_s_interval"] is None
    found = level(record(), repeats=5)
    assert (len(found["repeats"]), found["wall_s"]) == (5, 10.0)
    assert found["output_tokens_per_s"] == pytest.approx(1.5)


def test_tps_per_user_is_of_the_slowest_tenth() -> None:
    records = [record([0.1, 0.1 + 0.01 * number], number=number) for number in range(1, 65)]
    values = [figures.tpot_s(one, output_tokens(one)) for one in records]
    assert level(*records)["tps_per_user"] == pytest.approx(
        1 / np.percentile(list(map(float, filter(None, values))), 90)
    )


def test_itl_is_over_all_gaps() -> None:
    records = [record(list(itertools.accumulate([0.1] + [0.01 * number] * 4))) for number in range(1, 6)]
    found = level(*records)["itl_s"]
    gaps = [0.01 * number for number in range(1, 6) for _ in range(4)]
    assert (found["values"], found["p50"]) == (20, pytest.approx(np.median(gaps)))


def test_an_answer_that_shows_nothing_is_not_good() -> None:
    slo = figures.Slo({"ttft": 1.0})
    nothing = record([0.1, 0.2], arrivals=arrivals([0.1, 0.2], None))
    assert level(nothing, record(), slo=slo)["goodput"]["good"] == 1
