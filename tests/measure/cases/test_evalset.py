from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.engine.api import Constraint, ToolCall
from edgeship.errors import EvalInvalid
from edgeship.measure.cases.assertions import Reply
from edgeship.measure.cases.evalset import EvalCase, judge, passes, read_evalset, take_evenly
from edgeship.measure.cases.json_values import json_equal

USER = [{"role": "user", "content": "hello"}]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
CALLS = [
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
        ],
    }
]
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def line(**changes: Any) -> dict[str, Any]:
    return {"id": "a", "messages": USER, "expected": "yes"} | changes


def case(expected: Any, **changes: Any) -> EvalCase:
    return EvalCase.model_validate(line(expected=expected, **changes))


def write(folder: Path, *lines: object) -> Path:
    path = folder / "eval.jsonl"
    texts = [one if isinstance(one, str) else json.dumps(one) for one in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def fault(path: Path) -> str:
    with pytest.raises(EvalInvalid) as caught:
        read_evalset(path)
    assert caught.value.where == str(path)
    assert caught.value.hint
    return caught.value.what


@pytest.mark.parametrize(
    ("expected", "match", "answer", "outcome"),
    [
        ("yes", None, " yes\n", True),
        (" yes ", None, "yes", True),
        ("yes", None, "Yes", False),
        ('{"a": 1}', None, '{"a":1}', False),
        ('{"a": 1}', "json", '{"a":1}', True),
        ("yes", "contains", "oh yes, sure", True),
        ("yes", "contains", "no", False),
        ({"a": 1, "b": [2]}, None, '{"b":[2],\n "a":1.0}', True),
        ({"a": 1}, None, '{"a": true}', False),
        ({"a": 1}, None, '{"a": "1"}', False),
        ({"a": 1}, None, '{"a": 1, "b": 2}', False),
        ({"a": 1}, None, 'Sure: {"a": 1}', False),
        ({"a": 1}, None, '{"a": 2, "a": 1}', False),
        ({"a": 1}, None, "", False),
        ({"a": 1}, None, "NaN", False),
        ([1, 2], None, "[1, 2]", True),
        ([1, 2], None, "[2, 1]", False),
        ([], None, "[" * 100_000, False),
    ],
)
def test_what_passes(expected: Any, match: str | None, answer: str, outcome: bool) -> None:
    assert passes(case(expected, **({"match": match} if match else {})), answer) is outcome


@pytest.mark.parametrize(
    ("match", "answer", "outcome"),
    [("exact", "no", True), ("exact", " yes ", True), ("exact", "yes no", False), ("contains", "oh no!", True)],
)
def test_several_answers_may_be_right(match: str, answer: str, outcome: bool) -> None:
    made = case(["yes", "no"], match=match)
    assert passes(made, answer) is outcome
    assert made.expected_text == "yes"


def test_a_list_by_itself_is_json() -> None:
    assert passes(case(["yes", "no"]), '["yes", "no"]')
    assert not passes(case(["yes", "no"]), "yes")


@given(json_values)
def test_json_equals_itself_through_text(value: Any) -> None:
    assert json_equal(value, json.loads(json.dumps(value)))
    assert not json_equal([value], value)


@given(st.lists(json_values, max_size=3) | st.dictionaries(st.text(), json_values, max_size=3))
def test_the_expected_text_of_an_object_passes(expected: Any) -> None:
    made = case(expected)
    assert made.match == "json"
    assert passes(made, made.expected_text)


def test_a_file_with_everything(tmp_path: Path) -> None:
    # A byte-order mark, empty lines, and a line separator inside a text are no faults.
    first_line = json.dumps(line(slice="new"))
    last_line = json.dumps(line(id="b", expected={"a": "\u2028"}), ensure_ascii=False)
    path = tmp_path / "eval.jsonl"
    path.write_bytes(f"\ufeff{first_line}\r\n\n{last_line}".encode())
    first, second = read_evalset(path)
    assert (first.id, first.slice, first.match, first.conversation) == ("a", "new", "exact", USER)
    assert (second.slice, second.match, second.expected_text) == ("all", "json", '{"a": "\u2028"}')


def test_a_fine_tuning_file_is_an_evaluation(tmp_path: Path) -> None:
    turns = [*USER, {"role": "assistant", "content": "yes", "weight": 1}]
    path = write(tmp_path, {"messages": turns}, {"id": 7, "messages": turns}, {"id": 8.0, "prompt": "a", "answer": "b"})
    cases = read_evalset(path)
    assert [(one.id, one.question, one.expected) for one in cases] == [
        ("line 1", "hello", "yes"),
        ("7", "hello", "yes"),
        ("8", "a", "b"),
    ]


def test_whole_numbers_with_a_fraction_of_nothing_are_ids_of_their_own(tmp_path: Path) -> None:
    path = write(tmp_path, line(id=1234567.0), line(id=1234568.0), line(id=0.25))
    assert [one.id for one in read_evalset(path)] == ["1234567", "1234568", "0.25"]


def test_a_file_may_be_one_array(tmp_path: Path) -> None:
    path = tmp_path / "alpaca.json"
    example = {"instruction": "Say yes.", "input": "", "output": "yes"}
    path.write_text(json.dumps([example, line(id="own")], indent=1), encoding="utf-8")
    assert [(one.id, one.expected_text) for one in read_evalset(path)] == [("item 1", "yes"), ("own", "yes")]
    path.write_text(json.dumps([example, {}]), encoding="utf-8")
    assert fault(path).startswith("item 2: messages: it is missing")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("{", "line 2: Invalid JSON: column 1: EOF while parsing an object"),
        ('{"id": "b", "id": "c"}', "line 2: Invalid JSON: 'id' is there twice, as 'b' and as 'c'"),
        ("[]", "line 2: it must be an object"),
        (line(id="b", messages=5), "line 2: messages: it must be a list"),
        (line(id="b", messages=[5]), "line 2: messages.0: it must be an object"),
        (line(id="b", messages=[{"role": "boss", "content": "x"}]), "messages.0.role: it must be 'system', 'user'"),
        (line(id="b", **{"assert": [5]}), "line 2: assert.0: it must be an object"),
        (line(id="b", weight=1e308), "line 2: weight: it must be 1000000000.0 or less"),
        (line(id="b", **{"assert": [{"type": "is-json", "weight": 1e308}]}), "line 2: assert.0.weight: it must be "),
        (line(id=""), "line 2: id: "),
        ({"id": "b", "messages": USER}, "line 2: expected: it is missing"),
        (line(id="b", expected=None), "line 2: expected: must be a text, or JSON other than null"),
        (line(id="b", expected=" "), "line 2: expected: must not be empty"),
        (line(id="b", messages=[]), "line 2: messages: the conversation must end with a user turn"),
        (line(id="b", messages=[*USER, {"role": "assistant", "content": "x"}]), "must end with a user turn"),
        ({"messages": [*USER, {"role": "assistant", "content": ""}]}, "line 2: expected: must not be empty"),
        (line(id="b", messages=[{"role": "usr", "content": "x"}]), "line 2: messages.0.role: "),
        (line(id="b", messages=[{"role": "user", "content": ""}]), "line 2: messages.0.content: "),
        (line(id="b", macth="json"), "line 2: macth: this field is not read; did you mean match?"),
        (line(id="b", **{"assert": [{"type": "contians", "value": "x"}]}), "line 2: assert.0: there is no assertion"),
        (
            line(id="b", **{"assert": [{"type": "contains", "vlaue": "x"}]}),
            "assert.0.vlaue: this field is not read",
        ),
        (line(id="b", **{"assert": {"type": "contains"}}), "line 2: assert: "),
        (
            {"messages": USER, "assert": [{"type": "is-json"}], "tag": []},
            "line 2: tag: this field is not read; did you",
        ),
        ({"messages": USER, "assert": [{"type": "is-json", "weight": 0}]}, "line 2: assert: every weight is 0"),
        ({"messages": USER, "assert": [{"type": "is-valid-function-call"}]}, "line 2: tools: it is missing"),
        (line(id="b", tools=[{"type": "function"}]), "line 2: tool 1: function is no object"),
        (line(id="b", schema={"type": "strin"}), "line 2: schema: is no JSON schema"),
        (line(id="b", schema=[]), "line 2: schema: "),
        (line(id="b", weight=0), "line 2: weight: "),
        (line(id="b", seed=-1), "line 2: seed: "),
        (line(id="b", tags="x"), "line 2: tags: "),
        (line(id="b", threshold=2), "line 2: threshold: "),
        ({"messages": [*USER, {"role": "assistant", "content": "b", "weight": 0}]}, "line 2: messages.1.weight: is 0"),
        (
            {"messages": [*USER, {"role": "assistant", "function_call": {"name": "a"}}]},
            "messages.1.function_call",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}, *CALLS]}, "line 2: messages.0.content: "),
        ({"messages": [*USER, *CALLS], "functions": [{}]}, "line 2: functions: this field is not read"),
        (line(id="b", match="fuzzy"), "line 2: match: "),
        (line(id="b", match="contains", expected="<think>yes</think>"), "line 2: expected: must not be empty"),
        (line(id="b", match="json"), 'line 2: match "json" needs JSON as expected'),
        (line(id="b", match="json", expected="[" * 5000), "needs JSON as expected: it nests too deeply"),
        (line(id="b", match="exact", expected={"a": 1}), 'line 2: match "exact" needs a text as expected'),
        (line(id="b", match="exact", expected=["x", 3]), "needs a text as expected, or a list of texts"),
        ({"id": "b", "prompt": "x"}, "line 2: expected: it is missing"),
        (line(), "line 2: id 'a' is already on line 1"),
        ({"question": "a", "answer": "b", "choices": ["b", "c"]}, "line 2: choices: this field is not read"),
        ({"messages": [*USER, {"role": "assistant", "content": "b", "tool_calls": [{}]}]}, "messages.1.tool_calls: "),
        ('{"question": "a", "answer": NaN}', "line 2: expected: must be a finite number"),
        ('{"question": "a", "answer": 1e999}', "line 2: expected: must be a finite number"),
        ('{"id": "b", "messages": [{"role": "user", "content": "\\ud800"}], "expected": "x"}', "line 2: Invalid JSON"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, bad: object, said: str) -> None:
    assert said in fault(write(tmp_path, line(), bad))


