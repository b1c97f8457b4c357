from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.errors import UsageError
from edgeship.measure.compare import Thresholds, choose, figures_of_kld, judge, pair
from edgeship.measure.measurement import Measurement
from tests.measure.samples import evaluation, fidelity, measurement

FP16, INT8, INT4 = "fp16", "int8", "int4"


def passing(passed: int, cases: int = 100, *, size: int = 1000) -> Measurement:
    return measurement(size, evaluation=evaluation([index < passed for index in range(cases)]))


def agreeing(mean_kld_nats: float = 0.01, top1_agreement: float = 0.98) -> Measurement:
    return measurement(fidelity=fidelity(mean_kld_nats, top1_agreement))


@pytest.mark.parametrize(("top1_agreement", "near"), [(0.895, True), (0.85, False), (0.9, False)])
def test_what_chance_may_explain_is_said_to_be_near(top1_agreement: float, near: bool) -> None:
    """Of 200 positions; the 95 % interval of 89.5 % ends at 93 %, and that of 85 % at 89.3 %."""
    judgement = choose({"a": agreeing(top1_agreement=top1_agreement)}, None).judgements["a"]
    assert judgement.near == near
    assert ("no further off than chance" in judgement.reasons[0]) == near
    assert judgement.holds == (top1_agreement >= 0.9)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_drop", math.nan),
        ("max_drop", -0.1),
        ("min_pass_rate", 80),
        ("min_pass_rate", True),
        ("min_top1_agreement", "0.9"),
        ("max_mean_kld_nats", math.nan),
    ],
)
def test_what_can_be_no_threshold_is_refused(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"{name} is .*; it must be a number") as caught:
        Thresholds(**{name: value})
    assert caught.value.hint


def test_the_smallest_that_holds_is_chosen_whatever_the_order() -> None:
    found = choose({FP16: passing(97, size=4), INT4: passing(95, size=1), INT8: passing(96, size=2)}, passing(97))
    assert found.chosen == INT4
    assert list(found.judgements) == [INT4, INT8, FP16]
    assert len(found.reasons) == 1


def test_measured_size_decides_and_not_the_name() -> None:
    several = {"int4-small": passing(97, size=30), "int4": passing(97, size=20), "int8": passing(97, size=10)}
    found = choose(several, passing(97))
    assert (found.chosen, list(found.judgements)) == ("int8", ["int8", "int4", "int4-small"])
    assert found.verdict()["chosen"] == "int8"
    falling = choose(several | {"int8": passing(80, size=10), "int4": passing(90, size=20)}, passing(97))
    assert falling.chosen == "int4-small"
    assert falling.reasons[-1].startswith("INT4-SMALL holds: ")


def test_the_next_is_taken_where_the_smallest_drops_too_far() -> None:
    found = choose({INT4: passing(94), INT8: passing(95), FP16: passing(97)}, passing(97))
    assert found.chosen == INT8
    assert found.reasons[0].startswith("INT4 does not hold: passes 94.0 % of 100 cases, 3.0 points below FP32's 97.0 %")
    assert found.reasons[1].startswith("INT8 holds: passes 95.0 % of 100 cases")


def test_none_holds() -> None:
    found = choose({INT4: passing(80), INT8: passing(90)}, passing(97))
    assert (found.chosen, found.holds) == (None, False)
    assert found.reasons[0] == "none of the candidates holds"
    assert len(found.reasons) == 3
    assert found.verdict() == {
        "holds": False,
        "chosen": None,
        "reasons": list(found.reasons),
        "thresholds": {
            "max_drop": 0.02,
            "min_pass_rate": 0.80,
            "max_mean_kld_nats": 0.1,
            "min_top1_agreement": 0.9,
        },
    }


def test_the_checkpoint_itself_can_be_at_fault() -> None:
    found = choose({INT4: passing(79), INT8: passing(85)}, passing(79))
    assert found.chosen is None
    assert found.reasons == (
        "the checkpoint itself is at fault: in FP32 it passes 79.0 % of 100 cases; at least 80.0 % is asked",
    )
    assert not any(judgement.holds for judgement in found.judgements.values())


def test_the_conversion_can_be_at_fault() -> None:
    baseline = measurement(evaluation=evaluation([False] * 10), fidelity=fidelity(3.0, 0.1))
    found = choose({INT4: passing(10, 10)}, baseline)
    assert found.chosen is None
    assert "the conversion is at fault" in found.reasons[0]


