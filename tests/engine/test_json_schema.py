"""Schemas as people bring them: what is said to people only is left aside, what cannot be kept is named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgeship.engine import json_schema
from edgeship.engine.api import Constraint
from edgeship.engine.grammar import Grammars, Matcher
from edgeship.errors import ConstraintInvalid, EngineFailed

END = 256


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    return Grammars([*(bytes([byte]) for byte in range(256)), b"<end>"], 257, (END,), special_ids=(END,))


def read(schema: Any) -> tuple[Any, list[str]]:
    return json_schema.read(json.dumps(schema))


def takes(matcher: Matcher, text: str) -> bool:
    try:
        for byte in text.encode():
            matcher.push(byte)
    except EngineFailed:
        return False
    return bool(matcher.complete or matcher.allowed()[END])


def held(grammars: Grammars, schema: Any, *, lenient: bool = False) -> Matcher:
    return grammars.matcher(Constraint("json_schema", json.dumps(schema), lenient))


# --- annotations ------------------------------------------------------------------------------------------------------

UNKNOWN = [
    *("password", "path", "byte", "binary", "uri-reference", "iri", "idn-email", "json-pointer", "regex", "unknown"),
    *("int32", "int64", "float", "double", "our own name", ""),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", UNKNOWN)
def test_formats_that_are_not_known_say_something_to_people_only(grammars: Grammars, name: str) -> None:
    assert read({"type": "string", "format": name}) == ({"type": "string"}, [])
    assert takes(held(grammars, {"type": "string", "format": name}), '"anything"')
    assert takes(held(grammars, {"type": "integer", "format": name}), "12")


@pytest.mark.slow
@pytest.mark.slow
def test_formats_end(grammars: Grammars) -> None:
    schema = {"type": "string", "format": "date-time"}
    assert takes(held(grammars, schema), '"2026-11-26T10:20:30.123456789+00:00"')
    assert not takes(held(grammars, schema), f'"2026-11-26T10:20:30.{"1" * 15}Z"')
    assert takes(held(grammars, {"type": "string", "format": "email"}), '"a@b.example"')
    assert not takes(held(grammars, {"type": "string", "format": "email"}), f'"{"a" * 260}@b.example"')


@pytest.mark.parametrize(
    ("given", "most"),
    [({}, 24), ({"maxLength": 9}, 9), ({"maxLength": 99}, 24), ({"minLength": 50}, None), ({"maxLength": "9"}, "9")],
    ids=str,
)
def test_a_format_has_a_longest_length(given: dict[str, Any], most: object) -> None:
    schema, left_out = read({"type": "string", "format": "time", **given})
    assert (schema.get("maxLength"), left_out) == (most, [])


@pytest.mark.parametrize("name", sorted(json_schema.FORMATS))
def test_formats_that_are_known_are_enforced(grammars: Grammars, name: str) -> None:
    assert not takes(held(grammars, {"type": "string", "format": name}), '"any thing"')


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        {"title": "t", "description": "d", "default": 3, "examples": [1], "deprecated": True, "readOnly": True},
        {"example": "x", "nullable": True, "xml": {}, "discriminator": {"propertyName": "k"}, "x-order": 3},
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://example.com/s", "$comment": "c"},
        {"contentMediaType": "text/plain", "contentEncoding": "base64", "contentSchema": {}},
        {"uniqueItems": False, "then": {}, "else": False, "minContains": 2, "not": False},
        {"if": {"type": "string"}},
        {"unevaluatedProperties": True, "propertyNames": {}, "dependentRequired": {}, "unevaluatedItems": {}},
        {"contains": {"type": "string"}, "minContains": 0},
    ],
)
def test_words_that_ask_for_nothing(grammars: Grammars, words: dict[str, Any]) -> None:
    assert takes(held(grammars, {"type": "integer"} | words), "12")


@pytest.mark.slow
def test_a_property_may_be_called_as_a_word_of_schemas_is(grammars: Grammars) -> None:
    names = ["format", "not", "uniqueItems", "pattern", "const", "minimum", "if", "x-guidance", "properties", "$ref"]
    schema = {"type": "object", "properties": {name: {"type": "integer"} for name in names}, "required": names}
    assert read(schema) == (schema, [])
    assert takes(held(grammars, schema), json.dumps(dict.fromkeys(names, 1)))


def test_values_are_no_schemas() -> None:
    schema = {"const": {"format": "mine", "not": 1}, "enum": [{"uniqueItems": True}], "default": {"format": "x"}}
    assert read(schema) == (schema, [])


# --- what cannot be kept ----------------------------------------------------------------------------------------------

NOT_KEPT = [
    ("uniqueItems", {"type": "array", "uniqueItems": True}),
    ("not", {"not": {"type": "string"}}),
    ("contains", {"contains": {"type": "string"}}),
    ("contains", {"contains": {}, "minContains": 0, "maxContains": 2}),
    ("if", {"if": {"type": "string"}, "then": {"minLength": 3}}),
    ("propertyNames", {"type": "object", "propertyNames": {"maxLength": 3}}),
    ("unevaluatedProperties", {"type": "object", "unevaluatedProperties": False}),
    ("dependentRequired", {"dependentRequired": {"a": ["b"]}}),
    ("dependentSchemas", {"dependentSchemas": {"a": {"required": ["b"]}}}),
    ("dependencies", {"dependencies": {"a": ["b"]}}),
    ("$dynamicRef", {"$dynamicRef": "#node"}),
    ("pattern", {"type": "string", "pattern": "^(?!x).*$"}),
    ("pattern", {"type": "string", "pattern": r"(?<=a)b"}),
    ("pattern", {"type": "string", "pattern": r"(a)\1"}),
    ("multipleOf", {"type": "number", "multipleOf": 1e-20}),
    ("multipleOf", {"type": "number", "multipleOf": 0.07}),
    ("multipleOf", {"type": "integer", "multipleOf": 10**12}),
    ("multipleOf", {"type": "integer", "multipleOf": 10**400}),
    ("maximum", {"type": "integer", "maximum": 2**53 + 1}),
    ("minimum", {"type": "integer", "minimum": -(2**63)}),
    ("exclusiveMaximum", {"type": "integer", "exclusiveMaximum": 2**64}),
    ("maximum", {"type": "number", "maximum": 1e300}),
    ("const", {"const": 2**53 + 1}),
    ("enum", {"enum": [1, {"a": [2**64 - 1]}]}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("word", "schema"), NOT_KEPT)
def test_what_cannot_be_kept_is_refused_by_its_name_and_place(grammars: Grammars, word: str, schema: Any) -> None:
    whole = {"type": "object", "properties": {"a": {"anyOf": [schema, {"type": "null"}]}}}
    with pytest.raises(ConstraintInvalid) as refused:
        held(grammars, whole)
    assert f"{word} at #/properties/a/anyOf/0 cannot be enforced" in refused.value.what
    assert "--schema-lenient" in str(refused.value.hint)
    assert takes(held(grammars, whole, lenient=True), '{"a": null}')


@pytest.mark.parametrize(
    "pattern", [r"^[A-Z]+$", r"\(?=", r"[(?=]", r"(?:a|b)", r"(?i:x)", r"(?P<name>x)", r"\\1", r"[\]1]", r"\d\.\d"]
)
def test_patterns_that_look_at_nothing_around_are_kept(pattern: str) -> None:
    assert read({"pattern": pattern})[1] == []


def test_a_set_that_is_not_closed_looks_at_nothing_around() -> None:
    """The library says what is wrong with it. Many of them would otherwise be looked for to the end, each anew."""
    schema = {"pattern": "[(?=a)" + "[" * 19_000}
    assert json_schema.read(json.dumps(schema)) == (schema, [])


def test_what_is_referred_to_is_read_wherever_it_lies() -> None:
    schema: dict[str, Any] = {
        "$ref": "#/components/schemas/Ticket~1v1",
        "components": {"schemas": {"Ticket/v1": {"items": {"format": "mine"}, "uniqueItems": True}, "format": {}}},
        "anyOf": [{"$ref": "#/anyOf/0"}, {"$ref": "#/nowhere"}, {"$ref": "#"}, {"$ref": "https://example.com"}],
    }
    found, left_out = read(schema)
    assert left_out == ["uniqueItems at #/components/schemas/Ticket~1v1"]
    assert found["components"]["schemas"] == {"Ticket/v1": {"items": {}}, "format": {}}


def test_many_things_that_cannot_be_kept_are_not_all_named() -> None:
    schema: Any = {"properties": {f"p{n}": {"not": {}} for n in range(9)}}
    assert json_schema.listed(read(schema)[1]).endswith("not at #/properties/p4 and 4 more")


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("bound", [2**53 - 1, 2**53, 2**53 + 2, 10**17, 2**63 - 1])
def test_bounds_that_are_kept_are_kept_exactly(grammars: Grammars, bound: int) -> None:
    schema = {"type": "integer", "maximum": bound}
    assert read(schema)[1] == []
    assert [takes(held(grammars, schema), str(n)) for n in (bound - 1, bound, bound + 1)] == [True, True, False]
    if bound < 10**18:
        schema = {"type": "integer", "minimum": -bound}
        assert read(schema)[1] == []
        assert [takes(held(grammars, schema), str(-n)) for n in (bound - 1, bound, bound + 1)] == [True, True, False]


@pytest.mark.slow
@pytest.mark.parametrize("value", [0, -1, 1.5, 0.1, 2**53, -(2**53), 10**17, "9007199254740993"])
def test_constants_that_are_kept_are_kept_exactly(grammars: Grammars, value: Any) -> None:
    assert read({"enum": [value, {"a": value}]})[1] == []
    assert takes(held(grammars, {"enum": [value, {"a": value}]}), json.dumps(value))


# --- what is no schema ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"text"', "null", "false", '{"type": 1, "type": 2}', "[" * 9999])
def test_what_is_no_schema(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        json_schema.read(text)


def test_true_is_a_schema() -> None:
    assert json_schema.read("true") == ({}, [])


def test_a_schema_on_its_own_has_what_it_refers_to_and_nothing_else() -> None:
    root: dict[str, Any] = {
        "properties": {"a": {"items": {"$ref": "#/$defs/x"}}, "$ref": {"type": "integer"}},
        "$defs": {"x": {"$ref": "#"}, "y": {"type": "null"}},
    }
    found = json_schema.self_contained(root["properties"]["a"], root)
    assert found == {
        "items": {"$ref": "#/$defs/0"},
        "$defs": {
            "0": {"$ref": "#/$defs/1"},
            "1": {"properties": {"a": {"items": {"$ref": "#/$defs/0"}}, "$ref": {"type": "integer"}}, "$defs": {}},
        },
    }
    assert json_schema.self_contained({"const": {"$ref": "#"}}, root) == {"const": {"$ref": "#"}}
