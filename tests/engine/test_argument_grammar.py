"""Arguments that are no JSON: what the grammar allows fits the schema, and what fits can be written."""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema
import pytest

from edgeship.engine.api import ToolUse
from edgeship.engine.tool_grammar import hold
from edgeship.engine.tools import CallReader
from edgeship.errors import ConstraintInvalid
from edgeship.package.tool_formats import FORMATS, ToolFormat
from tests.engine.test_tool_grammar import END, Bytes, takes

NOTED = [form for form in FORMATS if form.notation]
BY_NAME = {form.name: form for form in FORMATS}
every_notation = pytest.mark.parametrize("form", NOTED, ids=lambda form: form.name)
TEXT, NUMBER = {"type": "string"}, {"type": "integer"}
TREE = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 4},
        "kids": {"type": "array", "items": {"$ref": "#/$defs/t"}},
    },
    "required": ["name"],
    "additionalProperties": False,
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "scalars": {
        "properties": {
            "text": TEXT,
            "small": {"type": "integer", "minimum": -3, "maximum": 120},
            "number": {"type": "number"},
            "yes": {"type": "boolean"},
            "none": {"type": "null"},
        },
        "required": ["text", "small"],
        "additionalProperties": False,
    },
    "values": {
        "properties": {
            "one": {"enum": ["a b", 'x"y', "it's", 3, True, None, "true", "null", "5", {"k": [1, "v"]}]},
            "maybe": {"type": ["string", "null"], "maxLength": 5},
            "either": {"anyOf": [{"type": "string", "minLength": 1}, {"type": "integer", "minimum": 10}]},
        },
        "required": ["one", "maybe", "either"],
    },
    "nested": {
        "properties": {
            "o": {
                "type": "object",
                "properties": {
                    "x": TEXT,
                    "y": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
                },
                "required": ["y"],
            },
            "tree": {"$ref": "#/$defs/t"},
            "pair": {"type": "array", "prefixItems": [NUMBER, TEXT], "items": False, "minItems": 1},
        },
        "required": ["o", "tree"],
        "$defs": {"t": TREE},
    },
    "texts": {
        "properties": {
            "pattern": {"type": "string", "pattern": "^[a-c]{2,4}$"},
            "found": {"type": "string", "pattern": "[a-z]+"},
            "long": {"type": "string", "minLength": 2, "maxLength": 5},
            "day": {"type": "string", "format": "date"},
        },
        "required": ["pattern", "found", "long", "day"],
    },
    "more": {"properties": {"a": NUMBER}, "additionalProperties": {"type": ["integer", "string"]}, "required": ["q"]},
    "union": {
        "type": "object",
        "oneOf": [
            {"properties": {"k": {"const": "a"}, "v": {"type": "integer", "minimum": 10}}, "required": ["k", "v"]},
            {"properties": {"k": {"const": "b"}, "v": TEXT}, "required": ["k", "v"]},
        ],
    },
    "itself": {
        "properties": {
            "n": NUMBER,
            "kids": {"type": "array", "items": {"$ref": "#"}},
            "same": {"type": "array", "items": {"$ref": "#/properties/long"}},
            "long": {"type": "string", "minLength": 2.0, "maxLength": 3.0},
        },
        "required": ["n"],
        "additionalProperties": False,
    },
    "anything": {"type": "object"},
}
FITTING: dict[str, list[dict[str, Any]]] = {
    "scalars": [
        {"text": "a <b>\n\n </p", "small": 120},
        {"text": "", "small": 0, "number": -1.5, "yes": True, "none": None},
    ],
    "values": [
        {"one": "it's", "maybe": None, "either": 11},
        {"one": {"k": [1, "v"]}, "maybe": "None!", "either": "x-1"},
        {"one": None, "maybe": "5", "either": "[x"},
    ],
    "nested": [
        {
            "o": {"x": "[}", "y": [True, False]},
            "tree": {"name": "a", "kids": [{"name": "b", "kids": []}]},
            "pair": [1, "x"],
        },
        {"o": {"y": [True], "z": None}, "tree": {"name": ""}, "pair": [1]},
    ],
    "texts": [{"pattern": "abc", "found": "x\nb<", "long": "\u00fc\u00fc", "day": "2024-02-29"}],
    "more": [{"a": 1, "q": "x"}, {"q": 1, "r": "y"}],
    "union": [{"k": "a", "v": 10}, {"k": "b", "v": "x"}],
    "itself": [{"n": 1, "kids": [{"n": 2, "kids": []}, {"n": 3}]}, {"n": 1, "same": ["ab"], "long": "abc"}],
    "anything": [{}, {"a": {"b": [None, 1.5]}, "c": "x"}],
}
NOT_FITTING: dict[str, list[dict[str, Any]]] = {
    "scalars": [
        {"text": "", "small": 121},
        {"small": 1},
        {"text": "", "small": 1, "other": 1},
        {"text": "", "small": True},
    ],
    "values": [
        {"one": 4, "maybe": "", "either": 10},
        {"one": 3, "maybe": "sixsix", "either": 10},
        {"one": 3, "maybe": "", "either": 9},
    ],
    "nested": [{"o": {"y": []}, "tree": {"name": "a"}}, {"o": {"y": [True]}, "tree": {"name": "a", "kids": [{}]}}],
    "texts": [
        {"pattern": "abd", "found": "b", "long": "ab", "day": "2024-02-29"},
        {"pattern": "ab", "found": "b", "long": "a", "day": "2024-02-29"},
    ],
    "more": [{"a": "x", "q": 1}, {"a": 1}],
    "union": [{"k": "a", "v": "x"}, {"k": "c", "v": 10}],
    "itself": [{"n": 1, "kids": [[]]}, {"n": 1, "kids": [{}]}, {"n": 1, "same": ["a"]}, {"n": 1, "long": "a"}],
}


