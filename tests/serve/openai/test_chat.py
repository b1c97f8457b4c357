"""`/v1/chat/completions` over a scripted model, as raw HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.serve.serving import scripted_app, serving


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(scripted_app) as url:
        yield url


def ask(url: str, **body: Any) -> httpx2.Response:
    body = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}]} | body
    return httpx2.post(f"{url}/v1/chat/completions", json=body)


def test_a_whole_answer(url: str) -> None:
    response = ask(url)
    assert response.status_code == 200
    found = response.json()
    assert found["object"] == "chat.completion"
    assert found["model"] == "scripted"
    [choice] = found["choices"]
    assert choice == {
        "index": 0,
        "message": {"role": "assistant", "content": "Good day to you.", "refusal": None},
        "logprobs": None,
        "finish_reason": "stop",
    }
    assert found["usage"]["completion_tokens"] == len("Good day to you.") + 1
    assert found["usage"]["total_tokens"] == found["usage"]["prompt_tokens"] + found["usage"]["completion_tokens"]


def test_a_stream_is_the_same_answer(url: str) -> None:
    chunks = events(ask(url, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1] == "[DONE]"
    told = [json.loads(chunk) for chunk in chunks[:-1]]
    assert told[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(piece["choices"][0]["delta"].get("content", "") for piece in told[:-1]) == "Good day to you."
    assert [piece["choices"][0]["finish_reason"] for piece in told[:-1]][-1] == "stop"
    assert told[-1]["choices"] == []
    assert told[-1]["usage"]["completion_tokens"] == len("Good day to you.") + 1


def events(response: httpx2.Response) -> list[str]:
    assert response.headers["content-type"].startswith("text/event-stream")
    return [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]


def test_a_stream_tells_of_each_token_that_a_whole_answer_does(url: str) -> None:
    how = {"messages": [{"role": "user", "content": "héllo"}], "logprobs": True, "top_logprobs": 1}
    whole = ask(url, **how).json()
    told = [json.loads(chunk)["choices"][0]["logprobs"] for chunk in events(ask(url, **how, stream=True))[:-1]]
    logprobs = [entry for logprobs in told if logprobs for entry in logprobs["content"]]
    assert len(logprobs) == whole["usage"]["completion_tokens"]
    assert logprobs == whole["choices"][0]["logprobs"]["content"]


def test_several_answers_are_told_apart(url: str) -> None:
    assert [choice["index"] for choice in ask(url, n=3).json()["choices"]] == [0, 1, 2]
    texts: dict[int, str] = {}
    for chunk in events(ask(url, n=3, stream=True))[:-1]:
        [choice] = json.loads(chunk)["choices"]
        texts[choice["index"]] = texts.get(choice["index"], "") + choice["delta"].get("content", "")
    assert texts == dict.fromkeys(range(3), "Good day to you.")


def test_content_parts_and_the_developer_are_read(url: str) -> None:
    parts = [{"type": "text", "text": "hello"}]
    messages = [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": parts}]
    assert ask(url, messages=messages).json()["choices"][0]["message"]["content"] == "Good day to you."


def test_what_an_answer_is_held_to(url: str) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    wrapped = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    for how in ({"response_format": wrapped}, {"guided_json": schema}, {"structured_outputs": {"json": schema}}):
        text = ask(url, messages=[{"role": "user", "content": "json"}], **how).json()["choices"][0]["message"][
            "content"
        ]
        assert json.loads(text) == {"a": 1}
    assert ask(url, guided_choice=["no", "yes"], seed=1).json()["choices"][0]["message"]["content"] in ("no", "yes")


TOOL = {"type": "function", "function": {"name": "f"}}


def called(arguments: str) -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": "time", "arguments": arguments}}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"functions": [{}]}, "functions"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x"),
        ({"temperature": "hot"}, "temperature"),
        ({"n": 0}, "n"),
        ({"stop": [""]}, "stop[0]"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "boss", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parametres": 1}}]}, "tools[0].function.parametres"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "f"}, "strict": True}]}, "tools[0].strict"),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"guided_regex": ""}, "guided_regex"),
        ({"guided_grammar": ""}, "guided_grammar"),
        ({"guided_choice": []}, "guided_choice"),
        ({"guided_choice": ["a", ""]}, "guided_choice[1]"),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"regex": ""}}, "structured_outputs.regex"),
        ({"structured_outputs": {"json_object": False}}, "structured_outputs.json_object"),
        ({"structured_outputs": {"json_object": True, "regex": "a"}}, "structured_outputs.json_object"),
        ({"response_format": {}}, "response_format"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"store": True}, "store"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
    ],
)
def test_a_field_that_is_wrong_or_unknown_is_named(url: str, body: dict[str, Any], param: str) -> None:
    response = ask(url, **body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert param.split(".")[-1].rstrip("s") in error["message"]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user", "content": 1}, "content"),
        ({"role": "user"}, "content"),
        ({"role": "user", "content": "x", "contents": "y"}, "contents"),
        ({"role": "user", "content": [{"type": "text", "text": "x", "detail": 1}]}, "content[0].detail"),
        ({"role": "user", "content": [{"type": "text"}]}, "content[0].text"),
        ({"role": "user", "content": [{"type": "text", "text": 1}]}, "content[0].text"),
        ({"role": "assistant", "tool_calls": [called("{}") | {"arguments": "{}"}]}, "tool_calls[0].arguments"),
        ({"role": "assistant", "tool_calls": [called("[]")]}, "tool_calls[0].function.arguments"),
    ],
)
def test_what_is_wrong_in_a_message_is_named(url: str, message: dict[str, Any], param: str) -> None:
    response = ask(url, messages=[{"role": "user", "content": "hello"}, message])
    assert response.status_code == 400
    assert response.json()["error"]["param"] == f"messages[1].{param}"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"temprature": 1}, "temprature is not supported here. Did you mean temperature?"),
        ({"repeat_penalty": 1}, "repeat_penalty is not supported here. Did you mean repetition_penalty?"),
        ({"min_tokens": 1}, "min_tokens is 1, and can only be 0 here"),
        ({"functions": [1]}, "functions is [1], and can only be [] here"),
        ({"stream": True, "stream_options": {"include_usag": 1}}, "not supported here. Did you mean include_usage?"),
        ({"response_format": {"type": "text"}, "guided_jsn": {}}, "Did you mean guided_json?"),
        ({"structured_outputs": {"jsn": {}}}, "structured_outputs.jsn is not supported here. Did you mean json?"),
        ({"store": True}, "store is true, and can only be false here"),
        ({"service_tier": "flex"}, "service_tier is 'flex', and can only be 'auto' or 'default' here"),
    ],
)
def test_what_is_said_of_a_field(url: str, body: dict[str, Any], message: str) -> None:
    assert ask(url, **body).json()["error"]["message"].endswith(message)


def test_null_counts_as_not_given(url: str) -> None:
    assert ask(url, functions=None, temperature=None, stop=None).status_code == 200


def test_a_function_that_is_to_be_called_is_among_the_tools(url: str) -> None:
    error = ask(url, tools=[TOOL], tool_choice={"type": "function", "function": {"name": "g"}}).json()["error"]
    assert error["param"] == "tool_choice"
    assert error["message"] == "'g' is to be called, and no tool has that name. The tools are f."


def test_what_was_answered_is_taken_back(url: str) -> None:
    first = {"role": "user", "content": "weather and time?"}
    said = ask(url, messages=[first], tools=TOOLS, max_tokens=300).json()["choices"][0]["message"]
    # As the packages of OpenAI and LiteLLM write it, and as one puts the pieces of a stream together.
    said |= {"annotations": [], "audio": None, "function_call": None, "provider_specific_fields": {"refusal": None}}
    said["tool_calls"] = [call | {"index": number} for number, call in enumerate(said["tool_calls"])]
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "12:00"} for call in said["tool_calls"]]
    assert ask(url, messages=[first, said, *results], tools=TOOLS).status_code == 200


def test_a_function_that_is_strict_has_a_schema_that_can_be_kept(url: str) -> None:
    unkept = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
    function = {"name": "time", "parameters": unkept}
    tools = [{"type": "function", "function": function | {"strict": strict}} for strict in (False, True)]
    assert [ask(url, tools=[tool]).status_code for tool in tools] == [200, 400]


@pytest.mark.parametrize(("name", "meant"), [("", None), ("SCRIPTED", "scripted"), ("Alias", "alias")])
def test_a_model_that_is_nearly_there(url: str, name: str, meant: str | None) -> None:
    response = ask(url, model=name)
    assert response.status_code == 404
    hint = f"Did you mean {meant}? Models" if meant else "Models"
    assert response.json()["error"]["message"].startswith(f"no model is called {name!r}. {hint}")


def test_a_model_that_is_not_there(url: str) -> None:
    response = ask(url, model="other")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_unknown"


NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": NOTHING}} for name in ("weather", "time")]
TIME = {"type": "function", "function": {"name": "time"}}


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        ("none", []),
        (TIME, ["time"]),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [TIME]}}, ["time"]),
    ],
)
def test_which_tools_are_called(url: str, choice: Any, called: list[str]) -> None:
    response = ask(url, tools=TOOLS, tool_choice=choice, parallel_tool_calls=False, max_tokens=300)
    [found] = response.json()["choices"]
    assert [call["function"]["name"] for call in found["message"].get("tool_calls", [])] == called
    assert found["finish_reason"] == ("tool_calls" if called else "stop")


def test_calls_come_piece_by_piece(url: str) -> None:
    place = {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": place}}, TOOLS[1]]
    messages = [{"role": "user", "content": "weather and time?"}]
    chunks = [json.loads(chunk) for chunk in events(ask(url, messages=messages, tools=tools, stream=True))[:-1]]
    pieces = [piece for chunk in chunks for piece in chunk["choices"][0]["delta"].get("tool_calls", [])]
    assert len(pieces) > 4
    assert [piece["function"].get("name") for piece in pieces if "id" in piece] == ["weather", "time"]
    texts = {0: "", 1: ""}
    for piece in pieces:
        texts[piece["index"]] += piece["function"]["arguments"]
    assert [json.loads(text) for text in texts.values()] == [{"location": "San Francisco"}, {}]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