@pytest.mark.parametrize("name", ["cases.csv", "cases.TSV", "cases.parquet", "cases.xlsx"])
def test_a_table_is_told_how_to_become_json_lines(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"question,answer\nhello,yes\n\xff")
    with pytest.raises(EvalInvalid, match="is a table") as caught:
        read_evalset(tmp_path / name)
    table, lines = str(tmp_path / name), str(tmp_path / "cases.jsonl")
    assert f"({table!r}).to_json({lines!r}, orient='records', lines=True)" in (caught.value.hint or "")
    with pytest.raises(EvalInvalid, match="cannot be read"):
        read_evalset(tmp_path / f"none{name}")


def test_a_packed_file_and_preferences_are_told_as_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "cases.jsonl.gz").write_bytes(b"\x1f\x8b")
    assert "packed" in fault(tmp_path / "cases.jsonl.gz")
    path = write(tmp_path, {"prompt": "hello", "chosen": "yes", "rejected": "no"})
    with pytest.raises(EvalInvalid, match="expected") as caught:
        read_evalset(path)
    assert "These are preferences" in (caught.value.hint or "")


def test_every_form_that_the_hint_names_is_read(tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").write_text("{}", encoding="utf-8")
    with pytest.raises(EvalInvalid) as caught:
        read_evalset(tmp_path / "none.jsonl")
    turns = [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "yes"}]
    forms: list[dict[str, Any]] = [
        {"messages": [*USER, {"role": "assistant", "content": "yes"}]},
        {"conversations": turns},
        {"prompt": "hello", "completion": "yes"},
        {"instruction": "hello", "input": "", "output": "yes"},
        {"question": "hello", "answer": "yes"},
    ]
    found = read_evalset(write(tmp_path, *forms))
    assert [(case.question, case.expected) for case in found] == [("hello", "yes")] * len(forms)
    assert all(f'"{name}"' in (caught.value.hint or "") for form in forms for name in form)


