from __future__ import annotations

import json
from typing import Any

import pytest

from edgeship.engine.api import Constraint
from edgeship.engine.thinking import Marks
from edgeship.errors import EvalInvalid
from edgeship.measure.cases.evalset import EvalCase
from edgeship.measure.evaluation.evaluate import answer_tokens, evaluate
from edgeship.measure.statistics.intervals import wilson
from tests.scripted import ScriptedEngine


def case(name: str, expected: Any, **changes: Any) -> EvalCase:
    return EvalCase.model_validate(
        {"id": name, "messages": [{"role": "user", "content": name}], "expected": expected} | changes
    )


def test_outcomes_and_slices() -> None:
    cases = [
        case("one", "right", slice="seen"),
        case("two", {"a": 1}, slice="new"),
        case("three", "right", slice="new"),
    ]
    engine = ScriptedEngine({"one": "right\n", "two": '{"a":1}', "three": "wrong"})
    told: list[float | None] = []
    found = evaluate(engine, cases, lambda _, fraction: told.append(fraction))
    assert (found.cases, found.passed, found.pass_rate) == (3, 2, 2 / 3)
    assert found.pass_rate_95 == wilson(2, 3)
    assert {name: (one.passed, one.cases) for name, one in found.by_slice.items()} == {"seen": (1, 1), "new": (1, 2)}
    assert [(one.id, one.question, one.expected, one.answer) for one in found.failures] == [
        ("three", "three", "right", "wrong")
    ]
    assert [(one.id, one.passed, one.answer, one.finish) for one in found.records] == [
        ("one", True, "right\n", "stop"),
        ("two", True, '{"a":1}', "stop"),
        ("three", False, "wrong", "stop"),
    ]
    assert found.completion_tokens == sum(one.completion_tokens for one in found.records)
    assert all(0 <= one.ttft_s <= one.e2e_s for one in found.records)
    assert found.ttft.p50_ms <= found.ttft.p95_ms
    assert told == [0, 1 / 3, 2 / 3, 1]


def test_only_the_first_failures_are_listed() -> None:
    found = evaluate(ScriptedEngine({}), [case(str(index), "x") for index in range(25)])
    assert [one.id for one in found.failures] == [str(index) for index in range(20)]
    assert len(found.records) == 25


def test_answers_have_twice_the_longest_expected_and_some_room() -> None:
    engine = ScriptedEngine({})
    assert answer_tokens(engine, [case("a", "x" * 10), case("b", "x" * 30)]) == 76
    assert answer_tokens(engine, [case("a", {"k": 1})]) == 2 * len(json.dumps({"k": 1})) + 16
    assert answer_tokens(engine, [case("a", "Paris", match="contains")]) == 2 * 5 + 256


def test_an_endless_answer_is_cut() -> None:
    found = evaluate(ScriptedEngine({"a": "no " * 1000}), [case("a", "yes")])
    assert (found.records[0].finish, found.records[0].completion_tokens) == ("length", 22)
    assert found.max_tokens == 22


def test_a_case_that_does_not_fit_is_named() -> None:
    engine = ScriptedEngine({}, context_tokens=32)
    with pytest.raises(EvalInvalid, match=r"case 'long' cannot be asked: the prompt has \d+ tokens"):
        evaluate(engine, [case("ok", "x"), case("long", "x", messages=[{"role": "user", "content": "x" * 40}])])


def test_thoughts_are_neither_cut_nor_judged() -> None:
    long = "<" + "so " * 400 + ">\n\n"
    engine = ScriptedEngine({"a": long + "yes", "b": long + '{"c": 1}'}, thought_marks=Marks(ord("<"), ord(">")))
    cases = [case("a", "<think>\n\n</think>\n\nyes"), case("b", {"c": 1})]
    found = evaluate(engine, cases)
    assert (found.passed, [one.answer for one in found.records]) == (2, ["yes", '{"c": 1}'])
    assert found.completion_tokens > 2 * len(long)


def test_thoughts_that_a_chat_does_not_tell_apart_are_not_judged() -> None:
    assert evaluate(ScriptedEngine({"a": "<think>hm</think>\nyes"}), [case("a", "yes" + " " * 20)]).passed == 1


@pytest.mark.slow
def test_answers_are_held_to_a_constraint() -> None:
    held = Constraint("json_schema", '{"enum": ["yes", "no"]}')
    engine = ScriptedEngine({"a": '"yes" I think'})
    assert evaluate(engine, [case("a", '"yes"', match="json")], constraint=held).passed == 1
    assert evaluate(engine, [case("a", '"yes"', match="json")]).passed == 0
