"""Grammars of calls, in every format, over a vocabulary of bytes."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from edgeship.engine.api import Constraint, ToolUse
from edgeship.engine.grammar import Grammars
from edgeship.engine.tool_grammar import hold
from edgeship.engine.tools import CallMarks, CallReader
from edgeship.errors import ConstraintInvalid
from edgeship.package.tool_formats import FORMATS, HERMES, ToolFormat

BY_NAME = {form.name: form for form in FORMATS}
every_format = pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
END = 256
FUNCTIONS = (
    {"name": "weather", "parameters": {"properties": {"city": {"enum": ["Bonn", "Porto"]}}, "required": ["city"]}},
    {"name": "we", "parameters": {"type": "object", "properties": {}}},
    {"name": 'odd "name"'},
)
USE = ToolUse(FUNCTIONS)
CALLS: list[tuple[str, dict[str, Any]]] = [("weather", {"city": "Porto"}), ("we", {}), ('odd "name"', {})]


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("unknown", {}),
    ("we", {"a": 1}),
    ("weather", {}),
    ("weather", {"city": "Rome"}),
]


class Bytes:
    """A vocabulary of bytes, in which marks may be tokens of their own."""

    def __init__(self, form: ToolFormat, *, special: bool, space_first: bool = False) -> None:
        ids = {mark: END + 1 + number for number, mark in enumerate(form.marks)} if special else {}
        self.marks = CallMarks(form, ids)
        self.by_id = {token: mark for mark, token in ids.items()}
        tokens = [bytes([byte]) for byte in range(END)] + [b"<end>", *(mark.encode() for mark in ids)]
        self.grammars = Grammars(tokens, len(tokens), (END,), special_ids=(END, *ids.values()), space_first=space_first)

    def encode(self, text: str) -> list[int]:
        for mark, token in self.marks.ids.items():
            if text.startswith(mark):
                return [token, *self.encode(text.removeprefix(mark))]
        return [*text[:1].encode(), *self.encode(text[1:])] if text else []

    def decode(self, tokens: list[int]) -> str:
        parts = [self.by_id[token].encode() if token in self.by_id else bytes([token]) for token in tokens]
        return b"".join(parts).decode()


def takes(vocabulary: Bytes, text: str, use: ToolUse = USE) -> bool:
    """Whether an answer that must be calls may be this one."""
    matcher = hold(vocabulary.grammars, None, ToolUse(use.functions, True, use.parallel), vocabulary.marks).at_once
    assert matcher
    for token in vocabulary.encode(text):
        if not matcher.allowed()[token]:
            return False
        matcher.push(token)
    return matcher.complete or bool(matcher.allowed()[END])


@every_format
@pytest.mark.parametrize("special", [False, True], ids=["text", "tokens"])
def test_what_a_model_writes_is_allowed(form: ToolFormat, special: bool) -> None:
    vocabulary = Bytes(form, special=special)
    for call in CALLS:
        assert takes(vocabulary, form.written([call])), call
    assert takes(vocabulary, form.written(CALLS)) == form.several
    assert not takes(vocabulary, form.written(CALLS), ToolUse(FUNCTIONS, parallel=False))
    for name, arguments in WRONG:
        assert not takes(vocabulary, form.written([(name, arguments)])), name


@every_format
def test_a_space_that_is_not_shown_may_come_first(form: ToolFormat) -> None:
    vocabulary = Bytes(form, special=False, space_first=True)
    assert takes(vocabulary, " " + form.written(CALLS[:1]))
    assert takes(vocabulary, form.written(CALLS[:1]))


@pytest.mark.parametrize("layout", [(",", ":"), (", ", ": ")], ids=["tight", "wide"])
def test_the_layouts_of_json(layout: tuple[str, str]) -> None:
    vocabulary = Bytes(HERMES, special=False)
    call = {"name": "weather", "arguments": {"city": "Bonn"}}
    assert takes(vocabulary, f"<tool_call>\n{json.dumps(call, separators=layout)}\n</tool_call>\n")
    indented = json.dumps(call, indent=2)
    for before, after in (("\n", "\n"), ("", ""), (" ", " ")):
        matcher = hold(vocabulary.grammars, None, USE, vocabulary.marks).from_call
        assert matcher
        assert matcher.follow(f"{before}{indented}{after}</tool_call>\n"), (before, after)
        assert matcher.allowed()[END]


def test_what_cannot_be_followed_changes_nothing() -> None:
    vocabulary = Bytes(HERMES, special=False)
    matcher = hold(vocabulary.grammars, None, USE, vocabulary.marks).from_call
    assert matcher
    assert not matcher.follow("no call")
    assert matcher.follow('\n{"name": "we')
    assert {chr(token) for token in matcher.allowed().nonzero()[0]} == {"a", '"'}


@every_format
@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_chosen_is_read_as_calls(form: ToolFormat, seed: int) -> None:
    """Any answer that the grammar allows is calls of those functions with arguments that fit."""
    vocabulary = Bytes(form, special=bool(seed % 2))
    matcher = hold(vocabulary.grammars, None, ToolUse(FUNCTIONS, required=True), vocabulary.marks).at_once
    assert matcher
    chooser, said = random.Random(seed), list[int]()
    while not matcher.complete:
        allowed = matcher.allowed()
        if allowed[END] and (len(said) > 500 or chooser.random() < 0.3):
            break
        # White space goes on for long enough by itself.
        choices = [int(token) for token in allowed.nonzero()[0] if token != END]
        dense = [token for token in choices if token > 32]
        said.append(chooser.choice(dense or choices))
        matcher.push(said[-1])
    step = CallReader(form, FUNCTIONS).push(vocabulary.decode(said), last=True)
    assert step.text == ""
    assert step.tool_calls
    for call in step.tool_calls:
        arguments = json.loads(call.arguments)
        assert arguments in ([{"city": "Bonn"}, {"city": "Porto"}] if call.name == "weather" else [{}])


def test_parameters_are_those_that_are_named_unless_the_schema_says_more() -> None:
    def takes_more(**parameters: Any) -> bool:
        use = ToolUse(({"name": "f", "parameters": parameters},))
        return takes(Bytes(HERMES, special=False), HERMES.written([("f", {"other": 1})]), use)

    named = {"properties": {"a": {"type": "string"}}}
    assert not takes_more(**named)
    assert takes_more(**named, additionalProperties=True)
    assert takes_more(**named, patternProperties={"^o": {"type": "integer"}})
    assert takes_more(type="object")
    assert takes_more(**named, allOf=[{"properties": {"other": {"type": "integer"}}}])


@every_format
def test_calls_or_what_a_constraint_says(form: ToolFormat) -> None:
    vocabulary = Bytes(form, special=bool(form.marks))
    constraint = Constraint("json_schema", '{"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}')
    for text, fits in (('{"a": 1}', True), (form.written(CALLS[:1]), True), ('{"a": 2}', False), ("text", False)):
        matcher = hold(vocabulary.grammars, constraint, USE, vocabulary.marks).at_once
        assert matcher
        tokens = vocabulary.encode(text)
        followed = 0
        for token in tokens:
            if not matcher.allowed()[token]:
                break
            matcher.push(token)
            followed += 1
        assert (followed == len(tokens)) == fits, text


@pytest.mark.parametrize(
    "constraint", [Constraint("regex", "[a-z ]+"), Constraint("lark", 'start: "text"')], ids=lambda given: given.kind
)
def test_calls_or_a_text_of_another_form(constraint: Constraint) -> None:
    vocabulary = Bytes(HERMES, special=False)
    for text in ("text", HERMES.written(CALLS)):
        matcher = hold(vocabulary.grammars, constraint, USE, vocabulary.marks).at_once
        assert matcher
        assert matcher.follow(text), text
        assert matcher.complete or matcher.allowed()[END]
        assert not matcher.follow("?")


def test_without_tools_a_constraint_holds_by_itself() -> None:
    grammars = Bytes(HERMES, special=False).grammars
    assert hold(grammars, None, None, None).at_once is None
    assert hold(grammars, Constraint("regex", "a"), None, None).at_once is not None


def test_a_schema_of_any_length_is_bounded() -> None:
    vocabulary = Bytes(HERMES, special=False)
    long = {"properties": {f"p{number}": {"type": "string"} for number in range(20_000)}}
    with pytest.raises(ConstraintInvalid, match=r"function 'f' cannot be called.*longer than"):
        hold(vocabulary.grammars, None, ToolUse(({"name": "f", "parameters": long},)), vocabulary.marks)
