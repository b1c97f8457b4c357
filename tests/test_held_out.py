"""Calibration texts and the cases that the verdict is taken from: the first hold none of the second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeship.builder import calibration_texts
from edgeship.errors import CalibrationInvalid
from edgeship.held_out import without_cases
from edgeship.measure.cases.evalset import EvalCase, EvalMessage
from edgeship.recipe import Recipe

ASKED = "Where is my order, please?\nIt is late."
CASES = [
    EvalCase(id=question, messages=(EvalMessage(role="user", content=question),), expected="On its way.")
    for question in (ASKED, "Hi!")
]


def user(question: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "system", "content": "Help."}, {"role": "user", "content": question}], **more}


def recipe(path: Path | None, precision: str = "int4", **fields: Any) -> Recipe:
    return Recipe.model_validate({"precision": precision, "calibration": path, **fields})


def left(folder: Path, given: Path) -> list[Any]:
    """What is still read, as JSON; all of it where nothing was left out."""
    (found,), said = without_cases([recipe(given)], CASES, folder)
    assert bool(said) == (found.calibration != given)
    assert found.calibration is not None
    return [entry.content for entry in calibration_texts.read_entries(found.calibration)]


@pytest.mark.parametrize(
    "case",
    [
        user(ASKED),
        user(ASKED, expected="On its way."),
        user(f"  {ASKED.upper()}\n"),
        user(f"Help.\n\n{ASKED}"),
        {"instruction": ASKED, "output": "Lost."},
        {"question": "hi!", "answer": "Hello."},
        {"text": f"<|user|>{ASKED.replace(chr(10), ' ')}<|assistant|>On its way."},
        {"messages": [*user(ASKED)["messages"], *({"role": who, "content": "So?"} for who in ("assistant", "user"))]},
    ],
)
def test_cases_are_left_out_in_whatever_form(tmp_path: Path, case: dict[str, Any]) -> None:
    texts = tmp_path / "texts.jsonl"
    others = [user("Hi! Where are you?", expected="Here."), {"text": "Hi! It is late. \u3053\u3093"}]
    texts.write_text("\n".join(map(json.dumps, [others[0], case, others[1]])), encoding="utf-8")
    assert left(tmp_path, texts) == [others[0], others[1]["text"]]
    _, (said,) = without_cases([recipe(texts)], CASES, tmp_path)
    assert said.endswith("left out: 1")
    texts.write_text(json.dumps([case, *others]), encoding="utf-8")
    assert left(tmp_path, texts) == [others[0], others[1]["text"]]


def test_cases_are_cut_out_of_plain_text(tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text(f"Before.\n\n{ASKED}\n\nA: On its way.\nAfter. Hi!\n", encoding="utf-8")
    assert [" ".join(text.split()) for text in left(tmp_path, texts)] == ["Before. After. Hi!"]


def test_texts_without_cases_stay_as_they_are(tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("Hi! Where are you?", encoding="utf-8")
    given = (recipe(texts), recipe(None), recipe(None, calibrate=False), recipe(None, "fp32"))
    assert without_cases(given, CASES, tmp_path) == (given, ())


def test_without_cases_nothing_is_read(tmp_path: Path) -> None:
    given = (recipe(tmp_path / "none"),)
    assert without_cases(given, (), tmp_path) == (given, ())


def test_recipes_that_read_the_same_texts_go_on_doing_so(tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text("\n".join(map(json.dumps, [user(ASKED), user("Who?")])), encoding="utf-8")
    given = [recipe(texts), recipe(texts, "int8"), recipe(texts, "fp16"), recipe(None)]
    found, said = without_cases(given, CASES, tmp_path)
    assert len(said) == 1
    assert found[0].calibration == found[1].calibration == tmp_path / "calibration-0.jsonl"
    assert found[2:] == (given[2], given[3])


def test_where_all_texts_are_cases_it_is_refused(tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    for content in (json.dumps(user(ASKED)) + "\n" + json.dumps(user("hi!")), json.dumps([ASKED]), ASKED):
        texts.write_text(content, encoding="utf-8")
        with pytest.raises(CalibrationInvalid, match="all calibration texts are cases of the evaluation"):
            without_cases([recipe(texts)], CASES, tmp_path)


def test_built_in_texts_are_held_to_the_same(tmp_path: Path) -> None:
    lines = calibration_texts.BUILT_IN.read_text(encoding="utf-8").splitlines()
    asked = next(entry["messages"][-2]["content"] for entry in map(json.loads, lines) if "messages" in entry)
    case = EvalCase.model_validate({"id": "a", "messages": [{"role": "user", "content": asked}], "expected": "x"})
    (found,), (said,) = without_cases([recipe(None)], [case], tmp_path)
    assert said.endswith("left out: 1")
    assert found.calibration is not None
    assert len(found.calibration.read_text(encoding="utf-8").splitlines()) == len(lines) - 1


def test_what_is_left_is_the_same_file_for_the_same_texts(tmp_path: Path) -> None:
    """Its digest is part of the build's key, so a second run finds the build of the first."""
    texts = tmp_path / "texts.jsonl"
    texts.write_text("\n".join(map(json.dumps, [user(ASKED), user("Who?")])), encoding="utf-8")
    (tmp_path / "other").mkdir()
    keys = [without_cases([recipe(texts)], CASES, folder)[0][0].to_key() for folder in (tmp_path, tmp_path / "other")]
    assert keys[0] == keys[1]
