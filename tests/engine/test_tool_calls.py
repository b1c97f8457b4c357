"""Functions in the hands of each engine: calls that are valid whatever the model would say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeship.engine.answer import Answer, ask, collect
from edgeship.engine.api import Constraint, Conversation, Engine, Limits, Sampling, Token
from edgeship.engine.opening import load
from edgeship.engine.thinking import Marks
from edgeship.errors import ConstraintInvalid
from edgeship.package.tool_formats import HERMES
from tests import scripted
from tests.scripted import END, ScriptedEngine, write_script

CITY = {"type": "object", "properties": {"city": {"enum": ["Bonn", "Porto"]}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
TIME = {"type": "function", "function": {"name": "time"}}
QUESTION = {"role": "user", "content": "Rain in Bonn?"}
ASKED = Conversation([QUESTION], [WEATHER, TIME])
BONN = ("weather", {"city": "Bonn"})
ANSWERS = {
    "Rain in Bonn?": f"Let me see.\n{HERMES.written([BONN, ('time', {})])}\n",
    "other": HERMES.written([("weather", {"town": 3})]),
    "thought": "\x01time?\x02" + HERMES.written([("time", {})]),
    "json": '{"a": "b"}',
}
SHORT = Sampling(max_tokens=200)


@pytest.fixture(
    params=["scripted", *(pytest.param(name, marks=pytest.mark.slow) for name in ("isolated", "batched", "genai"))]
)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    limits, folder = Limits(slots=2), tmp_path
    if request.param in ("scripted", "isolated"):
        write_script(tmp_path, ANSWERS)
    else:
        folder = request.getfixturevalue("int4_folder")
    if request.param == "isolated":
        from edgeship.engine.isolated import IsolatedEngine

        opened: Engine = IsolatedEngine(folder, engine=scripted.ENGINE, limits=limits)
    else:
        opened = load(folder, engine=scripted.ENGINE if request.param == "scripted" else request.param, limits=limits)
    with opened:
        yield opened


@pytest.fixture
def sayer() -> Iterator[ScriptedEngine]:
    """Says what ANSWERS has."""
    with ScriptedEngine(ANSWERS) as opened:
        yield opened


def calls_of(answer: Answer) -> list[tuple[str, Any]]:
    return [(call.name, json.loads(call.arguments)) for call in answer.tool_calls]


def about(content: str, **more: Any) -> Conversation:
    return replace(ASKED, messages=[{"role": "user", "content": content}], **more)


def test_a_call_that_is_required_is_made_and_valid(engine: Engine) -> None:
    asked = replace(ASKED, tool_choice="required", allowed_tools=("weather",), parallel_tool_calls=False)
    steps = list(engine.converse(asked, SHORT))
    answer = collect(steps)
    assert (answer.text, answer.finish) == ("", "tool_calls")
    ((name, arguments),) = calls_of(answer)
    assert name == "weather"
    assert arguments in ({"city": "Bonn"}, {"city": "Porto"})
    pieces = [piece for step in steps for piece in step.calling]
    assert "".join(piece.arguments for piece in pieces) == answer.tool_calls[0].arguments
    assert [(piece.id, piece.name) for piece in pieces[:1]] == [(answer.tool_calls[0].id, "weather")]
    assert {(piece.id, piece.name, piece.index) for piece in pieces[1:]} == {(None, None, 0)}


def test_the_same_through_a_prompt(engine: Engine) -> None:
    asked = replace(ASKED, tool_choice="required", allowed_tools=("time",), parallel_tool_calls=False)
    assert calls_of(collect(engine.stream(engine.render(asked), SHORT))) == [("time", {})]


def test_text_then_calls(sayer: ScriptedEngine) -> None:
    answer = ask(sayer, ASKED, Sampling())
    assert (answer.text, answer.finish) == ("Let me see.", "tool_calls")
    assert calls_of(answer) == [BONN, ("time", {})]


def test_one_call_where_several_are_not_wanted(sayer: ScriptedEngine) -> None:
    assert calls_of(ask(sayer, replace(ASKED, parallel_tool_calls=False), Sampling())) == [BONN]


def test_from_the_mark_on_an_answer_is_held_to_what_may_be_called(sayer: ScriptedEngine) -> None:
    (call,) = calls_of(ask(sayer, about("other"), SHORT))
    assert call in (("weather", {"city": "Bonn"}), ("weather", {"city": "Porto"}))
    assert [name for name, _ in calls_of(ask(sayer, replace(ASKED, allowed_tools=("time",)), SHORT))][:1] == ["time"]


def test_tools_that_are_not_shown_are_not_called(sayer: ScriptedEngine) -> None:
    answer = ask(sayer, replace(ASKED, tool_choice="none"), Sampling())
    assert (answer.text, answer.finish, answer.tool_calls) == (ANSWERS["Rain in Bonn?"], "stop", ())


def test_what_begins_no_call_is_free(sayer: ScriptedEngine) -> None:
    answer = ask(sayer, about("json"), Sampling())
    assert (answer.text, answer.finish) == ('{"a": "b"}', "stop")


def test_a_cut_call_is_none(sayer: ScriptedEngine) -> None:
    steps = list(sayer.converse(ASKED, Sampling(max_tokens=70)))
    answer = collect(steps)
    assert (answer.finish, answer.tool_calls, answer.text) == ("length", (), "Let me see.")
    assert "".join(piece.arguments for step in steps for piece in step.calling).startswith('{"city"')


def test_thoughts_come_first_and_are_free() -> None:
    with ScriptedEngine(ANSWERS, thought_marks=Marks(1, 2)) as thinker:
        for choice in ("auto", "required"):
            answer = ask(thinker, about("thought", tool_choice=choice), Sampling())
            assert (answer.thinking, answer.text, calls_of(answer)) == ("time?", "", [("time", {})]), choice


def test_a_constraint_is_for_answers_that_are_no_calls(sayer: ScriptedEngine) -> None:
    held = Sampling(constraint=Constraint("json_schema", '{"type": "object", "required": ["a"]}'), max_tokens=200)
    assert ask(sayer, about("json"), held).text == '{"a": "b"}'
    answer = ask(sayer, about("thought"), held)
    assert answer.text == ""
    assert calls_of(answer)
    assert calls_of(ask(sayer, about("json", tool_choice="required"), held))


@pytest.mark.parametrize(
    ("parameters", "strict", "why"),
    [
        ({"properties": {"a": {"type": "strin"}}}, False, "strin"),
        ({"properties": {"a": {"type": "array", "uniqueItems": True}}}, True, "uniqueItems"),
        ({"properties": {"a": {"$ref": "#/nowhere"}}}, False, "nowhere"),
    ],
)
def test_a_function_that_cannot_be_called_is_named(
    sayer: ScriptedEngine, parameters: dict[str, Any], strict: bool, why: str
) -> None:
    broken = {"type": "function", "function": {"name": "broken", "parameters": parameters, "strict": strict}}
    with pytest.raises(ConstraintInvalid, match=f"function 'broken' cannot be called.*{why}"):
        ask(sayer, replace(ASKED, tools=[WEATHER, broken, TIME]), Sampling())


def test_a_name_that_is_no_text_is_refused(sayer: ScriptedEngine) -> None:
    half = {"type": "function", "function": {"name": "\ud800"}}
    with pytest.raises(ConstraintInvalid, match="cannot be called"):
        ask(sayer, replace(ASKED, tools=[WEATHER, half]), Sampling())


def test_what_of_a_schema_cannot_be_enforced_is_left_out_unless_it_is_strict(sayer: ScriptedEngine) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"const": 1}, "uniqueItems": True}}}
    loose = {"type": "function", "function": {"name": "loose", "parameters": schema, "strict": False}}
    assert calls_of(ask(sayer, Conversation([QUESTION], [loose], tool_choice="required"), SHORT))


def test_references_in_a_functions_schema_are_its_own(sayer: ScriptedEngine) -> None:
    tools = [
        {
            "type": "function",
            "function": {
                "name": name,
                "parameters": {
                    "properties": {"a": {"$ref": "#/$defs/a"}},
                    "required": ["a"],
                    "$defs": {"a": {"const": name}},
                },
            },
        }
        for name in ("one", "two")
    ]
    for name in ("one", "two"):
        asked = Conversation(
            [QUESTION], tools, tool_choice="required", allowed_tools=(name,), parallel_tool_calls=False
        )
        assert calls_of(ask(sayer, asked, SHORT)) == [(name, {"a": name})]


def test_a_thousand_functions(sayer: ScriptedEngine) -> None:
    tools = [{"type": "function", "function": {"name": f"f{number}", "parameters": CITY}} for number in range(1000)]
    asked = Conversation([QUESTION], tools, tool_choice="required", allowed_tools=("f999",), parallel_tool_calls=False)
    assert calls_of(ask(sayer, asked, SHORT))[0][0] == "f999"
    assert calls_of(ask(sayer, replace(asked, allowed_tools=()), SHORT))


def test_a_stop_text_ends_a_call_as_it_ends_text(sayer: ScriptedEngine) -> None:
    answer = ask(sayer, ASKED, Sampling(stop=("Bonn",)))
    assert (answer.text, answer.tool_calls, answer.finish) == ("Let me see.", (), "stop")


def test_an_answer_that_is_cancelled_in_a_call_says_so(sayer: ScriptedEngine) -> None:
    steps = sayer.converse(ASKED, Sampling(), deadline_s=0.0)
    assert collect(steps).finish == "deadline"


def test_an_end_token_ends_an_answer_only_after_the_call(sayer: ScriptedEngine) -> None:
    steps: list[Token] = list(sayer.converse(about("other", tool_choice="required"), SHORT))
    assert [step.id for step in steps].count(END) <= 1
    assert steps[-1].finish == "tool_calls"