def test_many_bad_lines_are_counted(tmp_path: Path) -> None:
    what = fault(write(tmp_path, *["{"] * 9))
    assert what.count("line ") == 5
    assert what.endswith("; and 4 more")


def test_files_that_are_none(tmp_path: Path) -> None:
    assert fault(write(tmp_path, "", " ")) == "the file holds no cases"
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes(b"\n\n" + json.dumps(line(expected="x"), ensure_ascii=False).encode() + b'\xe9"\n')
    assert fault(latin) == "line 3: not UTF-8"
    assert "cannot be read" in fault(tmp_path / "none.jsonl")
    assert "cannot be read" in fault(tmp_path)


@given(st.integers(1, 40), st.integers(1, 50))
def test_spread_is_even_and_steady(count: int, limit: int) -> None:
    cases = [case("x", id=str(index)) for index in range(count)]
    taken = [int(one.id) for one in take_evenly(cases, limit)]
    assert len(taken) == min(count, limit)
    assert len(set(taken)) == len(taken)
    gaps = [after - before for before, after in itertools.pairwise(taken)]
    assert not gaps or max(gaps) - min(gaps) <= 1
    assert take_evenly(cases, None) == tuple(cases)


@pytest.mark.parametrize(
    ("expected", "right", "wrong"), [(0, "0", "false"), (True, " true", "1"), (2.5, "2.50", "2,5")]
)
def test_numbers_and_truth_are_compared_as_json(expected: object, right: str, wrong: str, tmp_path: Path) -> None:
    line = {"id": "1", "messages": [{"role": "user", "content": "How many?"}], "expected": expected}
    (tmp_path / "eval.jsonl").write_text(json.dumps(line), encoding="utf-8")
    [case] = read_evalset(tmp_path / "eval.jsonl")
    assert passes(case, right)
    assert not passes(case, wrong)
    assert case.expected_text == json.dumps(expected)


