"""Shapes of examples in fine-tuning files."""

from __future__ import annotations

from typing import Any

import pytest

from edgeship.package.examples import document, unified

ASKED = [{"role": "user", "content": "hello"}]
ANSWERED = [*ASKED, {"role": "assistant", "content": "yes"}]


@pytest.mark.parametrize(
    "example",
    [
        {"messages": ANSWERED},
        {"messages": ANSWERED, "source": "somewhere", "tools": None},
        {"conversations": [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "yes"}]},
        {"conversations": ANSWERED},
        {"prompt": "hello", "completion": "yes"},
        {"prompt": ASKED, "completion": [{"role": "assistant", "content": "yes"}]},
        {"instruction": "hello", "input": "", "output": "yes"},
        {"instruction": "hello", "output": "yes"},
        {"question": "hello", "answer": "yes"},
        {"input": "hello", "output": "yes"},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}, ANSWERED[1]]},
    ],
)
def test_a_question_and_its_answer(example: dict[str, Any]) -> None:
    assert unified(example) == {"messages": ASKED, "expected": "yes"}


def test_what_else_is_said_is_kept() -> None:
    assert unified({"id": 3, "slice": "new", "prompt": "hello", "completion": "yes", "extra": 1}) == {
        "id": 3,
        "slice": "new",
        "messages": ASKED,
        "expected": "yes",
    }
    found = unified({"instruction": "Translate.", "input": "ja", "output": "yes", "system": "Be brief."})
    system = {"role": "system", "content": "Be brief."}
    assert found["messages"] == [system, {"role": "user", "content": "Translate.\n\nja"}]


SYSTEM = {"role": "system", "content": "Be brief."}
SHAREGPT = [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "yes"}]


@pytest.mark.parametrize(
    ("example", "asked"),
    [
        ({"system": "Be brief.", "conversations": SHAREGPT}, [SYSTEM, *ASKED]),
        ({"system": "Be brief.", "messages": ANSWERED}, [SYSTEM, *ASKED]),
        ({"system": "Be brief.", "messages": [SYSTEM, *ANSWERED]}, [SYSTEM, *ASKED]),
        ({"system": " ", "messages": ANSWERED, "tools": "[]"}, ASKED),
        ({"instruction": "hello", "output": "yes", "history": [["hello", "yes"]]}, [*ANSWERED, *ASKED]),
        (
            {"instruction": "Say it.", "context": "hello", "response": "yes"},
            [{"role": "user", "content": "Say it.\n\nhello"}],
        ),
        ({"prompt": ASKED, "completion": [ANSWERED[1], *ANSWERED]}, [*ANSWERED, *ASKED]),
        ({"messages": ANSWERED, "prompt": " hello", "instruction": "", "input": "hell"}, ASKED),
    ],
    ids=str,
)
def test_all_that_the_model_was_told_is_asked(example: dict[str, Any], asked: list[dict[str, str]]) -> None:
    assert unified(example) == {"messages": asked, "expected": "yes"}


@pytest.mark.parametrize(
    ("more", "left"),
    [
        ({"messages": ANSWERED, "tools": [{"type": "function"}]}, "tools"),
        ({"messages": ANSWERED, "images": ["a.png"]}, "images"),
        ({"messages": ANSWERED, "system": ["Be brief."]}, "system"),
        ({"messages": [SYSTEM, *ANSWERED], "system": "Be long."}, "system"),
        ({"messages": ANSWERED, "instruction": "Translate."}, "instruction"),
        ({"conversations": SHAREGPT, "input": "late"}, "input"),
        ({"messages": ANSWERED, "question": "why"}, "question"),
        ({"question": "hello", "answer": "yes", "input": "late"}, "input"),
        ({"question": "hello", "answer": "yes", "context": "It is late."}, "context"),
        ({"question": "hello", "answer": 1, "choices": ["no", "yes"]}, "choices"),
        ({"instruction": "hello", "output": "yes", "history": "hello"}, "history"),
    ],
    ids=str,
)
def test_what_is_not_asked_stays_for_others_to_refuse(more: dict[str, Any], left: str) -> None:
    assert unified(more)[left] == more[left]


def test_calls_and_images_in_turns_stay_for_others_to_refuse() -> None:
    answer = {"role": "assistant", "content": "yes", "tool_calls": [{}]}
    assert unified({"messages": [*ASKED, answer]})["messages"][-1] == answer
    seen = [{"type": "text", "text": "hello"}, {"type": "image", "image": "a.png", "text": ""}]
    assert unified({"messages": [{"role": "user", "content": seen}, ANSWERED[1]]})["messages"][0]["content"] == seen


def test_earlier_turns_stay() -> None:
    assert unified({"messages": [*ANSWERED, *ANSWERED]})["messages"] == [*ANSWERED, *ASKED]


@pytest.mark.parametrize("name", ["answers", "ideal"])
def test_several_answers(name: str) -> None:
    assert unified({"question": "hello", name: ["yes", "no"]}) == {
        "match": "exact",
        "messages": ASKED,
        "expected": ["yes", "no"],
    }


@pytest.mark.parametrize(
    "example",
    [{}, {"messages": ASKED, "expected": "x", "more": 1}, {"messages": []}, {"text": "hello"}, {"messages": 3}],
)
def test_others_are_left_as_they_are(example: dict[str, Any]) -> None:
    assert unified(example) == example


@pytest.mark.parametrize("content", [1.5, None, [5], {"a": 1}])
def test_an_answer_that_is_no_text_is_left_for_others_to_refuse(content: object) -> None:
    found = unified({"prompt": ASKED, "completion": [{"role": "assistant", "content": content}]})
    assert found.get("expected") == content


@pytest.mark.parametrize("text", ["[INST] plain", "{}", '{"a": 1}\n{"a": 2}\n', '{"a":\n', "[" * 100_000, "", "5"])
def test_other_texts_are_no_document_of_examples(text: str) -> None:
    assert document(text) is None


def test_a_document_of_examples() -> None:
    assert document(' [{"a": 1}, "b", []]') == [{"a": 1}, "b", []]
    assert document('{\n  "a": 1\n}\n') == [{"a": 1}], "a single one on several lines"
    assert document("[]") == []
