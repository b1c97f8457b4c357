"""Schemas taken apart."""

from __future__ import annotations

import re
from typing import Any

import pytest

from edgeship.engine.alternatives import Alternatives

TEXT = {"type": "string"}


def of(schema: Any, **root: Any) -> list[dict[str, Any]]:
    return Alternatives(root).of(schema)


@pytest.mark.parametrize(
    ("schema", "found"),
    [
        (False, []),
        ({"type": "string", "minLength": 1, "minimum": 3, "title": "t"}, [{"type": "string", "minLength": 1}]),
        ({"type": ["integer", "null"], "minimum": 3}, [{"type": "integer", "minimum": 3}, {"type": "null"}]),
        (
            {"enum": ["a", 1, None]},
            [{"type": "string", "const": "a"}, {"type": "number", "const": 1}, {"type": "null", "const": None}],
        ),
        ({"enum": ["a", 1], "type": "string"}, [{"type": "string", "const": "a"}]),
        ({"const": 2.0, "type": "integer"}, [{"type": "integer", "const": 2.0}]),
        ({"anyOf": [TEXT, {"type": "null"}]}, [TEXT, {"type": "null"}]),
        (
            {"type": "number", "minimum": 1, "anyOf": [{"type": "integer", "minimum": 0}, {"maximum": 5}]},
            [{"type": "integer", "minimum": 1}, {"type": "number", "minimum": 1, "maximum": 5}],
        ),
        (
            {"allOf": [{"type": "string", "maxLength": 9}, {"minLength": 2, "maxLength": 5}]},
            [{"type": "string", "maxLength": 5, "minLength": 2}],
        ),
        ({"allOf": [TEXT, {"type": "null"}]}, []),
        ({"$ref": "#/$defs/a", "maxLength": 3}, [{"type": "string", "maxLength": 3}]),
        ({"$ref": "#/$defs/loop"}, [TEXT]),
        (
            {"allOf": [{"type": "array", "items": TEXT, "minItems": 1}, {"items": {"const": "x"}, "maxItems": 2}]},
            [{"type": "array", "items": {"allOf": [TEXT, {"const": "x"}]}, "minItems": 1, "maxItems": 2}],
        ),
    ],
)
def test_alternatives(schema: Any, found: list[dict[str, Any]]) -> None:
    names = {"a": TEXT, "loop": {"anyOf": [TEXT, {"$ref": "#/$defs/loop"}]}}
    apart = Alternatives({"$defs": names})
    assert apart.of(schema) == found
    assert apart.left_out == set()


def test_what_one_part_forbids_no_other_allows() -> None:
    closed = {"type": "object", "properties": {"a": TEXT}, "additionalProperties": False}
    (both,) = of({"allOf": [closed, {"properties": {"b": TEXT}, "required": ["a"]}]})
    assert both["properties"] == {"a": TEXT, "b": {"allOf": [False, TEXT]}}
    assert both["required"] == ["a"]
    assert of(both["properties"]["b"]) == []


@pytest.mark.parametrize(
    ("branches", "kept"),
    [
        ([TEXT, {"type": "integer"}], True),
        ([{"type": "number"}, {"type": "integer"}], False),
        ([{"const": "a"}, {"const": "b"}], True),
        ([{"type": "object", "properties": {"k": {"const": value}}, "required": ["k"]} for value in "ab"], True),
        ([{"type": "object", "properties": {"k": {"const": value}}} for value in "ab"], False),
    ],
)
def test_one_of_several_is_kept_where_they_exclude_each_other(branches: list[Any], kept: bool) -> None:
    apart = Alternatives({})
    assert len(apart.of({"oneOf": branches})) == 2
    assert apart.left_out == (set() if kept else {"oneOf"})


@pytest.mark.parametrize(
    ("schema", "word"),
    [
        ({"enum": ["a"], "minLength": 3}, "minLength"),
        ({"allOf": [{"pattern": "a"}, {"pattern": "b"}]}, "pattern"),
        ({"allOf": [{"const": "a"}, {"pattern": "b"}]}, "pattern"),
        ({"allOf": [{"prefixItems": []}, {"items": TEXT}]}, "prefixItems"),
    ],
)
def test_what_is_left_out_is_named(schema: Any, word: str) -> None:
    apart = Alternatives({})
    apart.of(schema)
    assert apart.left_out == {word}


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "strin"}, "no type 'strin'"),
        ({"$ref": "#/nowhere"}, "refers to nothing"),
        ({"$ref": "https://example.com/a"}, "refers to nothing"),
        ({"anyOf": [3]}, "3 is no schema"),
        ({"allOf": [{"anyOf": [{"minLength": number} for number in range(10)]}] * 9}, "too many"),
        ({"$ref": "#/$defs/a0"}, "too many"),
        ({"oneOf": [{"enum": [*range(3000)]}, {"enum": [*range(3000, 6000)]}]}, "too many"),
        ({"allOf": [{"enum": [*range(30)] * 5}] * 9}, "too many"),
    ],
)
def test_what_cannot_be_taken_apart(schema: Any, why: str) -> None:
    doubled = {f"a{number}": {"anyOf": [{"$ref": f"#/$defs/a{number + 1}"}] * 2} for number in range(40)}
    with pytest.raises(ValueError, match=why):
        of(schema, **{"$defs": {**doubled, "a40": TEXT}})


def test_branches_with_many_names_are_too_much_to_compare() -> None:
    def branch(first: int) -> Any:
        return {"type": "object", "properties": {"k": {"enum": [*range(first, first + 400)]}}, "required": ["k"]}

    with pytest.raises(ValueError, match="too many"):
        of({"oneOf": [branch(400 * number) for number in range(40)]})


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("type", 3),
        ("type", None),
        ("type", [[]]),
        ("enum", 3),
        ("enum", {"a": 1}),
        ("anyOf", 3),
        ("oneOf", {}),
        ("allOf", "ab"),
        ("$ref", 3),
        ("$ref", []),
        ("format", 3),
        ("format", ["date"]),
        ("pattern", 3),
        ("minLength", "1"),
        ("maxLength", -1),
        ("minItems", True),
        ("minimum", "1"),
        ("multipleOf", None),
        ("prefixItems", {}),
        ("properties", ["a"]),
        ("patternProperties", 3),
        ("required", "ab"),
        ("required", [3]),
    ],
)
def test_a_keyword_with_a_value_that_it_cannot_have_is_named(word: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"its {re.escape(word)} is .*, which cannot be"):
        of({word: value})


def test_so_is_one_of_a_property_that_tells_branches_apart() -> None:
    inner = {"type": "object", "properties": {"k": {"enum": 3}}, "required": ["k"]}
    with pytest.raises(ValueError, match="its enum is 3"):
        of({"oneOf": [inner, inner]})


def test_the_types_of_a_property() -> None:
    apart = Alternatives(
        {
            "anyOf": [
                {"type": "object", "properties": {"a": TEXT, "b": {"type": ["integer", "null"]}}},
                {"type": "object", "properties": {"a": {"const": 3}}, "additionalProperties": False},
            ]
        }
    )
    assert apart.kinds("a") == {"string", "number"}
    assert apart.kinds("b") == {"integer", "null"}
    assert apart.kinds("c") == {"string", "number", "boolean", "null", "array", "object"}