def test_the_limit_itself_is_allowed() -> None:
    assert judge(passing(96), passing(98), Thresholds()).holds
    assert not judge(passing(95), passing(98), Thresholds()).holds
    assert judge(passing(80), passing(80), Thresholds()).holds
    assert not judge(passing(79), passing(80), Thresholds()).holds
    # In floating point 0.29 x 100 is a hair less than 29, and 0.07 x 100 a hair more than 7.
    assert judge(passing(71), passing(100), Thresholds(max_drop=0.29, min_pass_rate=0.0)).holds
    assert judge(passing(7), passing(7), Thresholds(min_pass_rate=0.07)).holds


def test_the_minimum_holds_even_where_the_drop_is_small() -> None:
    found = judge(passing(79), passing(80), Thresholds())
    assert found.reasons[-1] == "at least 80.0 % is asked"


def test_the_sentence_gives_the_change_with_its_interval() -> None:
    outcomes = [index >= 10 for index in range(320)]
    worse = [index >= 12 for index in range(320)]
    found = judge(measurement(evaluation=evaluation(worse)), measurement(evaluation=evaluation(outcomes)), Thresholds())
    assert found.reasons == (
        "passes 96.2 % of 320 cases, 0.6 points below FP32's 96.9 % (95 % interval of the change -1.7 to +0.4 points); "
        "a drop of 2.0 points is allowed",
    )


@pytest.mark.parametrize(
    ("candidate", "baseline", "said"),
    [
        ([True, True], [True, True], "the same ones as FP32"),
        ([True, False], [False, True], "as many as FP32 (1 of them others)"),
        ([True, True], [False, True], "50.0 points above FP32's 50.0 %"),
    ],
)
def test_the_sentence_says_how_they_differ(candidate: list[bool], baseline: list[bool], said: str) -> None:
    found = judge(
        measurement(evaluation=evaluation(candidate)), measurement(evaluation=evaluation(baseline)), Thresholds()
    )
    assert said in found.reasons[0]
    assert found.reasons[-1] == "2 cases are too few to see a drop that small"


def test_without_a_baseline_the_minimum_decides() -> None:
    found = choose({INT4: passing(79), INT8: passing(80)}, None)
    assert found.chosen == INT8
    assert "FP32's" not in " ".join(found.reasons)


@pytest.mark.parametrize(
    ("kld", "top1", "holds"), [(0.1, 0.9, True), (0.1001, 1.0, False), (0.0, 0.895, False), (0.01, 0.98, True)]
)
def test_without_an_evaluation_agreement_decides(kld: float, top1: float, holds: bool) -> None:
    found = judge(agreeing(kld, top1), agreeing(), Thresholds())
    assert found.holds is holds
    assert "allowed are at most 0.1 nats and at least 90.0 %" in found.reasons[0]


def test_what_was_not_measured_does_not_hold() -> None:
    found = judge(measurement(), measurement(), Thresholds())
    assert found.holds is False
    assert found.reasons == ("neither an evaluation nor agreement with a reference was measured",)


def test_other_cases_are_not_paired() -> None:
    with pytest.raises(ValueError, match="not of the same cases"):
        pair(evaluation([True], prefix="a"), evaluation([True], prefix="b"))


def test_thresholds_can_be_changed() -> None:
    assert choose({INT4: passing(50)}, passing(60), Thresholds(max_drop=0.1, min_pass_rate=0.5)).chosen == INT4


@given(st.lists(st.integers(0, 100), min_size=4, max_size=4))
def test_the_choice_is_the_first_judgement_that_holds(counts: Sequence[int]) -> None:
    baseline, *others = (passing(count) for count in counts)
    found = choose(dict(zip((INT8, FP16, INT4), others, strict=True)), baseline)
    holding = [label for label, judgement in found.judgements.items() if judgement.holds]
    assert found.chosen == (holding[0] if holding else None)
    assert found.reasons


def test_what_is_not_zero_does_not_look_like_it() -> None:
    assert [figures_of_kld(nats) for nats in (0.0, 1e-9, 0.00005, 0.0123)] == ["0.0000", "<0.0001", "0.0001", "0.0123"]
