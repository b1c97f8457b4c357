from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeship.errors import UsageError
from edgeship.measure.choice.choose import Thresholds, Undecided, choose, figures_of_kld, judge, pair
from edgeship.measure.measurement import Measurement
from tests.measure.samples import evaluation, fidelity, measurement

FP16, INT8, INT4 = "fp16", "int8", "int4"


def passing(passed: int, cases: int = 100, *, size: int = 1000) -> Measurement:
    return measurement(size, evaluation=evaluation([index < passed for index in range(cases)]))


def agreeing(mean_kld_nats: float = 0.01, top1_agreement: float = 0.98) -> Measurement:
    return measurement(fidelity=fidelity(mean_kld_nats, top1_agreement))


@pytest.mark.parametrize(
    ("top1_agreement", "outcome", "within"),
    [(0.98, "holds", True), (0.91, "undecided", True), (0.895, "undecided", False), (0.85, "fails", False)],
)
def test_chance_leaves_agreement_undecided(top1_agreement: float, outcome: str, within: bool) -> None:
    """Of 200 positions; the one-sided 95 % bounds of 89.5 % are 85.4 and 92.6 %, those of 85 % end at 88.7 %."""
    judgement = choose({"a": agreeing(top1_agreement=top1_agreement)}, None).judgements["a"]
    assert (judgement.outcome, judgement.within) == (outcome, within)
    assert ("more positions like these would decide" in judgement.reasons[-1]) == (outcome == "undecided")


def test_chance_leaves_the_mean_undecided() -> None:
    """At 0.09 +- 0.01 nats, 95 % confidence reaches up to 0.106."""
    surely, hardly = (fidelity(0.09, 1.0) for _ in range(2))
    surely, hardly = (replace(found, mean_kld_error_nats=error) for found, error in ((surely, 0.005), (hardly, 0.01)))
    assert judge(measurement(fidelity=surely), None, Thresholds()).outcome == "holds"
    undecided = judge(measurement(fidelity=hardly), None, Thresholds())
    assert (undecided.outcome, undecided.within) == ("undecided", True)
    # 6.18 x 200 x 0.01^2 / 0.01^2
    assert undecided.more == 1237 - 200
    single = judge(measurement(fidelity=replace(hardly, mean_kld_error_nats=None)), None, Thresholds())
    assert (single.outcome, single.more) == ("undecided", None)


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
    found = choose(
        {FP16: passing(390, 400, size=4), INT4: passing(389, 400, size=1), INT8: passing(390, 400, size=2)},
        passing(390, 400),
    )
    assert (found.chosen, found.outcome, len(found.reasons)) == (INT4, "holds", 1)


def test_measured_size_decides_and_not_the_name() -> None:
    several = {"int4-small": passing(97, size=30), "int4": passing(97, size=20), "int8": passing(97, size=10)}
    found = choose(several, passing(97))
    assert (found.chosen, list(found.judgements)) == ("int8", ["int8", "int4", "int4-small"])
    assert found.verdict()["chosen"] == "int8"
    falling = choose(several | {"int8": passing(80, size=10), "int4": passing(90, size=20)}, passing(97))
    assert falling.chosen == "int4-small"
    assert falling.reasons[2].startswith("INT4-SMALL is undecided: ")


def test_the_next_is_taken_where_the_smallest_drops_too_far() -> None:
    found = choose({INT4: passing(94), INT8: passing(95), FP16: passing(97)}, passing(97))
    assert (found.chosen, found.outcome, found.holds) == (INT8, "undecided", True)
    assert found.reasons[0].startswith("INT4 is undecided: passes 94.0 % of 100 cases, 3.0 points below FP32's 97.0 %")
    assert found.reasons[1].startswith("INT8 is undecided: passes 95.0 % of 100 cases")
    assert found.reasons[2] == "INT8 is taken since what was measured lies within the limits; none is shown to hold"


def test_what_the_release_gate_refuses_is_passed_over() -> None:
    candidates = {INT4: passing(97, size=1), INT8: passing(97, size=2), FP16: passing(97, size=3)}
    found = choose(candidates, passing(97), refused={INT4})
    assert (found.chosen, list(found.judgements)) == (INT8, [INT4, INT8, FP16])
    assert [reason.split()[0] for reason in found.reasons[:3]] == ["INT4", "INT4", "INT8"]
    assert found.reasons[1] == "INT4 is passed over, since the release gate does not let it through"
    assert choose(candidates, passing(97), refused=candidates).chosen is None


