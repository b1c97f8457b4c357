from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from edgeship.engine.api import Sampling
from edgeship.errors import NotSupported
from edgeship.measure.cases.evalset import EvalCase
from edgeship.settings import Settings
from edgeship.validate.output_format.answers import CHECK
from edgeship.validate.requests import ask_again
from edgeship.validate.verdict import Finding
from tests.measure.evaluation.test_target import Server
from tests.scripted import CallingEngine, ScriptedEngine
from tests.validate.subjects import case, found_by, subject_of

KINDS = ("order", "refund", "other")


def right(number: int) -> str:
    return json.dumps({"kind": KINDS[number % 3], "name": f"Ada {number}"})


ASKED = [case(f"q{number}", right(number)) for number in range(40)]


def looked_at(
    settings: Settings, say: Callable[[int], str] = right, cases: list[EvalCase] = ASKED, **against: Any
) -> dict[str, Finding]:
    answers = {each.id: say(number) for number, each in enumerate(cases)}
    with ScriptedEngine(answers) as chat:
        return found_by(CHECK, subject_of(chat, settings, cases, **against))


def failing(found: dict[str, Finding]) -> set[str]:
    return {name for name, finding in found.items() if finding.outcome == "fail"}


def test_right_answers_pass_and_the_shape_is_told(settings: Settings) -> None:
    found = looked_at(settings)
    assert {finding.outcome for finding in found.values()} == {"pass"}
    assert 'an object of kind: one of "order", "other", "refund"; name: string' in found["structure"].told
    assert "Of 24 answers that were held to their structure, 0 lack it" in found["structure-when-held"].told


@pytest.mark.parametrize(
    ("say", "caught"),
    [
        (lambda number: right(number).replace("kind", "sort"), {"structure"}),
        (lambda number: f"Sure! {right(number)}", {"structure"}),
        (lambda number: right(number) + " " + "x" * 400, {"structure", "ends", "loops", "length"}),
        (lambda number: right(number) + "<|im_end|>", {"structure", "marks"}),
        (lambda number: json.dumps({"kind": "other", "name": "и" * 9 + str(number)}, ensure_ascii=False), {"script"}),
        (lambda _: "", {"structure", "ends", "length"}),
    ],
    ids=["other-fields", "words-around", "goes-on", "leaks", "other-script", "empty"],
)
def test_each_fault_is_found_by_its_name(say: Callable[[int], str], caught: set[str], settings: Settings) -> None:
    found = looked_at(settings, say)
    assert failing(found) == caught
    for name in caught:
        first = found[name].evidence[0]
        assert first.id.startswith(f"format/{name}/")
        conversation, _ = ask_again(json.loads(json.dumps(first.request)))
        assert conversation.messages[0]["content"] in {each.id for each in ASKED}


def test_one_answer_of_many_is_no_fault_of_the_format_but_a_mark_is(settings: Settings) -> None:
    said = looked_at(settings, lambda number: "oh" if number == 7 else right(number))
    assert said["structure"].outcome == "pass"
    leaky = looked_at(settings, lambda number: f"{right(number)}<|eot_id|>" if number == 7 else right(number))
    assert leaky["marks"].outcome == "fail"


def test_a_few_cases_too_many_are_undecided(settings: Settings) -> None:
    found = looked_at(settings, lambda number: "oh" if number in (3, 7, 9) else right(number))["structure"]
    assert (found.outcome, found.figure) == ("undecided", 3 / 40)
    assert found.decided_by
    assert len(found.evidence) == 3


def test_free_texts_have_no_structure_to_keep(settings: Settings) -> None:
    cases = [case(f"q{number}", f"It is {'very ' * (number % 5)}no. {number}!") for number in range(9)]
    found = looked_at(settings, lambda number: cases[number].expected_text, cases)
    assert [found[name].outcome for name in ("structure", "structure-when-held")] == ["skipped", "skipped"]
    assert not failing(found)


def test_slices_may_have_shapes_of_their_own(settings: Settings) -> None:
    cases = [case(f"q{number}", right(number), slice="json") for number in range(12)]
    cases += [case(f"w{number}", ("yes", "no")[number % 2], slice="word") for number in range(12)]
    found = looked_at(settings, lambda number: cases[number].expected_text if number < 12 else "perhaps", cases)
    assert failing(found) == {"structure"}
    assert 'word: one of "no", "yes"' in found["structure"].told
    assert "12 of 24" in found["structure"].told


def test_a_case_with_a_schema_is_asked_free_as_well(settings: Settings) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer", "maximum": 9}}, "required": ["a"]}
    cases = [case(f"q{number}", {"a": number}, schema=schema) for number in range(8)]
    found = looked_at(settings, lambda number: '{"b": "no"}' if number % 2 else f'{{"a": {number}}}', cases)
    assert "4 of 8 free answers" in found["structure"].told
    assert "structure" in failing(found)
    assert found["structure-when-held"].outcome == "pass"


def test_a_target_that_ignores_constraints_is_caught(settings: Settings) -> None:
    def say(question: str, sampling: Sampling) -> str:
        return "as I please" if sampling.constraint else right(int(question[1:]))

    found = found_by(CHECK, subject_of(Server(say), settings, ASKED))
    assert failing(found) == {"structure-when-held"}
    assert found["structure-when-held"].evidence[0].id == "format/structure-when-held/held/q0"


def test_a_target_that_knows_no_constraints_is_not_held_to_them(settings: Settings) -> None:
    def say(question: str, sampling: Sampling) -> str:
        if sampling.constraint:
            raise NotSupported("this server holds answers to nothing")
        return right(int(question[1:]))

    found = found_by(CHECK, subject_of(Server(say), settings, ASKED))
    assert found["structure-when-held"].outcome == "skipped"
    assert "holds answers to nothing" in found["structure-when-held"].told
    assert not failing(found)


TOOL = {
    "type": "function",
    "function": {
        "name": "find",
        "parameters": {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]},
    },
}


@pytest.mark.parametrize(("arguments", "caught"), [('{"id": 3}', set()), ('{"id": "x"}', {"calls"}), ("{", {"calls"})])
def test_calls_must_be_such_as_the_tools_allow(arguments: str, caught: set[str], settings: Settings) -> None:
    asserted = {"type": "tool-calls", "value": [{"name": "find", "arguments": {"id": 3}}]}
    cases = [case(f"q{number}", None, tools=[TOOL], **{"assert": [asserted]}) for number in range(6)]
    with CallingEngine({}, arguments) as chat:
        found = found_by(CHECK, subject_of(chat, settings, cases))
    assert failing(found) == caught


def test_without_an_evaluation_a_few_questions_are_asked(settings: Settings) -> None:
    with ScriptedEngine({}, default="It is so.") as chat:
        found = found_by(CHECK, subject_of(chat, settings))
    assert not failing(found)
    assert "0 of 8 answers did not end by themselves" in found["ends"].told
    with ScriptedEngine({}, default="It goes on and on, and " * 40) as chat:
        assert failing(found_by(CHECK, subject_of(chat, settings))) == {"ends", "loops"}


def test_both_checks_share_one_pass_of_answers(settings: Settings) -> None:
    from edgeship.validate import domain

    asked: list[str] = []

    def say(question: str, sampling: Sampling) -> str:
        asked.append(question if not sampling.constraint else f"{question}, held")
        return right(int(question[1:]))

    subject = subject_of(Server(say), settings, ASKED)
    found_by(domain.CHECK, subject)
    before = len(asked)
    found_by(CHECK, subject)
    assert all(question.endswith(", held") for question in asked[before:])
