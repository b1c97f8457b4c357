"""What a server is asked, and what is made of its chunks."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from edgeship.engine.api import CallPiece, Constraint, Conversation, Message, Sampling, Token, ToolCall
from edgeship.engine.completions import Chunks, message_of, request
from edgeship.errors import ConstraintInvalid, NotSupported, RemoteFailed
from edgeship.package.conversation import ToolChoice

USER = {"role": "user", "content": "hello"}
HELLO = Conversation([USER])
NAMED = [{"type": "function", "function": {"name": name}} for name in ("a", "b")]


def asked(sampling: Sampling = Sampling(), conversation: Conversation = HELLO, *, extras: bool = False) -> Any:  # noqa: B008
    return request("m", conversation, sampling, extras=extras)


def chunk(finish: str | None = None, **delta: Any) -> str:
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def steps(*chunks: str) -> list[Token]:
    made = Chunks(time.perf_counter())
    found = [step for data in chunks if (step := made.push(data))]
    return [*found, made.end()]


# --- what is asked ---------------------------------------------------------------------------------------------------


def test_what_is_not_set_is_not_asked() -> None:
    assert asked() == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_settings_of_openais() -> None:
    found = asked(
        Sampling(
            temperature=0.0,
            top_p=0.9,
            presence_penalty=0.5,
            frequency_penalty=-0.5,
            max_tokens=9,
            seed=3,
            stop=("a", "b"),
            logit_bias={5: 1.5},
        )
    )
    assert {name: found[name] for name in found if name not in asked()} == {
        "temperature": 0.0,
        "top_p": 0.9,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "max_tokens": 9,
        "seed": 3,
        "stop": ["a", "b"],
        "logit_bias": {"5": 1.5},
    }


def test_conversations_go_as_they_are() -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    messages: list[Message] = [
        {"role": "user", "content": [{"type": "text", "text": "rain?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "yes", "tool_call_id": "1"},
    ]
    found = asked(conversation=Conversation(messages, tools=[tool]))
    assert (found["messages"], found["tools"]) == (messages, [tool])
    assert not {"tool_choice", "parallel_tool_calls"} & set(found)


@pytest.mark.parametrize(
    ("choice", "allowed", "sent"),
    [
        ("none", (), "none"),
        ("none", ("a",), "none"),
        ("required", (), "required"),
        ("required", ("a",), NAMED[0]),
        ("required", ("a", "b"), {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": NAMED}}),
        ("auto", ("a",), {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": NAMED[:1]}}),
    ],
)
def test_what_may_be_called_goes_in_openais_forms(choice: ToolChoice, allowed: tuple[str, ...], sent: object) -> None:
    asked_of = Conversation([USER], NAMED, tool_choice=choice, allowed_tools=allowed, parallel_tool_calls=False)
    found = asked(conversation=asked_of)
    assert (found["tools"], found["tool_choice"], found["parallel_tool_calls"]) == (NAMED, sent, False)


@pytest.mark.parametrize(
    ("sampling", "named", "by_name"),
    [
        (Sampling(top_k=5), "top_k", {"top_k": 5}),
        (Sampling(top_k=0), "top_k", {"top_k": 0}),
        (Sampling(min_p=0.1), "min_p", {"min_p": 0.1}),
        (
            Sampling(repetition_penalty=1.1),
            "repetition_penalty",
            {"repetition_penalty": 1.1, "repeat_penalty": 1.1},
        ),
        (Sampling(ignore_eos=True), "ignore_eos", {"ignore_eos": True}),
        (
            Sampling(thinking_tokens=0),
            "thinking_tokens",
            {"thinking_token_budget": 0, "thinking_budget_tokens": 0},
        ),
    ],
)
def test_what_only_some_servers_take_is_asked_where_that_is_allowed(
    sampling: Sampling, named: str, by_name: dict[str, Any]
) -> None:
    with pytest.raises(NotSupported, match=f"has no {named}"):
        asked(sampling)
    assert asked(sampling, extras=True).items() >= by_name.items()


def test_template_variables_are_such_an_extra() -> None:
    conversation = Conversation(HELLO.messages, variables={"enable_thinking": False})
    with pytest.raises(NotSupported, match="chat_template_kwargs"):
        asked(conversation=conversation)
    assert asked(conversation=conversation, extras=True)["chat_template_kwargs"] == {"enable_thinking": False}


@pytest.mark.parametrize("extras", [True, False])
@pytest.mark.parametrize(
    ("sampling", "named"),
    [
        (Sampling(logprobs=0), "log-probabilities"),
        (Sampling(prompt_logprobs=0), "log-probabilities"),
        (Sampling(constraint=Constraint("regex", "a+")), "regex"),
        (Sampling(constraint=Constraint("lark", "start: a")), "lark"),
    ],
)
def test_what_no_server_is_asked(sampling: Sampling, named: str, extras: bool) -> None:
    with pytest.raises(NotSupported, match=named):
        asked(sampling, extras=extras)


def test_response_formats() -> None:
    schema = {"type": "object"}
    held = asked(Sampling(constraint=Constraint("json_schema", json.dumps(schema))))["response_format"]
    assert held["type"] == "json_schema"
    assert held["json_schema"]["schema"] == schema
    assert asked(Sampling(constraint=Constraint("json_object")))["response_format"] == {"type": "json_object"}
    with pytest.raises(ConstraintInvalid, match="no JSON"):
        asked(Sampling(constraint=Constraint("json_schema", "{")))


# --- what is made of chunks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("told", "stopped_by"), [("\n\n", "\n\n"), (151645, None), (None, None)])
def test_the_stop_text_that_a_server_names(told: Any, stopped_by: str | None) -> None:
    choice = {"index": 0, "delta": {"content": "a"}, "finish_reason": "stop", "stop_reason": told}
    assert steps(json.dumps({"choices": [choice]}))[-1].stopped_by == stopped_by


def test_texts_and_thinking_become_steps() -> None:
    found = steps(
        chunk(role="assistant", content=""),
        chunk(reasoning_content="so "),
        chunk(reasoning="then"),
        chunk(content="yes"),
        chunk("stop", content="!"),
    )
    assert [step.thinking for step in found] == ["so ", "then", "", "", ""]
    assert [step.text for step in found] == ["", "", "yes", "!", ""]
    assert [step.finish for step in found] == [None] * 4 + ["stop"]


def test_tool_calls_are_gathered() -> None:
    def call(index: int, **more: Any) -> str:
        return chunk(tool_calls=[{"index": index, **more}])

    found = steps(
        call(0, id="a", type="function", function={"name": "weather", "arguments": ""}),
        call(0, function={"arguments": '{"city": '}),
        call(1, id="b", function={"name": "time", "arguments": "{}"}),
        call(0, function={"arguments": '"Porto"}'}),
        chunk("tool_calls"),
    )
    assert [step.finish for step in found] == [None] * 3 + ["tool_calls"]
    assert [step.calling for step in found] == [
        (CallPiece(0, "a", "weather", '{"city": '),),
        (CallPiece(1, "b", "time", "{}"),),
        (CallPiece(0, None, None, '"Porto"}'),),
        (),
    ]
    assert found[-1].tool_calls == (ToolCall("a", "weather", '{"city": "Porto"}'), ToolCall("b", "time", "{}"))


def test_a_call_without_arguments_comes_with_the_last_step() -> None:
    [last] = steps(chunk(tool_calls=[{"index": 0, "id": "a", "function": {"name": "time"}}]), chunk("tool_calls"))
    assert last.calling == (CallPiece(0, "a", "time", ""),)
    assert last.tool_calls == (ToolCall("a", "time", ""),)


def test_a_call_that_is_cut_is_none() -> None:
    whole = {"index": 0, "id": "a", "function": {"name": "time", "arguments": "{}"}}
    cut = {"index": 1, "id": "b", "function": {"name": "weather", "arguments": '{"ci'}}
    last = steps(chunk(tool_calls=[whole, cut]), chunk("length"))[-1]
    assert (last.finish, [call.name for call in last.tool_calls]) == ("length", ["time"])


@pytest.mark.parametrize("index", [{}, {"index": None}])
def test_whole_tool_calls_without_an_index(index: dict[str, None]) -> None:
    whole = [{**index, "function": {"name": name, "arguments": "{}"}} for name in ("a", "b")]
    [first, last] = steps(chunk("stop", tool_calls=whole))
    assert [(piece.index, piece.id, piece.name, piece.arguments) for piece in first.calling] == [
        (0, "call_0", "a", "{}"),
        (1, "call_1", "b", "{}"),
    ]
    assert last.finish == "tool_calls"
    assert [(call.id, call.name) for call in last.tool_calls] == [("call_0", "a"), ("call_1", "b")]


@pytest.mark.parametrize(
    ("told", "finish"),
    [("stop", "stop"), ("eos_token", "stop"), ("length", "length"), ("function_call", "tool_calls")],
)
def test_reasons(told: str, finish: str) -> None:
    assert steps(chunk(told, content="a"))[-1].finish == finish


def test_usage_as_the_server_tells_it() -> None:
    told = {"prompt_tokens": 9, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
    told["completion_tokens_details"] = {"reasoning_tokens": 3}
    usage = steps(chunk("stop", content="a"), json.dumps({"choices": [], "usage": told}))[-1].usage
    assert usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (9, 5, 4)
    assert usage.reasoning_tokens == 3
    assert 0 < usage.ttft_s <= usage.e2e_s


@pytest.mark.parametrize(
    "told",
    [
        None,
        [1],
        "x",
        True,
        {"prompt_tokens": -5, "completion_tokens": -3},
        {"prompt_tokens_details": {"cached_tokens": True}},
    ],
)
def test_usage_that_is_not_told(told: Any) -> None:
    last = json.dumps({"choices": [], "usage": told})
    usage = steps(chunk(content="a"), chunk(content="b"), chunk("stop"), last)[-1].usage
    assert usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (0, 2, 0)


@pytest.mark.parametrize(
    ("chunks", "named"),
    [
        (["{"], "no JSON"),
        (["[" * 200_000], "no JSON"),
        ([chunk(tool_calls=True)], "tool_calls that are no list"),
        ([chunk(tool_calls=[{"index": [1], "function": {"name": "f"}}])], "index that is no number"),
        ([json.dumps({"choices": [{"delta": {}, "finish_reason": ["stop"]}]})], "not known here"),
        (["[]"], "no object"),
        (['{"choices": "none"}'], "choices"),
        (['{"choices": [3]}'], "choices"),
        (['{"choices": [{"delta": 3}]}'], "delta"),
        ([chunk(content=3)], "content that is no text"),
        ([chunk(tool_calls=[3])], "tool call"),
        ([chunk("content_filter")], "content_filter"),
        ([chunk("boredom")], "'boredom'"),
        ([chunk(content="a"), '{"error": {"message": "out of memory"}}'], "out of memory"),
        ([chunk(content="a")], "ended before the answer did"),
        ([], "ended before the answer did"),
    ],
)
def test_what_is_no_answer(chunks: list[str], named: str) -> None:
    with pytest.raises(RemoteFailed, match=named):
        steps(*chunks)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "no", "type": "x"}}, "no"),
        ({"error": "no"}, "no"),
        ({"detail": "no"}, "no"),
        ({"message": "no"}, "no"),
        ({"detail": [{"loc": ["body"], "msg": "no"}]}, '[{"loc": ["body"], "msg": "no"}]'),
        ("x" * 999, "x" * 500),
    ],
)
def test_what_a_server_says_went_wrong(body: Any, message: str) -> None:
    assert message_of(body) == message
