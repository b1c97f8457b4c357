"""Each assertion by an answer that has what it asks for and one that has not; `not-` is its opposite."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from edgeship.engine.answer import Answer
from edgeship.engine.api import ToolCall, Usage
from edgeship.measure.cases.assertion_kinds import KINDS
from edgeship.measure.cases.assertions import NOT, Around, Assertion, AssertionResult, Reply, check

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "pattern": "^[A-Z]"}, "days": {"type": "integer", "minimum": 1}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]


def call(name: str, arguments: Any) -> Reply:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return Reply("", (ToolCall("call-1", name, text),), "tool_calls")


def stated(kind: str, **fields: Any) -> Assertion:
    return Assertion.model_validate({"type": kind, **fields})


def found(assertion: Assertion, reply: Reply | str, around: Around | None = None) -> AssertionResult:
    reply = Reply(reply) if isinstance(reply, str) else reply
    return check(assertion, reply, around or Around(TOOLS, embedded))


def embedded(texts: Sequence[str]) -> list[list[float]]:
    """Texts by how many words of three topics they have."""
    topics = (("rain", "wet"), ("sun", "dry"), ("train",))
    return [[float(sum(word in text for word in topic)) for topic in topics] for text in texts]


CASES: list[tuple[str, dict[str, Any], Reply | str, Reply | str]] = [
    ("equals", {"value": " yes "}, "yes\n", "Yes"),
    ("equals", {"value": "yes"}, "<think>no</think>\n\nyes", "no"),
    ("equals", {"value": 3}, "3.0", '"3"'),
    ("equals", {"value": True}, "true", "1"),
    ("equals", {"value": {"a": [1]}}, '{"a": [1.0]}', "no JSON"),
    ("equals-json", {"value": "yes"}, '"yes"', "yes"),
    ("equals-json", {"value": None}, "null", "0"),
    ("one-of", {"value": ["yes", "no", 3]}, "no", "maybe"),
    ("one-of", {"value": ["yes", 3]}, "3", "4"),
    ("contains", {"value": "es"}, "yes", "YES"),
    ("contains", {"value": 7}, "about 17", "none"),
    ("icontains", {"value": "STRASSE"}, "Hauptstraße 1", "Weg"),
    ("contains-all", {"value": ["a", "b"]}, "b a", "a"),
    ("contains-any", {"value": ["a", "b"]}, "b", "c"),
    ("icontains-all", {"value": ["a", "B"]}, "A b", "A"),
    ("icontains-any", {"value": ["A", "b"]}, "a", "c"),
    ("starts-with", {"value": "Dear"}, "  Dear all", "My dear"),
    ("regex", {"value": r"\b\d{4}-\d\d\b"}, "on 2026-11", "on 26-11"),
    ("regex", {"value": r"(?i)^yes\.?$"}, "YES.", "yes, no"),
    ("levenshtein", {"value": "kitten", "threshold": 3}, "sitting", "mittens and more"),
    ("levenshtein", {"value": "colour"}, "color", "an altogether other text"),
    ("is-json", {}, "[1]", "{'a': 1}"),
    ("is-json", {"value": SCHEMA}, '{"city": "Rome", "days": 2}', '{"city": "Rome", "days": 0}'),
    ("json-schema", {"value": SCHEMA}, '{"days": 2, "city": "Rome"}', '{"city": "rome"}'),
    ("contains-json", {}, 'Here: {"a": 1}.', "Here: {a}."),
    ("contains-json", {"value": SCHEMA}, '[] then {"city": "Rome"}', '{"city": 1}'),
    ("json-path", {"path": "$.a.b[0]", "value": 1}, '{"a": {"b": [1.0]}}', '{"a": {"b": []}}'),
    ("json-path", {"path": '$["a b"][-1]', "value": None}, '{"a b": [1, null]}', '{"a b": [null, 1]}'),
    ("json-path", {"path": "$", "value": [1]}, "[1]", "no JSON"),
    ("max-length", {"value": 3}, " äöü ", "four"),
    ("max-length", {"value": 2, "unit": "words"}, "two words", "these three words"),
    ("max-length", {"value": 2, "unit": "tokens"}, Reply("x", tokens=2), Reply("x", tokens=3)),
    ("min-length", {"value": 3}, "abc", "ab"),
    ("word-count", {"value": 2}, "two words", "one"),
    ("word-count", {"value": {"min": 2, "max": 3}}, "two words", "now there are four"),
    ("latency", {"threshold": 500}, Reply("x", e2e_s=0.5), Reply("x", e2e_s=0.501)),
    ("finish-reason", {"value": "stop"}, Reply("x", finish="stop"), Reply("x", finish="length")),
    ("tool-calls", {"value": {"name": "weather", "arguments": {"days": 1}}}, call("weather", {"days": 1.0}), "sunny"),
    ("tool-calls", {"value": [{"function": {"name": "a", "arguments": "{}"}}]}, call("a", ""), call("a", {"b": 1})),
    ("is-valid-function-call", {}, call("weather", {"city": "Rome"}), call("weather", {})),
    ("is-valid-openai-tools-call", {}, call("weather", {"city": "Rome"}), call("whether", {"city": "Rome"})),
    ("is-valid-openai-function-call", {}, call("weather", {"city": "Rome"}), call("weather", "{city")),
    ("similar", {"value": "wet rain"}, "rain, wet", "a train"),
    ("similar", {"value": ["sun", "train"], "threshold": 0.9}, "the train", "rain"),
]


@pytest.mark.parametrize(("kind", "fields", "right", "wrong"), CASES, ids=lambda value: str(value)[:40])
def test_what_an_assertion_finds(kind: str, fields: dict[str, Any], right: Reply | str, wrong: Reply | str) -> None:
    for reply, outcome in ((right, True), (wrong, False)):
        result = found(stated(kind, **fields), reply)
        assert (result.passed, result.name) == (outcome, kind), result.reason
        opposite = found(stated(f"{NOT}{kind}", **fields), reply)
        assert opposite.passed is not outcome
        assert opposite.score == pytest.approx(1 - result.score)
        assert result.reason == opposite.reason != ""


def test_every_assertion_is_tried_above() -> None:
    assert {kind for kind, *_ in CASES} == KINDS.keys()


@given(st.sampled_from(CASES), st.text(max_size=40) | st.sampled_from(['{"city": "Rome"}', "yes", "3", "[[", '{"a"']))
def test_not_is_the_opposite_for_any_answer(case: tuple[str, dict[str, Any], Any, Any], text: str) -> None:
    kind, fields, *_ = case
    reply = Reply(text, finish="stop", e2e_s=0.5, tokens=3)
    one, other = found(stated(kind, **fields), reply), found(stated(f"{NOT}{kind}", **fields), reply)
    assert one.passed is not other.passed


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("latency", {"threshold": 5}),
        ("finish-reason", {"value": "stop"}),
        ("max-length", {"value": 1, "unit": "tokens"}),
        ("similar", {"value": "x"}),
    ],
)
def test_what_is_not_known_of_an_answer_holds_neither_way(kind: str, fields: dict[str, Any]) -> None:
    for name in (kind, f"{NOT}{kind}"):
        result = found(stated(name, **fields), "x", Around())
        assert not result.passed
        assert result.score == 0


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"type": "contians", "value": "x"}, "there is no assertion 'contians'; did you mean contains?"),
        ({"type": "not-contians", "value": "x"}, "did you mean not-contains?"),
        ({"type": "vibes"}, "there is no assertion 'vibes'"),
        ({"type": "min-lenght", "value": 3}, "did you mean min-length?"),
        ({"type": "contains"}, "contains needs a value"),
        ({"type": "contains", "value": " "}, "which is in every answer"),
        ({"type": "contains", "value": ["a"]}, "must be a text"),
        ({"type": "contains", "value": "a", "threshold": 1}, "contains has no threshold"),
        ({"type": "contains-any", "value": "a"}, "must be a list of texts"),
        ({"type": "contains-all", "value": ["a", ""]}, "which is in every answer"),
        ({"type": "one-of", "value": []}, "must be a list of right answers"),
        ({"type": "regex", "value": "(a"}, "its pattern cannot be searched for: unclosed group"),
        ({"type": "regex", "value": "(?=a)b"}, "look-around"),
        ({"type": "regex", "value": r"(a)\1"}, "backreferences"),
        ({"type": "regex", "value": r"(.{1,99}){1,99}\d$"}, "its repetitions make it too large"),
        ({"type": "json-schema"}, "json-schema needs a value"),
        ({"type": "json-schema", "value": None}, "no JSON schema"),
        ({"type": "is-json", "value": {"type": "strin"}}, "its value is no JSON schema"),
        ({"type": "is-json", "value": {"$ref": "http://x.test/s"}}, "schemas from elsewhere are not read"),
        ({"type": "contains-json", "value": {"ok": True}}, "'ok' is no word of JSON Schema's"),
        ({"type": "json-path", "value": 1}, "needs a path"),
        ({"type": "json-path", "path": "$.a", "threshold": 1}, "json-path has no threshold"),
        ({"type": "json-path", "path": "a.b", "value": 1}, 'a path begins with "$"'),
        ({"type": "json-path", "path": "$.a[*]", "value": 1}, "'[*]' is not read"),
        ({"type": "json-path", "path": "$..a", "value": 1}, "is not read"),
        ({"type": "max-length", "value": -1}, "must be a whole number of characters"),
        ({"type": "max-length", "value": 1, "unit": "bytes"}, "'characters', 'words' or 'tokens'"),
        ({"type": "word-count", "value": {"min": 3, "max": 2}}, "its min is larger"),
        ({"type": "latency"}, "needs a threshold in milliseconds"),
        ({"type": "levenshtein", "value": "x", "threshold": 1e9}, "from 0 to 500"),
        ({"type": "finish-reason", "value": "done"}, "must be one of stop, length, tool_calls"),
        ({"type": "tool-calls", "value": [{"name": 3}]}, "call 1 is not"),
        ({"type": "similar", "value": "x", "threshold": 2}, "from 0 to 1"),
        ({"type": "equals", "value": "x", "weight": -1}, "greater than or equal to 0"),
    ],
    ids=str,
)
def test_what_is_no_assertion_is_told(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Assertion.model_validate(fields)
    assert said in str(caught.value)


@settings(max_examples=60)
@given(
    st.sampled_from(sorted(KINDS)),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=8),
        lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=3), each, max_size=3),
        max_leaves=5,
    ),
    st.text(max_size=20),
)
def test_any_value_is_refused_or_checked(kind: str, value: Any, text: str) -> None:
    try:
        assertion = stated(
            kind, value=value, threshold=1.0 if kind == "latency" else None, path="$" if kind == "json-path" else None
        )
    except ValidationError:
        return
    assert 0 <= found(assertion, text).score <= 1


def test_a_metric_is_what_reports_call_it() -> None:
    result = found(stated("contains", value="a", metric="Tone", weight=2), "a")
    assert (result.name, result.weight) == ("Tone", 2)


@pytest.mark.parametrize(
    ("text", "counted", "thought", "tokens"), [("x", 5, 2, 3), ("x", 0, 0, None), ("", 0, 0, 0), ("x", 2, 2, None)]
)
def test_what_is_known_of_an_answer(text: str, counted: int, thought: int, tokens: int | None) -> None:
    usage = Usage(7, counted, 0.1, 0.5, reasoning_tokens=thought)
    reply = Reply.of(Answer(text, (), "stop", usage))
    assert reply == Reply(text, (), "stop", 0.5, tokens)


def test_calls_may_come_in_any_order() -> None:
    calls = [{"name": "a", "arguments": {"x": 1}}, {"name": "a", "arguments": {"x": 2}}]
    made = tuple(ToolCall(str(number), "a", json.dumps({"x": number})) for number in (2, 1))
    assert found(stated("tool-calls", value=calls), Reply("", made)).passed
    assert not found(stated("tool-calls", value=calls), Reply("", made[:1])).passed
    assert not found(stated("tool-calls", value=calls[:1]), Reply("", made)).passed


@given(st.text("ab", max_size=7), st.text("ab", max_size=7), st.integers(0, 8))
def test_the_distance_of_texts(one: str, other: str, most: int) -> None:
    def edits(a: str, b: str) -> int:
        if not a or not b:
            return len(a) + len(b)
        return min(edits(a[1:], b[1:]) + (a[0] != b[0]), edits(a[1:], b) + 1, edits(a, b[1:]) + 1)

    passed = found(stated("levenshtein", value=other, threshold=most), one).passed
    assert passed is (edits(one, other) <= most)


@pytest.mark.parametrize(
    ("pattern", "there"), [("(a+)+$", False), ("(a|a)*$", True), ("(a*)*b", False), ("([a-z]+)*[0-9]", False)]
)
def test_no_pattern_goes_back_for_ever(pattern: str, there: bool) -> None:
    """Python's own engine would not come back from these."""
    text = "a" * 5000 + "!"
    assert found(stated("regex", value=pattern), text).passed is there
    assert found(stated("is-json", value={"pattern": pattern}), json.dumps(text)).passed is there


def test_a_schema_that_leads_to_itself_ends() -> None:
    assert found(stated("json-schema", value={"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}), "1").reason
