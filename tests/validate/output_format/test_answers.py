from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from edgeship.engine.api import AnswerSteps, Conversation, OnStep, Sampling, Token, Usage
from edgeship.errors import (
    ContextFull,
    DeadlinePassed,
    DependencyMissing,
    EdgeshipError,
    EngineBusy,
    NotSupported,
    PromptInvalid,
    RemoteFailed,
)
from edgeship.measure.cases.evalset import EvalCase
from edgeship.measure.evaluation import asking
from edgeship.settings import Settings
from edgeship.validate.output_format.answers import CHECK, FormatBounds
from edgeship.validate.requests import ask_again
from edgeship.validate.verdict import Finding
from tests.measure.evaluation.test_target import Server
from tests.scripted import CallingEngine, Made, ScriptedEngine
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
    assert "Of 24 answers that were made under a constraint, 0 do not keep it" in found["structure-constrained"].told


@pytest.mark.parametrize(
    ("say", "caught"),
    [
        (lambda number: right(number).replace("kind", "sort"), {"structure"}),
        (lambda number: f"Sure! {right(number)}", {"structure"}),
        (lambda number: right(number) + " " + "x" * 400, {"structure", "ends", "loops", "length"}),
        (lambda number: right(number) + "<|im_end|>", {"structure", "control-tokens"}),
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
    assert leaky["control-tokens"].outcome == "fail"


@pytest.mark.parametrize(("wrong", "outcome"), [(2, "pass"), (4, "pass"), (5, "fail")])
def test_a_few_answers_too_many_may_be_chance(wrong: int, outcome: str, settings: Settings) -> None:
    found = looked_at(settings, lambda number: "oh" if number < wrong else right(number))["structure"]
    assert (found.outcome, found.figure, found.decided_by) == (outcome, wrong / 40, None)
    assert ("may be chance" in found.told) == (outcome == "pass" and wrong / 40 > 0.05)
    assert len(found.evidence) == (5 if outcome == "fail" else 0)


def test_so_few_answers_that_all_may_be_wrong_by_chance_are_undecided(settings: Settings) -> None:
    with ScriptedEngine({}, default="It goes on and on, and " * 40) as chat:
        subject = subject_of(chat, settings, effort="quick")
        found = found_by(CHECK, subject, FormatBounds(max_truncated_built_in_share=0.6))["ends"]
    assert (found.outcome, found.decided_by) == ("undecided", "6 answers like these.")
    with ScriptedEngine({}, default="It goes on and on, and " * 40) as chat:
        assert failing(found_by(CHECK, subject_of(chat, settings, effort="quick"))) == {"ends", "loops"}


def test_free_texts_have_no_structure_to_keep(settings: Settings) -> None:
    cases = [case(f"q{number}", f"It is {'very ' * (number % 5)}no. {number}!") for number in range(9)]
    found = looked_at(settings, lambda number: cases[number].expected_text, cases)
    assert [found[name].outcome for name in ("structure", "structure-constrained")] == ["skipped", "skipped"]
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
    assert "4 of 8 answers without a constraint" in found["structure"].told
    assert "structure" in failing(found)
    assert found["structure-constrained"].outcome == "pass"


def test_a_target_that_ignores_constraints_is_caught(settings: Settings) -> None:
    def say(question: str, sampling: Sampling) -> str:
        return "as I please" if sampling.constraint else right(int(question[1:]))

    found = found_by(CHECK, subject_of(Server(say), settings, ASKED))
    assert failing(found) == {"structure-constrained"}
    assert found["structure-constrained"].evidence[0].id == "format/structure-constrained/constrained/q0"


def test_a_target_that_knows_no_constraints_is_not_held_to_them(settings: Settings) -> None:
    def say(question: str, sampling: Sampling) -> str:
        if sampling.constraint:
            raise NotSupported("this server holds answers to nothing")
        return right(int(question[1:]))

    found = found_by(CHECK, subject_of(Server(say), settings, ASKED))
    assert found["structure-constrained"].outcome == "skipped"
    assert "holds answers to nothing" in found["structure-constrained"].told
    assert not failing(found)


@pytest.mark.parametrize("cases", [ASKED, []], ids=["evaluation", "built-in"])
def test_a_server_that_refuses_constraints_is_not_held_to_them(cases: list[EvalCase], settings: Settings) -> None:
    def say(question: str, sampling: Sampling) -> str:
        if sampling.constraint:
            raise PromptInvalid("the server refuses the request (400): response_format is not known")
        return right(int(question[1:])) if cases else "It is so."

    found = found_by(CHECK, subject_of(Server(say), settings, cases))
    assert (found["structure-constrained"].outcome, failing(found)) == ("skipped", set())
    assert "response_format is not known" in found["structure-constrained"].told
    assert "answers-come" not in found


def failing_when_held(settings: Settings, fails: Callable[[str], EdgeshipError | None]) -> dict[str, Finding]:
    def say(question: str, sampling: Sampling) -> str:
        if sampling.constraint and (error := fails(question)):
            raise error
        return right(int(question[1:]))

    return found_by(CHECK, subject_of(Server(say), settings, ASKED))


def test_one_connection_that_breaks_is_no_fault_and_ends_no_check(settings: Settings) -> None:
    broken = RemoteFailed("the connection to the server broke")
    found = failing_when_held(settings, lambda question: broken if question == "q5" else None)
    assert {finding.outcome for finding in found.values()} == {"pass"}
    assert "1 of 24 answers that were asked for besides the evaluation did not come" in found["answers-come"].told
    assert "Of 23 answers that were made under a constraint, 0 do not keep it" in found["structure-constrained"].told


def test_a_server_that_breaks_when_answers_are_held_fails_by_that_alone(settings: Settings) -> None:
    found = failing_when_held(settings, lambda _: DeadlinePassed("the answer was not whole within 300 s"))
    assert failing(found) == {"answers-come"}
    assert found["answers-come"].evidence[0].id == "format/answers-come/constrained/q0"
    assert found["answers-come"].evidence[0].got.startswith("deadline-passed: ")
    assert (found["structure"].outcome, found["structure-constrained"].outcome) == ("pass", "skipped")


def test_a_server_that_stays_busy_is_undecided(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "BUSY_WAIT_S", 0.0)
    found = failing_when_held(settings, lambda _: EngineBusy("the server is busy (429)"))
    assert (found["answers-come"].outcome, failing(found)) == ("undecided", set())


def test_what_this_machine_lacks_is_no_answer(settings: Settings) -> None:
    with pytest.raises(DependencyMissing):
        failing_when_held(settings, lambda _: DependencyMissing("llguidance is not installed"))


def test_built_in_questions_that_nobody_answers_end_with_their_error(settings: Settings) -> None:
    def say(*_: object) -> str:
        raise RemoteFailed("no server answers there")

    with pytest.raises(RemoteFailed, match="no server answers"):
        found_by(CHECK, subject_of(Server(say), settings))


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
        asked.append(question if not sampling.constraint else f"{question}, constrained")
        return right(int(question[1:]))

    subject = subject_of(Server(say), settings, ASKED)
    found_by(domain.CHECK, subject)
    before = len(asked)
    found_by(CHECK, subject)
    assert all(question.endswith(", constrained") for question in asked[before:])


class ThinkingServer(Server):
    """A server whose answers begin with thoughts of so many tokens, which count; a character is a token."""

    def __init__(self, say: Callable[[str, Sampling], str], thoughts: int) -> None:
        super().__init__(say)
        self._thoughts = thoughts

    def converse(
        self,
        conversation: Conversation,
        sampling: Sampling,
        *,
        cancel: threading.Event | None = None,  # noqa: ARG002 - nobody cancels
        deadline_s: float | None = None,  # noqa: ARG002 - it takes no time
        on_step: OnStep | None = None,
    ) -> AnswerSteps:
        question = str(conversation.messages[-1]["content"])
        self.asked.append((question, sampling, conversation))
        said = self.say(question, sampling)
        text = said[: max(0, (sampling.max_tokens or 0) - self._thoughts)]
        assert on_step
        on_step(Token(None, "", thinking="Hm. Well."))
        on_step(Token(None, text, finish="stop" if text == said else "length", usage=Usage(1, 2, 0.0, 0.0)))
        return Made()


def test_thoughts_of_a_server_take_nothing_from_its_answers(settings: Settings) -> None:
    server = ThinkingServer(lambda question, _: right(int(question[1:])), thoughts=3000)
    subject = subject_of(server, settings, ASKED)
    assert not failing(found_by(CHECK, subject))
    assert [way.result and way.result.pass_rate for way in subject.evaluation()] == [1, 1]
    held = json.dumps({"answer": "It is so.", "sure": True})
    built_in = ThinkingServer(lambda _, sampling: held if sampling.constraint else "It is so.", thoughts=3000)
    assert not failing(found_by(CHECK, subject_of(built_in, settings)))


def test_room_for_thoughts_ends_where_somebody_says_so(settings: Settings) -> None:
    server = ThinkingServer(lambda question, _: right(int(question[1:])), thoughts=3000)
    found = found_by(CHECK, subject_of(server, settings, ASKED, max_tokens=100))
    assert "ends" in failing(found)
    assert "64 of them within their thoughts, for which --max-tokens gives room" in found["ends"].told
    assert {sampling.max_tokens for _, sampling, _ in server.asked} == {100}


def test_a_context_that_has_no_room_for_thoughts_leaves_the_answers_cut(settings: Settings) -> None:
    def say(question: str, sampling: Sampling) -> str:
        if (sampling.max_tokens or 0) > 1000:
            raise ContextFull("the server refuses the request (400): it is longer than the context")
        return right(int(question[1:]))

    found = found_by(CHECK, subject_of(ThinkingServer(say, thoughts=3000), settings, ASKED))
    assert "within their thoughts" in found["ends"].told


def test_an_answer_that_goes_on_without_thoughts_gets_no_more_room(settings: Settings) -> None:
    server = Server(lambda question, _: right(int(question[1:])) + " " + "x" * 400)
    assert "ends" in failing(found_by(CHECK, subject_of(server, settings, ASKED)))
    assert max(sampling.max_tokens or 0 for _, sampling, _ in server.asked) < 100
