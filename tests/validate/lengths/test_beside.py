"""What pairs of answers show, fail to show, and leave open."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.engine.api import Sampling
from edgeship.errors import EngineFailed
from edgeship.measure.cases.evalset import EvalCase, EvalMessage
from edgeship.measure.evaluation.evaluate import EvalRecord
from edgeship.validate.lengths.answers import Answers
from edgeship.validate.lengths.beside import FACTS, QUALITY, groups_of, judge
from edgeship.validate.lengths.longer import Asked
from edgeship.validate.verdict import Finding

MOST = 0.1
Counts = tuple[int, int, int]
"""How many were asked, how many of them are lost, and how many gained."""


def record(name: str, *, passed: bool) -> EvalRecord:
    return EvalRecord(name, "", passed, "right" if passed else "wrong", "stop", 1, 1, 0.0, 0.0)


def made(groups: dict[str, Counts]) -> tuple[list[Asked], Answers, Answers]:
    """Questions, and what the target and the original answered."""
    asked: list[Asked] = []
    ours, theirs = Answers(), Answers()
    for group, (count, lost, gained) in groups.items():
        for number in range(count):
            name = f"{group} {number}"
            message = EvalMessage(role="user", content=name)
            asked.append(Asked(group, EvalCase(id=name, messages=(message,), expected="right"), name))
            ours.sampling[name] = Sampling(temperature=0.0, max_tokens=7)
            ours.records[name] = record(name, passed=number >= lost)
            theirs.records[name] = record(name, passed=not lost <= number < lost + gained)
    return asked, ours, theirs


def found(groups: dict[str, Counts], *, most: float = MOST, long: bool = False) -> dict[str, Finding]:
    asked, ours, theirs = made(groups)
    return {each.name: each for each in judge(groups_of(QUALITY, asked, ours, theirs), ours, theirs, most, long=long)}


@pytest.mark.parametrize(
    ("counts", "outcome"),
    [
        ((25, 0, 0), "pass"),
        ((28, 3, 3), "skipped"),  # as many gained as lost, and too few to show it
        ((28, 1, 0), "skipped"),
        ((28, 5, 0), "skipped"),
        ((28, 12, 0), "fail"),
        ((8, 0, 0), "skipped"),
        ((8, 1, 0), "skipped"),
        ((8, 4, 0), "undecided"),
        ((8, 8, 0), "fail"),
        ((400, 4, 0), "pass"),
    ],
)
def test_what_is_shown_and_what_is_not(counts: Counts, outcome: str) -> None:
    [finding] = found({"late": counts}).values()

    assert finding.outcome == outcome, finding.told
    assert (finding.decided_by is not None) == (outcome == "undecided")
    assert bool(finding.evidence) == (outcome in ("undecided", "fail"))


@given(count=st.integers(1, 60), lost=st.integers(0, 60), gained=st.integers(0, 60))
def test_nothing_passes_whose_figure_lies_beyond_the_bound_and_nothing_fails_within(
    count: int, lost: int, gained: int
) -> None:
    lost = min(lost, count)
    [finding] = found({"late": (count, lost, min(gained, count - lost))}).values()

    if finding.figure is not None and finding.bound is not None:
        assert finding.outcome != "pass" or finding.figure >= finding.bound
        assert finding.outcome != "fail" or finding.figure < finding.bound


def test_each_length_is_judged_by_itself_and_those_of_too_few_are_told_together() -> None:
    groups = {"at their own length": (28, 0, 0), "at 1,024 tokens": (28, 0, 0), "at 2,048 tokens": (6, 1, 0)}
    findings = found(groups)

    assert {name: each.outcome for name, each in findings.items()} == {
        "quality-at-their-own-length": "pass",
        "quality-at-1024-tokens": "pass",
        "quality-not-shown": "skipped",
    }
    told = findings["quality-not-shown"].told
    assert "5 of 6 are answered right at 2,048 tokens, 6 by the original" in told
    assert "25 of which none is would, and --long asks more" in told


def test_what_is_looked_at_in_several_places_must_be_surer_to_fail() -> None:
    alone = found({"early": (28, 8, 0)})
    among_others = found({"early": (28, 8, 0)} | {f"place {number}": (28, 0, 0) for number in range(9)})

    assert alone["quality-early"].outcome == "fail"
    assert among_others["quality-early"].outcome == "undecided"


def test_with_long_only_other_questions_would_decide() -> None:
    [finding] = found({"late": (8, 4, 0)}, long=True).values()
    assert "an evaluation with more cases" in (finding.decided_by or "")
    [finding] = found({"late": (8, 0, 0)}, long=True).values()
    assert "--long" not in finding.told


def test_a_bound_that_no_number_can_show_applies_to_the_questions_that_were_asked() -> None:
    [kept] = found({"late": (28, 0, 0)}, most=0.0).values()
    assert kept.outcome == "pass"
    [lost] = found({"late": (27, 1, 0)}, most=0.0).values()
    assert lost.outcome == "skipped"
    assert "no number would" in lost.told


def test_a_fault_in_the_place_of_an_answer_counts_as_lost_where_the_original_answers() -> None:
    asked, ours, theirs = made({"late": (28, 0, 0)})
    for number in range(12):
        name = f"late {number}"
        del ours.records[name]
        ours.errors[name] = ours.faults[name] = EngineFailed("it broke")
    del theirs.records["late 0"]  # what the original does not answer either is no loss
    [finding] = judge(groups_of(FACTS, asked, ours, theirs), ours, theirs, MOST, long=False)

    assert finding.outcome == "fail"
    assert "16 of 27 are found late, 27 by the original" in finding.told
    assert (finding.evidence[0].id, finding.evidence[0].got) == ("lengths/facts-late 1", "engine-failed: it broke")


def test_what_the_target_had_no_room_for_is_left_out() -> None:
    asked, ours, theirs = made({"late": (28, 0, 0)})
    for number in range(28):
        del ours.records[f"late {number}"]
        ours.errors[f"late {number}"] = EngineFailed("it is busy")

    assert groups_of(FACTS, asked, ours, theirs) == []
