from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from edgeship.engine.api import Chat
from edgeship.errors import EdgeshipError, RemoteFailed, UsageError
from edgeship.measure.cases.evalset import EvalCase
from edgeship.measure.evaluation.document import eval_document
from edgeship.measure.evaluation.evaluate import EvalRecord, summarise
from edgeship.measure.evaluation.target import EvalOptions, WayResult
from edgeship.settings import Settings
from edgeship.targets import Target
from edgeship.validate.domain import CHECK, DomainBounds
from edgeship.validate.requests import ask_again
from edgeship.validate.subject import QUICK_CASES, QUICK_PAIRS, Subject
from edgeship.validate.verdict import Finding
from tests.scripted import ScriptedEngine
from tests.validate.subjects import case, found_by, sampling_server, subject_of


def cases(count: int, **more: Any) -> list[EvalCase]:
    return [case(f"q{number}", **more) for number in range(count)]


def saying(asked: list[EvalCase], right: int) -> ScriptedEngine:
    """Answers the first of them right."""
    return ScriptedEngine({each.id: "yes" if number < right else "no" for number, each in enumerate(asked)})


def outcomes(found: dict[str, Finding]) -> dict[str, str]:
    return {name: finding.outcome for name, finding in found.items()}


def kept(path: Path, chat: Chat, asked: list[EvalCase], settings: Settings) -> Path:
    """An evaluation as `edgeship eval --out` keeps it."""
    subject = subject_of(chat, settings, asked)
    document = eval_document({}, path, asked, subject.eval_options, subject.evaluation())
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_copies_of_a_question_are_no_more_evidence_than_one(settings: Settings) -> None:
    one = case("q")
    asked = [one.model_copy(update={"id": f"q{number}", "slice": f"s{number % 2}"}) for number in range(20)]
    with ScriptedEngine({one.question: "yes"}) as chat:
        found = found_by(CHECK, subject_of(chat, settings, asked))
    assert found["pass-rate"].outcome == "undecided"
    assert "1 of 1 answers are right" in found["pass-rate"].told
    assert "has 20 cases, 1 of them different" in found["answers-come"].told
    assert "slices" not in found


@pytest.mark.parametrize(
    ("count", "right", "outcome"),
    [(20, 20, "pass"), (100, 91, "pass"), (100, 85, "undecided"), (20, 16, "undecided"), (100, 60, "fail")],
)
def test_the_pass_rate_passes_fails_or_takes_more_cases(
    count: int, right: int, outcome: str, settings: Settings
) -> None:
    asked = cases(count)
    with saying(asked, right) as chat:
        found = found_by(CHECK, subject_of(chat, settings, asked))["pass-rate"]
    assert (found.outcome, found.figure, found.bound) == (outcome, right / count, 0.8)
    assert (found.decided_by is not None) == (outcome == "undecided")


def test_what_is_undecided_says_how_many_cases_decide(settings: Settings) -> None:
    asked = cases(20)
    with saying(asked, 17) as chat:
        found = found_by(CHECK, subject_of(chat, settings, asked))["pass-rate"]
    assert found.decided_by
    assert int(found.decided_by.split()[1].replace(",", "")) > 100


def test_a_model_without_a_fault_passes_with_few_cases(settings: Settings) -> None:
    asked = cases(20)
    with saying(asked, 20) as chat:
        found = found_by(CHECK, subject_of(chat, settings, asked))
    assert outcomes(found) == {"answers-come": "pass", "pass-rate": "pass"}


def test_wrong_answers_can_be_asked_again(settings: Settings) -> None:
    asked = cases(20)
    with saying(asked, 2) as chat:
        found = found_by(CHECK, subject_of(chat, settings, asked))["pass-rate"]
    assert [each.id for each in found.evidence] == [f"domain/pass-rate/q{number}" for number in range(2, 7)]
    first = found.evidence[0]
    conversation, sampling = ask_again(json.loads(json.dumps(first.request)))
    assert conversation.messages == asked[2].conversation
    assert sampling.max_tokens
    assert (first.got, first.expected) == ("no", "yes")


def test_a_poor_slice_does_not_hide_behind_the_others(settings: Settings) -> None:
    good, poor = cases(180, slice="good"), [case(f"p{number}", slice="poor") for number in range(20)]
    with ScriptedEngine({each.id: "yes" for each in good}) as chat:
        found = found_by(CHECK, subject_of(chat, settings, [*good, *poor]))
    assert outcomes(found) == {"answers-come": "pass", "pass-rate": "pass", "slices": "fail"}
    assert "'poor'" in found["slices"].told


