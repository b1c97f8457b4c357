from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.errors import UsageError
from edgeship.measure.load.conditions import Judged, confirmed, outcome, read, settled
from edgeship.measure.load.turns import FIGURES, Compared
from edgeship.measure.statistics.intervals import Interval


@pytest.mark.parametrize(
    ("text", "figure", "sign", "bound", "of_ratio"),
    [
        ("ttft_p50 > 1.1x", "ttft_p50", ">", 1.1, True),
        ("  e2e_p90>=2s ", "e2e_p90", ">=", 2.0, False),
        ("tpot_mean > 50ms", "tpot_mean", ">", 0.05, False),
        ("itl_p99 > 900 us", "itl_p99", ">", 0.0009, False),
        ("output_tokens_per_s < 0.9x", "output_tokens_per_s", "<", 0.9, True),
        ("requests_per_s <= 3/s", "requests_per_s", "<=", 3.0, False),
        ("rss_peak > 1.5GB", "rss_peak", ">", 1.5e9, False),
        ("rss_peak > 400 MB", "rss_peak", ">", 4e8, False),
        ("joules_per_token > 20mJ", "joules_per_token", ">", 0.02, False),
        ("cpu_s_per_token > 5ms", "cpu_s_per_token", ">", 0.005, False),
        ("errors > 0%", "errors", ">", 0.0, False),
    ],
)
def test_what_a_condition_means(text: str, figure: str, sign: str, bound: float, of_ratio: bool) -> None:
    found = read(text)
    assert (found.figure.name, found.sign, found.of_ratio) == (figure, sign, of_ratio)
    assert found.bound == pytest.approx(bound)
    assert found.text == " ".join(text.split())


@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_can_be_named(figure: str) -> None:
    assert read(f"{figure} > 2x").figure == FIGURES[figure]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "which is no condition"),
        ("ttft_p50", "which is no condition"),
        ("ttft_p50 = 1.1x", "which is no condition"),
        ("ttft_p50 > -1x", "which is no condition"),
        ("ttft_p50 > 1.1x or e2e_p50 > 2x", "which is no condition"),
        ("1.1x < ttft_p50", "which is no condition"),
        ("ttft_p50 > 1e3ms", "which is no condition"),
        ("ttft_50 > 1.1x", "Did you mean ttft_p50?"),
        ("TTFT_P50 > 1.1x", "Did you mean ttft_p50?"),
        ("output_token_per_s < 0.9x", "Did you mean output_tokens_per_s?"),
        ("ttft > 1.1x", "ttft_mean|p50|p90|p95|p99"),
        ("nothing_like_it > 1x", "no figure is called nothing_like_it"),
        ("ttft_p50 > 500", "the number has no unit"),
        ("ttft_p50 > 500MB", "MB is no unit of ttft_p50"),
        ("ttft_p50 > 10%", "% is no unit of ttft_p50"),
        ("rss_peak > 2s", "one of MB, GB for B alone"),
        ("ttft_p50 < 0x", "no ratio is below 0"),
    ],
)
def test_what_is_no_condition_is_refused_with_what_to_write(text: str, told: str) -> None:
    with pytest.raises(UsageError) as refused:
        read(text)
    assert told in str(refused.value)


def found(low: float, high: float) -> Compared:
    where = Interval(low, high)
    return Compared(FIGURES["ttft_p50"], 1.0, (low + high) / 2, (low + high) / 2, where, where)


def judged(text: str, low: float, high: float, turns: int = 12) -> Judged:
    return read(text).judge("concurrency 1", found(low, high), turns)