def test_openais_fine_tuning_file_as_it_is(tmp_path: Path) -> None:
    told = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}
    path = write(
        tmp_path,
        {"messages": [{"role": "developer", "content": "Be brief."}, *USER, *CALLS], "tools": TOOLS},
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "hello"}], "name": "ada"},
                {**CALLS[0], "weight": 0},
                told,
                {"role": "assistant", "content": "It is sunny.", "weight": 1},
            ],
            "tools": TOOLS,
            "parallel_tool_calls": False,
        },
    )
    called, said = read_evalset(path)
    assert called.conversation == [{"role": "system", "content": "Be brief."}, *USER]
    assert (called.right_answer, called.is_open) == (None, True)
    right = ToolCall("x", "weather", '{"city":"Rome"}')
    assert judge(called, Reply("", (right,))).passed
    assert not judge(called, Reply("Rome")).passed
    assert said.conversation[0] == {"role": "user", "content": "hello", "name": "ada"}
    assert said.conversation[1:] == [{**CALLS[0], "content": ""}, told]
    assert said.right_answer == "It is sunny."
    assert said.asked.tools == tuple(TOOLS)
    assert not said.asked.parallel_tool_calls


def test_a_line_with_everything(tmp_path: Path) -> None:
    asserted = [{"type": "contains", "value": "a", "weight": 3}, {"type": "max-length", "value": 3}]
    schema = {"type": "object"}
    more = {"tags": ["new", "hard"], "weight": 2, "seed": 7, "schema": schema, "threshold": 0.7, "slice": "s"}
    [one] = read_evalset(write(tmp_path, {"id": 1.5, "question": "hello", "assert": asserted, **more}))
    assert (one.id, one.tags, one.weight, one.seed, one.threshold) == ("1.5", ("new", "hard"), 2, 7, 0.7)
    assert one.constraint == Constraint("json_schema", json.dumps(schema), lenient=True)
    assert one.expected_text == "contains 'a'; max-length 3"
    assert one.is_open
    assert EvalCase.model_validate(one.model_dump(mode="json", by_alias=True)) == one


def test_expected_stands_before_what_is_asserted() -> None:
    made = case(["yes", "no"], match="contains", **{"assert": [{"type": "not-contains", "value": "sorry"}]})
    assert [each.type for each in made.assertions] == ["contains-any", "not-contains"]
    assert not passes(made, "yes, sorry")
    assert passes(made, "oh no")
    assert case("x").assertions[0].type == "equals"
    assert case(["x", "y"], match="exact").assertions[0].type == "one-of"


@pytest.mark.parametrize(
    ("threshold", "answer", "score", "passed"),
    [
        (None, "ab", 1.0, True),
        (None, "a", 0.75, False),
        (0.75, "a", 0.75, True),
        (0.76, "a", 0.75, False),
        (0.2, "b", 0.25, True),
        (0.0, "", 0.0, True),
    ],
)
def test_the_score_is_the_mean_by_weights(threshold: float | None, answer: str, score: float, passed: bool) -> None:
    asserted = [
        {"type": "contains", "value": "a", "weight": 3},
        {"type": "contains", "value": "b"},
        {"type": "contains", "value": "never", "weight": 0},
    ]
    values = {"id": "a", "messages": USER, "assert": asserted} | ({} if threshold is None else {"threshold": threshold})
    outcome = judge(EvalCase.model_validate(values), Reply(answer))
    assert outcome.score == pytest.approx(score)
    assert (outcome.passed, len(outcome.results)) == (passed, 3)
    assert outcome.reason == ("" if passed else "contains: it does not contain 'b'")


def test_marks_of_other_files_are_left_aside_where_they_are_none_of_ours(tmp_path: Path) -> None:
    turns = [*USER, {"role": "assistant", "content": "yes"}]
    kept = {"messages": turns, "tags": ["a"], "weight": 2, "seed": 3}
    aside = {"messages": turns, "tags": "a, b", "weight": "2", "seed": "x", "source": "web"}
    first, second = read_evalset(write(tmp_path, kept, aside))
    assert (first.tags, first.weight, first.seed) == (("a",), 2, 3)
    assert (second.tags, second.weight, second.seed) == ((), 1, None)


NAMES = ("id", "messages", "expected", "match", "assert", "tools", "schema", "weight", "tags", "question", "answers")
lines = st.dictionaries(st.sampled_from(NAMES), json_values | st.sampled_from([USER, TOOLS, [{"type": "is-json"}]]))


@given(lines | st.builds(lambda more: line(**more), lines), st.text(max_size=10))
def test_nothing_but_eval_invalid(tmp_path_factory: pytest.TempPathFactory, values: Any, answer: str) -> None:
    path = write(tmp_path_factory.getbasetemp(), values)
    try:
        [read] = read_evalset(path)
    except EvalInvalid:
        return
    assert 0 <= judge(read, Reply(answer)).score <= 1
    assert EvalCase.model_validate(read.model_dump(mode="json", by_alias=True)) == read
