from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.engine.api import Constraint
from edgeship.validate.output_format.shape import infer, unlike

TRIAGE = [
    {"intent": "refund", "order": "A-1", "total": 3, "paid": True},
    {"intent": "refund", "order": None, "total": 2.5, "paid": False},
    {"intent": "other", "order": "B-22", "total": 7, "paid": False, "note": "x"},
]


def texts(values: list[Any], times: int = 4) -> list[str]:
    return [json.dumps(value) for value in values] * times


def test_json_has_the_fields_the_types_and_the_labels_of_its_examples() -> None:
    found = infer(texts(TRIAGE))
    assert found
    assert json.loads(found.constraint.text) == {
        "type": "object",
        "properties": {
            "intent": {"type": "string", "enum": ["other", "refund"]},
            "order": {"type": ["null", "string"], "enum": ["A-1", "B-22", None]},
            "total": {"type": "number"},
            "paid": {"type": "boolean"},
            "note": {"type": "string"},
        },
        "required": ["intent", "order", "total", "paid"],
        "additionalProperties": False,
    }
    assert "note (not always): string" in found.told
    assert 'intent: one of "other", "refund"' in found.told


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        ('{"intent": "refund", "order": null, "total": 1, "paid": true}', None),
        ('{"intent": "refund", "order": null, "total": 1}', "paid"),
        ('{"intent": "theft", "order": null, "total": 1, "paid": true}', "theft"),
        ('{"intent": "refund", "order": null, "total": "1", "paid": true}', "$.total"),
        ('{"intent": "refund", "order": null, "total": 1, "paid": true, "more": 1}', "more"),
        ('{"intent": "refund", "order": null, "to', "no JSON"),
        ('```json\n{"intent": "refund", "order": null, "total": 1, "paid": true}\n```', "no JSON"),
        ("[]", "$"),
    ],
)
def test_an_answer_of_another_structure_says_where(answer: str, word: str | None) -> None:
    found = infer(texts(TRIAGE))
    assert found
    fault = unlike(found.constraint, answer)
    assert (fault is None) if word is None else (fault and word in fault)


@pytest.mark.parametrize(
    ("right", "told", "like", "other"),
    [
        (["yes", "no"] * 6, 'one of "no", "yes"', "no", "No."),
        (["1", "2", "3", "4", "5"] * 4, 'one of "1", "2", "3", "4", "5"', "5", "6"),
        (["12", "7", "-3", "1040", "55"], "a whole number", "8", "8.5"),
        (["12.5", "7", "0.25", "3", "4"], "a number", "-8.75", "about 8"),
        (["A-12", "BC-7", "D-999", "EF-0", "G-1"], "a text such as 'A-12'", "XY-5", "XY5"),
        (["a.b (c)", "d"] * 6, 'one of "a.b (c)", "d"', "a.b (c)", "axb (c)"),
    ],
)
def test_labels_numbers_and_codes_are_told_and_kept(right: list[str], told: str, like: str, other: str) -> None:
    found = infer(right)
    assert found
    assert found.told == told
    assert unlike(found.constraint, f" {like}\n") is None
    assert unlike(found.constraint, other)


@pytest.mark.parametrize(
    "right",
    [
        ["yes", "no", "yes", "no"],
        ["Berlin", "Paris", "Rome", "Oslo", "Bern", "Riga"],
        ["yes"] * 11 + ["perhaps"],
        ["yes"] * 12,
        ["The sea is wide.", "It rains.", "12", "A-1", "{}", "no"],
        [],
    ],
    ids=["few", "all-different", "one-alone", "one", "mixed", "none"],
)
def test_free_text_and_too_few_examples_have_no_shape(right: list[str]) -> None:
    assert infer(right) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(-1e6, 1e6) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
WORDS = st.text(st.sampled_from("aB7-. ()[]{}|\\^$é"), min_size=1, max_size=6).filter(str.strip)
JSON_TEXTS = st.lists(
    VALUES.filter(lambda value: isinstance(value, dict | list)).map(json.dumps), min_size=5, max_size=9
)


@given(
    JSON_TEXTS
    | st.lists(WORDS, min_size=5, max_size=9)
    | st.lists(WORDS, min_size=1, max_size=2).map(lambda some: some * 8)
)
def test_every_example_has_the_shape_of_all(right: list[str]) -> None:
    found = infer(right)
    if found:
        assert [unlike(found.constraint, text) for text in right] == [None] * len(right)


@pytest.mark.parametrize(
    ("constraint", "answer", "fits"),
    [
        (Constraint("json_object"), '{"a": 1}', True),
        (Constraint("json_object"), "[1]", False),
        (Constraint("regex", "a|b"), "a", True),
        (Constraint("regex", "a|b"), "ab", False),
        (Constraint("regex", "a.b"), "a\nb", True),
        (Constraint("regex", "(?=a)"), "whatever cannot be told", True),
        (Constraint("lark", 'start: "a"'), "whatever cannot be told", True),
        (Constraint("json_schema", '{"type": "string", "format": "odd"}', lenient=True), '"x"', True),
    ],
)
def test_given_constraints_are_held_against_too(constraint: Constraint, answer: str, fits: bool) -> None:
    assert (unlike(constraint, answer) is None) == fits
