"""`/v1/messages` over a scripted model, as raw HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from edgeship.engine.api import Limits
from edgeship.engine.thinking import Marks
from edgeship.serve import ServeOptions
from tests.serve.serving import calling_app, scripted_app, serving

ANSWERS = {"hello": "Good day to you.", "think": "<Hm, why?>Because.", "json": '{"a": 1}', "": ""}
TOOL = {"name": "time", "description": "Tells it.", "input_schema": {"type": "object", "properties": {}}}
PLACE = {"type": "object", "properties": {"location": {"enum": ["Paris", "Rome"]}}, "required": ["location"]}
WEATHER = {"name": "weather", "input_schema": PLACE}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(lambda: scripted_app(ANSWERS, thought_marks=Marks(ord("<"), ord(">")), context_tokens=100)) as url:
        yield url


@pytest.fixture(scope="module")
def calling() -> Iterator[str]:
    with serving(calling_app) as url:
        yield url


def ask(url: str, question: str = "hello", path: str = "", **body: Any) -> httpx2.Response:
    body = {"model": "scripted", "max_tokens": 50, "messages": [{"role": "user", "content": question}]} | body
    return httpx2.post(f"{url}/v1/messages{path}", json=body, headers={"anthropic-version": "2023-06-01"})


def events(response: httpx2.Response) -> list[dict[str, Any]]:
    assert response.headers["content-type"].startswith("text/event-stream")
    found = []
    for event in response.text.strip().split("\n\n"):
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def test_a_whole_answer(url: str) -> None:
    found = ask(url).json()
    assert found["id"].startswith("msg_")
    assert (found["type"], found["role"], found["model"]) == ("message", "assistant", "scripted")
    assert found["content"] == [{"type": "text", "text": "Good day to you.", "citations": None}]
    assert (found["stop_reason"], found["stop_sequence"]) == ("end_turn", None)
    assert found["usage"]["output_tokens"] == len("Good day to you.") + 1


def test_tokens_that_were_known_are_told_apart() -> None:
    with serving(lambda: scripted_app(limits=Limits(kv_bytes=1 << 20))) as url:
        first, second = (ask(url).json()["usage"] for _ in range(2))
    assert first["cache_read_input_tokens"] == 0
    assert second["cache_read_input_tokens"] > 0
    assert second["input_tokens"] + second["cache_read_input_tokens"] == first["input_tokens"]


def test_a_stream_is_the_same_answer(url: str) -> None:
    found = events(ask(url, stream=True))
    deltas = ["content_block_delta"] * len("Good day to you.")
    assert [event["type"] for event in found] == [
        *("message_start", "ping", "content_block_start", *deltas, "content_block_stop"),
        *("message_delta", "message_stop"),
    ]
    assert found[0]["message"]["content"] == []
    assert "".join(event["delta"]["text"] for event in found if "delta" in event and "text" in event["delta"]) == (
        "Good day to you."
    )
    assert found[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert found[-2]["usage"]["output_tokens"] == len("Good day to you.") + 1


def test_thoughts_are_a_block_of_their_own(url: str) -> None:
    found = ask(url, "think").json()
    thought, text = found["content"]
    assert found["usage"]["output_tokens_details"] == {"thinking_tokens": len("<Hm, why?>")}
    assert thought == {"type": "thinking", "thinking": "Hm, why?", "signature": ""}
    assert text["text"] == "Because."
    streamed = events(ask(url, "think", stream=True))
    begun = [(event["index"], event["content_block"]["type"]) for event in streamed if "content_block" in event]
    assert begun == [(0, "thinking"), (1, "text")]
    kinds = [event["delta"]["type"] for event in streamed if event["type"] == "content_block_delta"]
    assert kinds == ["thinking_delta"] * len("Hm, why?") + ["signature_delta"] + ["text_delta"] * len("Because.")


def test_calls(calling: str) -> None:
    found = ask(calling, tools=[TOOL], tool_choice={"type": "any"}).json()
    assert found["content"] == [
        {
            "type": "tool_use",
            "id": "call_0",
            "name": "time",
            "input": {"location": "San Francisco"},
            "caller": {"type": "direct"},
        }
    ]
    assert found["stop_reason"] == "tool_use"
    start, delta, stop = events(ask(calling, tools=[TOOL], stream=True))[2:5]
    assert start["content_block"] == found["content"][0] | {"input": {}}
    assert delta["delta"]["type"] == "input_json_delta"
    assert json.loads(delta["delta"]["partial_json"]) == {"location": "San Francisco"}
    assert stop == {"type": "content_block_stop", "index": 0}


def test_calls_come_as_they_are_made() -> None:
    said = [json.dumps({"name": "weather", "arguments": {"location": city}}) for city in ("Paris", "Rome")]
    written = "I look." + "\n".join(f"<tool_call>\n{call}\n</tool_call>" for call in said)
    with serving(lambda: scripted_app({"hello": written})) as url:
        whole = ask(url, tools=[WEATHER], max_tokens=500).json()
        streamed = events(ask(url, tools=[WEATHER], max_tokens=500, stream=True))
    assert [block["type"] for block in whole["content"]] == ["text", "tool_use", "tool_use"]
    assert [block["input"] for block in whole["content"][1:]] == [{"location": "Paris"}, {"location": "Rome"}]
    begun = [event["content_block"] for event in streamed if event["type"] == "content_block_start"]
    assert [block.get("name") for block in begun] == [None, "weather", "weather"]
    pieces = [
        event["delta"]["partial_json"]
        for event in streamed
        if event["type"] == "content_block_delta" and event["index"] == 1
    ]
    assert len(pieces) > 2
    assert json.loads("".join(pieces)) == {"location": "Paris"}
    assert streamed[-2]["delta"]["stop_reason"] == "tool_use"


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
def test_an_answer_that_must_be_a_call(choice: dict[str, Any]) -> None:
    with serving(lambda: scripted_app({"hello": "No."})) as url:
        found = ask(url, tools=[TOOL, WEATHER], tool_choice=choice, max_tokens=500).json()
    assert found["stop_reason"] == "tool_use"
    assert {block["name"] for block in found["content"]} <= {"weather", "time"}
    if "name" in choice:
        [call] = found["content"]
        assert (call["name"], list(call["input"])) == ("weather", ["location"])


def test_tools_that_must_not_be_called_are_not_shown(calling: str) -> None:
    found = ask(calling, tools=[TOOL], tool_choice={"type": "none"}).json()
    assert [block["type"] for block in found["content"]] == ["text"]


def test_an_answer_of_nothing_is_an_empty_text(url: str) -> None:
    assert ask(url, "").json()["content"] == [{"type": "text", "text": "", "citations": None}]
    kinds = [event["type"] for event in events(ask(url, "", stream=True))]
    assert kinds[2:4] == ["content_block_start", "content_block_stop"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("how", "reason", "sequence"),
    [
        ({"stop_sequences": ["never", "day"]}, "stop_sequence", "day"),
        ({"max_tokens": 4}, "max_tokens", None),
        ({"max_tokens": 5000, "messages": [{"role": "user", "content": "x" * 80}]}, "end_of_context", None),
    ],
)
def test_why_an_answer_ends(url: str, how: dict[str, Any], reason: str, sequence: str | None, stream: bool) -> None:
    expected = "model_context_window_exceeded" if reason == "end_of_context" else reason
    response = ask(url, stream=stream, **how)
    ended = events(response)[-2]["delta"] if stream else response.json()
    assert (ended["stop_reason"], ended["stop_sequence"]) == (expected, sequence)


def test_what_an_answer_is_held_to(url: str) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    found = ask(url, "json", output_config={"format": {"type": "json_schema", "schema": schema}}).json()
    assert json.loads(found["content"][0]["text"]) == {"a": 1}


def test_a_prompt_is_counted(url: str) -> None:
    body = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}]}
    counted = httpx2.post(f"{url}/v1/messages/count_tokens", json=body).json()
    assert counted == {"input_tokens": ask(url).json()["usage"]["input_tokens"]}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "boss", "content": "x"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages[0].content[0]"),
        ({"system": 3}, "system"),
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [TOOL | {"name": ""}]}, "tools[0].name"),
        ({"stop_sequences": [""]}, "stop_sequences[0]"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "other"}}, "'other'"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"thinking": {"type": "enabled", "budget_tokens": 50}}, "thinking"),
        ({"thinking": {"type": "adaptive", "budget_tokens": 50}}, "thinking.budget_tokens"),
        ({"output_config": {"effort": "high"}}, "output_config.effort"),
        ({"service_tier": "batch"}, "service_tier"),
        ({"temperature": -1}, "temperature"),
    ],
)
def test_a_field_that_is_wrong_or_unknown_is_named(url: str, body: dict[str, Any], named: str) -> None:
    response = ask(url, **body)
    assert response.status_code == 400
    found = response.json()
    assert (found["type"], found["error"]["type"]) == ("error", "invalid_request_error")
    assert named in found["error"]["message"]


def test_labels_and_hints_are_taken(url: str) -> None:
    cached = {"type": "ephemeral"}
    response = ask(
        url,
        system=[{"type": "text", "text": "Be kind.", "cache_control": cached}],
        metadata={"user_id": "u"},
        service_tier="auto",
        thinking={"type": "adaptive"},
        cache_control=cached,
    )
    assert response.status_code == 200


def test_a_model_that_is_not_there(url: str) -> None:
    response = ask(url, model="other")
    assert response.status_code == 404
    assert response.json()["error"]["type"] == "not_found_error"


def test_an_answer_that_cannot_be_completed_ends_with_an_error() -> None:
    slow = {"hello": "x" * 1000}
    with serving(lambda: scripted_app(slow, ServeOptions(deadline_s=0.3), delay_s=0.02)) as url:
        last = events(ask(url, stream=True, max_tokens=1000))[-1]
    assert (last["type"], last["error"]["type"]) == ("error", "timeout_error")