_CLOSING = frozenset(b"}])>\"',")


def use(schema: dict[str, Any], *, strict: bool = False) -> ToolUse:
    return ToolUse(({"name": "go", "parameters": schema, "strict": strict},), True, parallel=False)


@every_notation
@pytest.mark.parametrize("name", SCHEMAS)
def test_what_fits_can_be_written_and_nothing_else(form: ToolFormat, name: str) -> None:
    for special in (False, True):
        vocabulary = Bytes(form, special=special)
        for arguments in FITTING[name]:
            assert takes(vocabulary, form.written([("go", arguments)]), use(SCHEMAS[name])), arguments
        for arguments in NOT_FITTING.get(name, ()):
            assert not takes(vocabulary, form.written([("go", arguments)]), use(SCHEMAS[name])), arguments


@every_notation
@pytest.mark.parametrize("name", SCHEMAS)
def test_whatever_is_written_fits(form: ToolFormat, name: str) -> None:
    validator = jsonschema.Draft202012Validator(SCHEMAS[name], format_checker=jsonschema.FormatChecker())
    for seed in range(4):
        text = walk(form, use(SCHEMAS[name]), seed)
        step = CallReader(form, use(SCHEMAS[name]).functions).push(text, last=True)
        assert step.text == "", text
        (call,) = step.tool_calls
        validator.validate(json.loads(call.arguments))


def walk(form: ToolFormat, asked: ToolUse, seed: int) -> str:
    """Any answer that the grammar allows, of which the texts do not go on for ever."""
    assert form.notation
    vocabulary = Bytes(form, special=bool(seed % 2))
    matcher = hold(vocabulary.grammars, None, asked, vocabulary.marks).at_once
    assert matcher
    chooser, said = random.Random(f"{form.name} {seed}"), list[int]()
    ends = [vocabulary.encode(end) for end in (form.notation.after_value, *form.notation.quotes) if end]

    def say(token: int) -> bool:
        allowed = bool(matcher.allowed()[token])
        if allowed:
            matcher.push(token)
            said.append(token)
        return allowed

    while not matcher.complete and not (allowed := matcher.allowed())[END]:
        if chooser.random() < min(0.15 + len(said) / 1000, 0.6):
            all(map(say, chooser.choice(ends)))
        else:
            choices = [int(token) for token in allowed.nonzero()[0] if 32 <= token < 127 or token > END] or [10]
            closing = [token for token in choices if token in _CLOSING or token > END] if len(said) > 300 else []
            say(chooser.choice(closing if closing and chooser.random() < 0.5 else choices))
        assert len(said) < 5000
    return vocabulary.decode(said)


@every_notation
def test_the_order_is_that_of_the_schema_or_that_in_which_the_model_was_shown_them(form: ToolFormat) -> None:
    assert form.notation
    vocabulary = Bytes(form, special=False)
    asked = use({"properties": {"b": NUMBER, "A": NUMBER}})
    text = form.written([("go", {"b": 1, "A": 1})])
    assert takes(vocabulary, text, asked)
    assert (text.index("A") < text.index("b")) == form.notation.sorted_keys
    assert not takes(vocabulary, text.translate({ord("A"): "b", ord("b"): "A"}), asked)


