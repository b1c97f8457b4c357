from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeship.engine.api import Chat
from edgeship.errors import RemoteFailed
from edgeship.measure.cases.evalset import EvalCase
from edgeship.measure.evaluation.document import eval_document
from edgeship.settings import Settings
from edgeship.targets import Target
from edgeship.validate.domain import CHECK, DomainBounds
from edgeship.validate.requests import ask_again
from edgeship.validate.subject import QUICK_CASES, Subject
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
    assert [each.id for each in found.evidence] == [f"domain/q{number}" for number in range(2, 7)]
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


def test_settings_that_ruin_a_greedy_model_fail_and_are_named(settings: Settings) -> None:
    asked = cases(40)
    chat = sampling_server(lambda question, greedy: "yes" if greedy or int(question[1:]) % 2 else "well")
    found = found_by(CHECK, subject_of(chat, settings, asked))["sampling-loss"]
    assert (found.outcome, found.figure, found.bound) == ("fail", -0.5, -0.1)
    assert [each.id for each in found.evidence][:2] == ["domain/q0", "domain/q2"]


@pytest.mark.parametrize("lost", [0, 2])
def test_settings_that_cost_little_pass_with_few_cases(lost: int, settings: Settings) -> None:
    asked = cases(20)
    chat = sampling_server(lambda question, greedy: "yes" if greedy or int(question[1:]) >= lost else "well")
    found = found_by(CHECK, subject_of(chat, settings, asked))["sampling-loss"]
    assert (found.outcome, found.decided_by) == ("pass", None)


def test_an_original_that_was_kept_is_held_against_case_by_case(tmp_path: Path, settings: Settings) -> None:
    asked = [case(f"q{number}", slice="ab"[number % 2]) for number in range(200)]
    with saying(asked, 200) as original:
        file = kept(tmp_path / "original.json", original, asked, settings)
    found = {}
    for right in (200, 196, 180):
        with saying(asked, right) as chat:
            found[right] = found_by(CHECK, subject_of(chat, settings, asked, original=file))
    assert [each["beside-original"].outcome for each in found.values()] == ["pass", "undecided", "fail"]
    assert [each["slices-beside-original"].outcome for each in found.values()] == ["pass", "pass", "fail"]
    assert found[180]["pass-rate"].outcome == "pass"
    assert [each.id for each in found[180]["beside-original"].evidence][:2] == ["domain/q180", "domain/q181"]


def test_an_original_that_is_a_target_is_asked_the_same(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = cases(40)
    original = Target("url", "http://127.0.0.1:8/v1", settings)
    with saying(asked, 40) as better, saying(asked, 36) as chat:
        monkeypatch.setattr(Subject, "_opened", lambda subject, _=None: {original.name: better}[subject.target.name])
        subject = subject_of(chat, settings, asked, original=original, api_key="the target's own")
        found = found_by(CHECK, subject, DomainBounds(max_drop=0.01))
    assert (found["beside-original"].outcome, found["beside-original"].figure) == ("fail", -0.1)


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
    assert found.evidence[0].id == "domain/q3"
    assert "it went away" in found.evidence[0].got


def test_quick_takes_a_few_cases_evenly(settings: Settings) -> None:
    asked = [case(f"q{number}", slice="first" if number < 100 else "last") for number in range(200)]
    with saying(asked, 200) as chat:
        subject = subject_of(chat, settings, asked, effort="quick")
        found = found_by(CHECK, subject)
    assert len(subject.cases) == QUICK_CASES
    assert {each.slice for each in subject.cases} == {"first", "last"}
    assert found["pass-rate"].outcome == "pass"


def test_without_an_evaluation_there_is_nothing_to_ask(settings: Settings) -> None:
    with ScriptedEngine({}) as chat:
        reason = CHECK.not_for(subject_of(chat, settings))
        assert reason
        assert "--eval" in reason
        assert CHECK.not_for(subject_of(chat, settings, cases(1))) is None