def test_a_slice_of_few_cases_that_are_all_wrong_is_undecided(settings: Settings) -> None:
    asked = [*(case(f"{name}{number}", slice=name) for name in "ab" for number in range(50))]
    few = [case(f"p{number}", slice="poor") for number in range(5)]
    with ScriptedEngine({each.id: "yes" for each in asked}) as chat:
        found = found_by(CHECK, subject_of(chat, settings, [*asked, *few]))["slices"]
    assert (found.outcome, found.figure) == ("undecided", 0.0)
    assert found.decided_by == "About 1 more case of 'poor' like these."
    assert [each.id for each in found.evidence] == [f"domain/slices/p{number}" for number in range(5)]


def test_one_wrong_answer_is_no_poor_slice(settings: Settings) -> None:
    asked = [*cases(99, slice="good"), case("p", slice="one")]
    with saying(asked, 99) as chat:
        found = found_by(CHECK, subject_of(chat, settings, asked))["slices"]
    assert (found.outcome, found.figure, found.bound) == ("pass", None, None)
    assert "'one' is the poorest, with 0 of 1 right" in found.told


def test_a_small_slice_that_lost_all_is_undecided(tmp_path: Path, settings: Settings) -> None:
    asked = [*(case(f"p{number}", slice="small") for number in range(4)), *cases(200, slice="large")]
    file = of_ship(tmp_path / "original.json", [True] * 204, asked)
    with ScriptedEngine({each.id: "yes" for each in asked[4:]}) as chat:
        found = found_by(CHECK, subject_of(chat, settings, asked, original=file))["slices-beside-original"]
    assert (found.outcome, found.figure) == ("undecided", -1.0)
    assert found.decided_by


def test_settings_that_ruin_a_greedy_model_fail_and_are_named(settings: Settings) -> None:
    asked = cases(40)
    chat = sampling_server(lambda question, greedy: "yes" if greedy or int(question[1:]) % 2 else "well")
    found = found_by(CHECK, subject_of(chat, settings, asked))["sampling-drop"]
    assert (found.outcome, found.figure, found.bound) == ("fail", -0.5, -0.1)
    assert [each.id for each in found.evidence][:2] == ["domain/sampling-drop/q0", "domain/sampling-drop/q2"]


@pytest.mark.parametrize("lost", [0, 2])
def test_settings_that_cost_little_pass_with_few_cases(lost: int, settings: Settings) -> None:
    asked = cases(20)
    chat = sampling_server(lambda question, greedy: "yes" if greedy or int(question[1:]) >= lost else "well")
    found = found_by(CHECK, subject_of(chat, settings, asked))["sampling-drop"]
    assert (found.outcome, found.decided_by) == ("pass", None)


def test_an_original_that_was_kept_is_held_against_case_by_case(tmp_path: Path, settings: Settings) -> None:
    asked = [case(f"q{number}", slice="ab"[number % 2]) for number in range(200)]
    with saying(asked, 200) as original:
        file = kept(tmp_path / "original.json", original, asked, settings)
    found = {}
    for right in (200, 198, 196, 180):
        with saying(asked, right) as chat:
            found[right] = found_by(CHECK, subject_of(chat, settings, asked, original=file))
    assert [each["beside-original"].outcome for each in found.values()] == ["pass", "pass", "undecided", "fail"]
    assert [each["slices-beside-original"].outcome for each in found.values()] == ["pass", "pass", "pass", "fail"]
    assert found[180]["pass-rate"].outcome == "pass"
    assert all(each["beside-original"].noted for each in found.values())
    lost = [each.id for each in found[180]["beside-original"].evidence]
    assert lost[:2] == ["domain/beside-original/q180", "domain/beside-original/q181"]


def of_ship(path: Path, right: Sequence[bool], asked: list[EvalCase]) -> Path:
    """How an original answered, as `ship` keeps it: greedily, which says nothing of how it ships."""
    way = measured(right, asked)
    path.write_text(json.dumps(eval_document({}, path, asked, EvalOptions(), (way,))), encoding="utf-8")
    return path


def measured(right: Sequence[bool], asked: list[EvalCase]) -> WayResult:
    records = [
        EvalRecord(each.id, each.slice, passed, "yes" if passed else "no", "stop", 1, 1, 0.0, 0.0)
        for each, passed in zip(asked, right, strict=True)
    ]
    sampling = {"temperature": 0.0, "max_tokens": 20}
    return WayResult("greedy", sampling, len(asked), 1, 1, summarise(asked, records, 20, 1.0), ())