@pytest.mark.parametrize(
    ("text", "low", "high", "verdict"),
    [
        ("ttft_p50 > 1.1x", 1.11, 1.3, "holds"),
        ("ttft_p50 > 1.1x", 0.9, 1.05, "fails"),
        ("ttft_p50 > 1.1x", 1.0, 1.2, "undecided"),
        ("ttft_p50 > 1.1x", 1.1, 1.1, "fails"),
        ("ttft_p50 >= 1.1x", 1.1, 1.1, "holds"),
        ("ttft_p50 < 1.1x", 1.1, 1.1, "fails"),
        ("ttft_p50 <= 1.1x", 1.1, 1.1, "holds"),
        ("ttft_p50 < 1.1x", 0.9, 1.0, "holds"),
        ("ttft_p50 < 1.1x", 1.2, 1.3, "fails"),
        ("ttft_p50 < 1.1x", 1.0, 1.2, "undecided"),
        ("ttft_p50 > 500ms", 0.6, 0.7, "holds"),
        ("ttft_p50 > 500ms", 0.3, 0.4, "fails"),
    ],
)
def test_a_condition_is_decided_where_its_interval_lies_on_one_side(
    text: str, low: float, high: float, verdict: str
) -> None:
    one = judged(text, low, high)
    assert one.verdict == verdict
    assert (one.why is None) == (verdict != "undecided")


@given(st.floats(0.1, 10), st.floats(0, 5), st.sampled_from(["<", "<=", ">", ">="]), st.floats(0.1, 10))
def test_a_verdict_is_what_every_value_of_the_interval_says(low: float, width: float, sign: str, bound: float) -> None:
    bound = float(f"{bound:.3f}")
    one = judged(f"ttft_p50 {sign} {bound:.3f}x", low, low + width)
    says = {eval(f"{value!r} {sign} {bound!r}") for value in (low, low + width)}
    assert one.verdict == ("undecided" if len(says) == 2 else "holds" if says == {True} else "fails")


def test_undecided_says_how_many_turns_would_decide() -> None:
    # As narrow as 0.1 on either side takes four times as many turns.
    assert judged("ttft_p50 > 1.1x", 1.0, 1.4).why == "its interval contains the bound; about 48 turns would decide it"
    assert judged("ttft_p50 > 1.1x", 1.0, 1.2).why == (
        "its interval contains the bound, and 1000 turns would not decide it"
    )


def test_what_has_no_interval_is_undecided_for_its_reason() -> None:
    unknown = Compared(FIGURES["ttft_p99"], None, None, why="A: it takes 600 requests more")
    one = read("ttft_p99 > 1.1x").judge("concurrency 1", unknown, 12)
    assert (one.verdict, one.why) == ("undecided", "A: it takes 600 requests more")
    assert one.to_dict() == {
        "condition": "ttft_p99 > 1.1x",
        "load": "concurrency 1",
        "figure": "ttft_p99",
        "of": "ratio",
        "bound": 1.1,
        "value": None,
        "interval": None,
        "verdict": "undecided",
        "why": "A: it takes 600 requests more",
    }


def test_one_condition_that_holds_fails_and_an_undecided_one_leaves_all_undecided() -> None:
    holds, fails, undecided = (judged("ttft_p50 > 1x", *ends) for ends in ((1.1, 1.2), (0.5, 0.6), (0.9, 1.1)))
    cases: list[tuple[list[Judged], Any]] = [
        ([], None),
        ([fails, fails], "pass"),
        ([fails, undecided], "undecided"),
        ([undecided, holds, fails], "fail"),
    ]
    for given_, expected in cases:
        assert outcome(given_) == expected


def test_what_the_target_does_not_tell_keeps_nothing_from_being_settled() -> None:
    untold = read("ttft_p99 > 1x").judge("concurrency 1", Compared(FIGURES["ttft_p99"], None, None), 12)
    fails, undecided = (judged("ttft_p50 > 1x", *ends) for ends in ((0.5, 0.6), (0.9, 1.1)))
    assert settled([untold, fails], [])
    assert not settled([untold, undecided], [])


def test_what_holds_has_to_hold_twice() -> None:
    one, other = judged("ttft_p50 > 1x", 1.1, 1.2), judged("ttft_p50 > 1.05x", 1.1, 1.2)
    assert not settled([one, other], [one])
    assert settled([one, other], [other, one])
    known, new = confirmed([one, other], [one])
    assert known == one
    assert (new.verdict, new.interval) == ("undecided", other.interval)
    assert "for the first time" in (new.why or "")