@pytest.mark.parametrize(
    ("form", "schema", "why"),
    [
        ("gemma4", {"properties": {"a": {"type": "object", "minProperties": 1}}}, "minProperties cannot be enforced"),
        ("qwen-xml", {"properties": {"a": {"type": "string", "pattern": "^a|b"}}}, "pattern cannot be enforced"),
        ("lfm2", {"properties": {"a": {"oneOf": [NUMBER, {"type": "number"}]}}}, "oneOf cannot be enforced"),
    ],
)
def test_what_is_not_enforced_is_left_out_unless_the_function_is_strict(
    form: str, schema: dict[str, Any], why: str
) -> None:
    vocabulary = Bytes(BY_NAME[form], special=False)
    assert hold(vocabulary.grammars, None, use(schema), vocabulary.marks).at_once
    with pytest.raises(ConstraintInvalid, match=rf"function 'go' cannot be called.*{why}"):
        hold(vocabulary.grammars, None, use(schema, strict=True), vocabulary.marks)


@pytest.mark.parametrize(
    ("form", "schema", "why"),
    [
        ("pythonic", {"properties": {"a": {"type": "strin"}}}, "strin"),
        ("qwen-xml", {"properties": {"a": {"$ref": "#/nowhere"}}}, "nowhere"),
        ("glm", {"properties": {"a": {"enum": 3}}}, "its enum is 3"),
        ("gemma4", {"properties": {"a": {"type": "object", "properties": 3}}}, "its properties is 3"),
        ("pythonic", {"properties": {"no name": TEXT}, "required": ["no name"]}, "no call in the model"),
        ("gemma4", {"properties": {"a": {"const": 'x<|"|>'}}, "required": ["a"]}, "no call in the model"),
        ("glm", {"properties": {"a": {"const": "</arg_value>"}}, "required": ["a"]}, "no call in the model"),
        (
            "gemma4",
            {
                "properties": {"a": {"$ref": "#/$defs/a"}},
                "required": ["a"],
                "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}, "minItems": 1}},
            },
            "back to itself",
        ),
    ],
)
def test_a_function_that_cannot_be_called_is_named(form: str, schema: dict[str, Any], why: str) -> None:
    vocabulary = Bytes(BY_NAME[form], special=False)
    with pytest.raises(ConstraintInvalid, match=rf"function 'go' cannot be called.*{why}"):
        hold(vocabulary.grammars, None, use(schema), vocabulary.marks)


@pytest.mark.parametrize("form", ["hermes", "pythonic"])
def test_parameters_that_lie_too_deep_in_one_another_are_named(form: str) -> None:
    schema: dict[str, Any] = TEXT
    for _ in range(3000):
        schema = {"type": "array", "items": schema}
    vocabulary = Bytes(BY_NAME[form], special=False)
    with pytest.raises(ConstraintInvalid, match=r"function 'go' cannot be called.*nested too deeply"):
        hold(vocabulary.grammars, None, use({"properties": {"a": schema}}), vocabulary.marks)


def test_what_many_values_refer_to_is_bounded() -> None:
    large = {"enum": [f"{number} {'x' * 1000}" for number in range(200)]}
    schema = {
        "properties": {f"p{n}": {"type": "array", "items": {"$ref": "#/$defs/a"}, "minItems": n} for n in range(20)},
        "$defs": {"a": large, "b": {"const": 1}},
    }
    vocabulary = Bytes(BY_NAME["qwen-xml"], special=False)
    with pytest.raises(ConstraintInvalid, match=r"function 'go' cannot be called.*too much"):
        hold(vocabulary.grammars, None, use(schema), vocabulary.marks)


def test_what_cannot_be_written_is_left_unsaid() -> None:
    form = BY_NAME["pythonic"]
    asked = use({"properties": {"no name": TEXT, "a": {"enum": ["x"]}}})
    vocabulary = Bytes(form, special=False)
    assert takes(vocabulary, '[go(a="x")]', asked)
    assert takes(vocabulary, "[go(a='x')]", asked)
    assert takes(vocabulary, "[go()]", asked)
    assert not takes(vocabulary, '[go(no name="x")]', asked)


def test_a_pattern_of_names_allows_no_more_than_the_names_that_are_given() -> None:
    form = BY_NAME["gemma4"]
    asked = use({"properties": {"a": NUMBER}, "patternProperties": {"^b": NUMBER}})
    vocabulary = Bytes(form, special=False)
    assert takes(vocabulary, form.written([("go", {"a": 1})]), asked)
    assert not takes(vocabulary, form.written([("go", {"c": "x"})]), asked)


def test_a_text_in_a_loop_ends_at_its_mark() -> None:
    form = BY_NAME["functiongemma"]
    vocabulary = Bytes(form, special=True)
    matcher = hold(
        vocabulary.grammars, None, use({"properties": {"a": TEXT}, "required": ["a"]}), vocabulary.marks
    ).at_once
    assert matcher
    for token in vocabulary.encode("<start_function_call>call:go{a:<escape>"):
        matcher.push(token)
    for token in b"ha " * 1000:
        if not matcher.allowed()[token]:
            break
        matcher.push(token)
    assert [*matcher.allowed().nonzero()[0]] == [vocabulary.marks.ids["<escape>"]]