# As many as the example has, of which it loses 4 and gains 1.
FP32 = [number != 323 for number in range(324)]
INT4 = [number >= 4 for number in range(324)]


def test_a_quick_look_asks_as_many_as_an_original_needs(tmp_path: Path, settings: Settings) -> None:
    asked = cases(324)
    file = of_ship(tmp_path / "original.json", FP32, asked)
    outcomes = {}
    for lost in (4, 30):
        with ScriptedEngine({each.id: "no" if number < lost else "yes" for number, each in enumerate(asked)}) as chat:
            subject = subject_of(chat, settings, asked, original=file, effort="quick")
            outcomes[lost] = found_by(CHECK, subject)["beside-original"].outcome
    assert (len(subject.cases), outcomes) == (QUICK_PAIRS, {4: "pass", 30: "fail"})


def test_what_was_measured_of_all_cases_is_not_asked_again(tmp_path: Path, settings: Settings) -> None:
    asked = cases(324)
    file = of_ship(tmp_path / "original.json", FP32, asked)
    with saying(asked, 324) as chat:
        known = subject_of(chat, settings, asked, original=file, measured=measured(INT4, asked), effort="quick")
        good = found_by(CHECK, known)["beside-original"]
        worse = [number >= 30 for number in range(324)]
        known = subject_of(chat, settings, asked, original=file, measured=measured(worse, asked), effort="quick")
        bad = found_by(CHECK, known)["beside-original"]
    assert len(known.cases) == QUICK_CASES
    assert (good.outcome, bad.outcome) == ("pass", "fail")
    assert good.figure == pytest.approx(-3 / 324)
    # Most of what is lost was not asked now.
    assert [each.id for each in bad.evidence] == [f"domain/beside-original/q{number}" for number in range(5)]


def test_few_cases_beside_an_original_are_undecided(tmp_path: Path, settings: Settings) -> None:
    asked = cases(60)
    file = of_ship(tmp_path / "original.json", [True] * 60, asked)
    with saying(asked, 60) as chat:
        found = found_by(CHECK, subject_of(chat, settings, asked, original=file))["beside-original"]
    assert (found.outcome, found.decided_by) == ("undecided", "About 5 more cases like these.")


def test_greedily_and_as_it_ships_are_judged_each(tmp_path: Path, settings: Settings) -> None:
    asked = [case(f"q{number}", slice="ab"[number % 2]) for number in range(200)]
    file = of_ship(tmp_path / "original.json", [True] * 200, asked)
    chat = sampling_server(lambda question, greedy: "no" if greedy and int(question[1:]) >= 100 else "yes")
    found = found_by(CHECK, subject_of(chat, settings, asked, original=file))
    assert outcomes(found) == {
        "answers-come": "pass",
        "pass-rate": "pass",
        "slices": "pass",
        "pass-rate-greedy": "fail",
        "slices-greedy": "pass",
        "sampling-drop": "pass",
        # It was asked greedily alone, which is not how this target answers by itself.
        "beside-original-greedy": "fail",
        "slices-beside-original-greedy": "fail",
    }
    ids = [each.id for finding in found.values() for each in finding.evidence]
    assert len(ids) == len(set(ids)) == 15
    assert found["pass-rate-greedy"].evidence[0].request["sampling"]["temperature"] == 0.0


@pytest.mark.parametrize(("lost", "outcome"), [(0, "pass"), (1, "fail")])
def test_bounds_that_allow_nothing_are_meant_of_the_cases(
    lost: int, outcome: str, tmp_path: Path, settings: Settings
) -> None:
    asked = cases(50)
    file = of_ship(tmp_path / "original.json", [True] * 50, asked)
    with saying(asked, 50 - lost) as chat:
        found = found_by(
            CHECK, subject_of(chat, settings, asked, original=file), DomainBounds(min_pass_rate=1.0, max_drop=0.0)
        )
    assert found["pass-rate"].outcome == outcome
    assert found["beside-original"].outcome == ("undecided" if lost else "pass")


def test_the_interval_is_the_one_that_judged(settings: Settings) -> None:
    asked = cases(100)
    with saying(asked, 73) as chat:
        found = found_by(CHECK, subject_of(chat, settings, asked))["pass-rate"]
    assert found.interval
    assert (found.outcome, found.interval[1] < 0.8) == ("fail", True)