def test_what_surely_holds_is_not_one_that_the_release_gate_refused() -> None:
    candidates = {INT8: passing(83, size=2), FP16: passing(300, 300, size=3)}
    assert "the smallest that is shown to hold is FP16" in choose(candidates, None).reasons[-1]
    assert "none is shown to hold" in choose(candidates, None, refused={FP16}).reasons[-1]


def test_none_holds() -> None:
    found = choose({INT4: passing(80), INT8: passing(90)}, passing(97))
    assert (found.chosen, found.holds) == (None, False)
    assert found.reasons[0] == "none of the candidates holds"
    assert len(found.reasons) == 3
    assert found.verdict() == {
        "holds": False,
        "outcome": "fails",
        "chosen": None,
        "undecided": "take",
        "more_to_decide": None,
        "worse_slices": [],
        "reasons": list(found.reasons),
        "thresholds": {
            "max_drop": 0.02,
            "min_pass_rate": 0.80,
            "max_mean_kld_nats": 0.1,
            "min_top1_agreement": 0.9,
        },
    }


def test_the_checkpoint_itself_can_be_at_fault() -> None:
    found = choose({INT4: passing(70), INT8: passing(85)}, passing(70))
    assert found.chosen is None
    assert found.reasons == (
        "the checkpoint itself is at fault: in FP32 it passes 70.0 % of 100 cases; at least 80.0 % is asked",
    )
    assert not any(judgement.holds for judgement in found.judgements.values())


def test_the_conversion_can_be_at_fault() -> None:
    baseline = measurement(evaluation=evaluation([False] * 10), fidelity=fidelity(3.0, 0.1))
    found = choose({INT4: passing(10, 10)}, baseline)
    assert found.chosen is None
    assert "the conversion is at fault" in found.reasons[0]


def test_the_limit_itself_is_allowed() -> None:
    assert judge(passing(96), passing(98), Thresholds()).within
    assert not judge(passing(95), passing(98), Thresholds()).within
    assert judge(passing(80), passing(80), Thresholds()).within
    assert not judge(passing(79), passing(80), Thresholds()).within
    # In floating point 0.29 x 100 is a hair less than 29, and 0.07 x 100 a hair more than 7.
    assert judge(passing(71), passing(100), Thresholds(max_drop=0.29, min_pass_rate=0.0)).within
    assert judge(passing(7), passing(7), Thresholds(min_pass_rate=0.07)).within
    on_it = judge(passing(80), None, Thresholds())
    assert (on_it.outcome, on_it.more) == ("undecided", None)
    assert on_it.reasons[-1] == "no number of cases like these would decide: the figure lies on the limit itself"


def test_the_minimum_holds_even_where_the_drop_is_small() -> None:
    found = judge(passing(279, 400), passing(280, 400), Thresholds())
    assert found.outcome == "fails"
    assert "at least 80.0 % is asked (one-sided 95 % bounds 65.8 to 73.4 %)" in found.reasons


def test_the_sentence_gives_the_change_with_its_interval() -> None:
    outcomes = [index >= 10 for index in range(320)]
    worse = [index >= 12 for index in range(320)]
    found = judge(measurement(evaluation=evaluation(worse)), measurement(evaluation=evaluation(outcomes)), Thresholds())
    assert found.reasons == (
        "passes 96.2 % of 320 cases, 0.6 points below FP32's 96.9 % (one-sided 95 % bounds of the change -1.9 to +0.2 "
        "points; McNemar's exact p 0.500); "
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
    assert (found.outcome, found.hopeless) == ("undecided", True)
    assert found.reasons[-1].startswith("2 cases are too few to show that anything holds; about ")


def test_without_a_baseline_the_minimum_decides() -> None:
    found = choose({INT4: passing(79), INT8: passing(80)}, None)
    assert found.chosen == INT8
    assert "FP32's" not in " ".join(found.reasons)


@pytest.mark.parametrize(
    ("kld", "top1", "outcome"),
    [(0.1, 0.95, "holds"), (0.1001, 1.0, "fails"), (0.0, 0.8, "fails"), (0.2, 0.9, "fails"), (0.01, 0.98, "holds")],
)
def test_without_an_evaluation_agreement_decides(kld: float, top1: float, outcome: str) -> None:
    found = judge(agreeing(kld, top1), agreeing(), Thresholds())
    assert found.outcome == outcome
    assert "allowed are at most 0.1 nats and at least 90.0 %" in found.reasons[0]


def test_what_was_not_measured_does_not_hold() -> None:
    found = judge(measurement(), measurement(), Thresholds())
    assert (found.outcome, found.within) == ("fails", False)
    assert found.reasons == ("neither an evaluation nor agreement with a reference was measured",)


def test_other_cases_are_not_paired() -> None:
    with pytest.raises(ValueError, match="not of the same cases"):
        pair(evaluation([True], prefix="a"), evaluation([True], prefix="b"))


def test_thresholds_can_be_changed() -> None:
    assert choose({INT4: passing(50)}, passing(60), Thresholds(max_drop=0.1, min_pass_rate=0.5)).chosen == INT4


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 100), min_size=4, max_size=4))
def test_the_choice_is_the_first_that_is_good_enough(counts: Sequence[int]) -> None:
    baseline, *others = (passing(4 * count, 400) for count in counts)
    candidates = dict(zip((INT8, FP16, INT4), others, strict=True))
    for undecided in get_args(Undecided):
        found = choose(candidates, baseline, undecided=undecided)
        enough = [label for label, judgement in found.judgements.items() if judgement.is_good_enough(undecided)]
        assert found.chosen == (enough[0] if enough else None)
        assert found.reasons
        assert found.holds == (found.chosen is not None)
    assert found.chosen is None or found.outcome == "holds", "what is undecided is refused"


def of_slices(lost: int) -> tuple[Measurement, Measurement]:
    """400 cases that FP32 passes, and a candidate that loses so many of the slice "new" and none of the other."""
    flawless, worse = [True] * 400, [index % 2 == 0 or index >= 2 * lost for index in range(400)]
    return measurement(evaluation=evaluation(worse)), measurement(evaluation=evaluation(flawless))


def test_a_slice_that_surely_falls_is_named() -> None:
    found = judge(*of_slices(12), Thresholds(max_drop=0.05))
    assert (found.outcome, found.worse_slices) == ("holds", ())
    found = judge(*of_slices(20), Thresholds(max_drop=0.05))
    assert (found.outcome, found.worse_slices) == ("undecided", ("new",))
    assert found.reasons[1].startswith(
        "slices that are surely worse by more than that: 'new' by 10.0 points (Holm's p "
    )
    candidate, baseline = of_slices(20)
    verdict = choose({INT4: candidate}, baseline, Thresholds(max_drop=0.05)).verdict()
    assert (verdict["chosen"], verdict["worse_slices"]) == (INT4, ["new"])


def test_what_is_undecided_is_taken_or_refused() -> None:
    """12 of 324 lost and 8 others gained: the interval of the change reaches from -3.5 to +1.1 points."""
    fp32 = measurement(evaluation=evaluation([index >= 8 for index in range(324)]))
    int4 = measurement(1, evaluation=evaluation([not 8 <= index < 20 for index in range(324)]))
    int8 = measurement(2, evaluation=fp32.evaluation and evaluation([index >= 8 for index in range(324)]))
    taken = choose({INT4: int4, INT8: int8}, fp32)
    assert (taken.chosen, taken.outcome, taken.holds) == (INT4, "undecided", True)
    assert taken.reasons[1].endswith("the smallest that is shown to hold is INT8, which --undecided refuse takes")
    verdict = taken.verdict()
    assert (verdict["holds"], verdict["outcome"], verdict["undecided"]) == (True, "undecided", "take")
    assert verdict["more_to_decide"] == taken.judgements[INT4].more
    assert "about 6,200 more cases like these would decide" in taken.reasons[0]
    refused = choose({INT4: int4, INT8: int8}, fp32, undecided="refuse")
    assert (refused.chosen, refused.outcome) == (INT8, "holds")
    neither = choose({INT4: int4}, fp32, undecided="refuse")
    assert (neither.chosen, neither.outcome) == (None, "undecided")
    assert neither.reasons[0] == "none of the candidates is shown to hold"


def test_what_looks_too_bad_is_not_taken_though_it_is_undecided() -> None:
    found = choose({INT4: passing(94)}, passing(97))
    assert (found.chosen, found.outcome, found.judgements[INT4].within) == (None, "undecided", False)


def test_fp32_has_not_fallen_below_itself() -> None:
    only = passing(100, 100)
    assert choose({"fp32": only}, only).judgements["fp32"].outcome == "holds"


def test_what_is_not_zero_does_not_look_like_it() -> None:
    assert [figures_of_kld(nats) for nats in (0.0, 1e-9, 0.00005, 0.0123)] == ["0.0000", "<0.0001", "0.0001", "0.0123"]