def test_an_original_that_is_a_target_is_asked_the_same(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = cases(40)
    original = Target("url", "http://127.0.0.1:8/v1", settings)
    with saying(asked, 40) as better, saying(asked, 36) as chat:
        monkeypatch.setattr(Subject, "_opened", lambda subject, _=None: {original.name: better}[subject.target.name])
        subject = subject_of(chat, settings, asked, original=original, api_key="the target's own")
        found = found_by(CHECK, subject, DomainBounds(max_drop=0.01))
    assert (found["beside-original"].outcome, found["beside-original"].figure) == ("fail", -0.1)


@pytest.mark.parametrize("error", [RemoteFailed("nobody answers"), UsageError("it has several models")])
def test_an_original_that_does_not_answer_is_no_fault_of_the_target(
    error: EdgeshipError, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise error

    asked = cases(20)
    monkeypatch.setattr(Subject, "_opened", fails)
    with saying(asked, 20) as chat:
        subject = subject_of(chat, settings, asked, original=Target("url", "http://127.0.0.1:8/v1", settings))
        found = found_by(CHECK, subject)["beside-original"]
    assert (found.outcome, bool(found.decided_by)) == ("undecided", True)
    assert error.what in found.told


def test_an_original_is_asked_what_a_quick_look_asks(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = cases(400)
    with saying(asked, 400) as chat:
        monkeypatch.setattr(Subject, "_opened", lambda *_: chat)
        original = Target("url", "http://127.0.0.1:8/v1", settings)
        subject = subject_of(chat, settings, asked, original=original, effort="quick")
        found = found_by(CHECK, subject)["beside-original"]
    assert (found.outcome, f"of {QUICK_PAIRS} cases" in found.told) == ("pass", True)


def test_an_original_that_was_asked_other_things_decides_nothing(tmp_path: Path, settings: Settings) -> None:
    asked = cases(20)
    with saying(asked, 20) as chat:
        file = kept(tmp_path / "original.json", chat, [case("other")], settings)
        found = found_by(CHECK, subject_of(chat, settings, asked, original=file))["beside-original"]
    assert (found.outcome, bool(found.decided_by)) == ("undecided", True)


def test_cases_without_an_answer_fail_with_why(settings: Settings) -> None:
    def say(question: str, _: bool) -> str:
        if question == "q3":
            raise RemoteFailed("it went away")
        return "yes"

    found = found_by(CHECK, subject_of(sampling_server(say), settings, cases(20)))["answers-come"]
    assert (found.outcome, found.figure) == ("fail", 1 / 20)
    assert [each.id for each in found.evidence] == ["domain/answers-come/shipped/q3", "domain/answers-come/greedy/q3"]
    assert "it went away" in found.evidence[0].got


def test_quick_takes_a_few_cases_evenly(settings: Settings) -> None:
    asked = [case(f"q{number}", slice="first" if number < 100 else "last") for number in range(200)]
    with saying(asked, 200) as chat:
        subject = subject_of(chat, settings, asked, effort="quick")
        found = found_by(CHECK, subject)
    assert len(subject.cases) == QUICK_CASES
    assert {each.slice for each in subject.cases} == {"first", "last"}
    assert found["pass-rate"].outcome == "pass"


def test_what_a_quick_look_leaves_undecided_more_cases_of_the_file_decide(settings: Settings) -> None:
    asked = cases(200)
    with ScriptedEngine({each.id: "no" if number % 8 == 0 else "yes" for number, each in enumerate(asked)}) as chat:
        found = found_by(CHECK, subject_of(chat, settings, asked, effort="quick"))["pass-rate"]
    assert found.outcome == "undecided"
    assert "A quick look leaves 152 cases out: look without --quick" in str(found.decided_by)


def test_what_did_not_answer_is_not_asked_all_again(settings: Settings) -> None:
    asked: list[str] = []

    def say(question: str, _: bool) -> str:
        asked.append(question)
        raise RemoteFailed("it went away")

    subject = subject_of(sampling_server(say), settings, cases(20))
    for _ in range(2):
        with pytest.raises(RemoteFailed):
            subject.evaluation()
    assert len(asked) <= 20


def test_without_an_evaluation_there_is_nothing_to_ask(settings: Settings) -> None:
    with ScriptedEngine({}) as chat:
        reason = CHECK.not_for(subject_of(chat, settings))
        assert reason
        assert "--eval" in reason
        assert CHECK.not_for(subject_of(chat, settings, cases(1))) is None
