"""`/v1/responses` over a scripted model, as raw HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from edgeship.engine.thinking import Marks
from edgeship.serve import ServeOptions
from tests.serve.serving import ANSWERS, scripted_app, serving

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
THOUGHTS = {"think": "<Hm.>So.", "hello": "Good day to you."}
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(scripted_app) as url:
        yield url


def ask(url: str, **body: Any) -> httpx2.Response:
    return httpx2.post(f"{url}/v1/responses", json={"model": "scripted", "input": "hello"} | body)


def answered(url: str, **body: Any) -> dict[str, Any]:
    response = ask(url, **body)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def text_of(response: dict[str, Any]) -> str:
    [item] = response["output"]
    [part] = item["content"]
    return str(part["text"])


def test_a_whole_response(url: str) -> None:
    found = answered(url, metadata={"a": "b"}, instructions="Be kind.", temperature=0.5)
    assert text_of(found) == "Good day to you."
    assert found["id"].startswith("resp_")
    assert found["status"] == "completed"
    assert found["model"] == "scripted"
    assert found["completed_at"] >= found["created_at"]
    assert found["error"] is None
    assert found["incomplete_details"] is None
    assert found["metadata"] == {"a": "b"}
    assert found["instructions"] == "Be kind."
    assert found["temperature"] == 0.5
    assert found["usage"]["output_tokens"] == len("Good day to you.") + 1


def test_a_stream_ends_with_the_same_response(url: str) -> None:
    blocks = [block for block in ask(url, stream=True).text.split("\n\n") if block]
    assert blocks[-1] == "data: [DONE]"
    events = []
    for block in blocks[:-1]:
        name, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert "".join(deltas) == "Good day to you."
    assert events[-1]["type"] == "response.completed"
    last = events[-1]["response"]
    assert text_of(last) == "Good day to you."
    assert last == httpx2.get(f"{url}/v1/responses/{last['id']}").json()


def test_an_answer_that_reaches_its_limit(url: str) -> None:
    found = answered(url, max_output_tokens=4)
    assert found["status"] == "incomplete"
    assert text_of(found) == "Good"
    assert found["max_output_tokens"] == 4


@pytest.mark.parametrize(
    "form",
    [{"type": "json_object"}, {"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}],
)
def test_what_an_answer_is_held_to(url: str, form: dict[str, Any]) -> None:
    found = answered(url, input="json", text={"format": form})
    assert json.loads(text_of(found)) == {"a": 1}
    assert found["text"]["format"].items() >= form.items()


def test_thoughts_are_an_item_of_their_own() -> None:
    with serving(lambda: scripted_app(THOUGHTS, thought_marks=Marks(ord("<"), ord(">")))) as url:
        found = answered(url, input="think")
        thoughts, answer = found["output"]
        assert thoughts["content"] == [{"type": "reasoning_text", "text": "Hm."}]
        assert answer["content"][0]["text"] == "So."
        assert answered(url, input="hello", previous_response_id=found["id"])["status"] == "completed"


def test_a_conversation_goes_on_from_a_response(url: str) -> None:
    first = answered(url, instructions="Be kind.")
    second = answered(url, input="json", previous_response_id=first["id"])
    assert second["previous_response_id"] == first["id"]
    assert second["usage"]["input_tokens"] > answered(url, input="json")["usage"]["input_tokens"]
    items = httpx2.get(f"{url}/v1/responses/{second['id']}/input_items", params={"order": "asc"}).json()
    texts = [(item["role"], item["content"][0]["text"]) for item in items["data"]]
    assert texts == [("user", "hello"), ("assistant", "Good day to you."), ("user", "json")]


def test_a_call_and_what_comes_of_it(url: str) -> None:
    first = answered(url, input="weather?", tools=[TOOL])
    [call] = first["output"]
    assert (call["type"], call["name"], call["status"]) == ("function_call", "weather", "completed")
    assert json.loads(call["arguments"]) == {"location": "San Francisco"}
    came = {"type": "function_call_output", "call_id": call["call_id"], "output": "rain"}
    asked = {"type": "message", "role": "user", "content": "weather?"}
    for how in ({"input": [came], "previous_response_id": first["id"]}, {"input": [asked, call, came]}):
        assert text_of(answered(url, tools=[TOOL], **how)) == "It rains."


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        ("auto", ["weather", "time"]),
        ("none", []),
        ({"type": "function", "name": "time"}, ["time"]),
        ({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "time"}]}, ["time"]),
    ],
)
def test_which_tools_are_called(url: str, choice: Any, called: list[str]) -> None:
    tools = [TOOL, {"type": "function", "name": "time", "parameters": NOTHING}]
    more = {"tools": tools, "tool_choice": choice, "parallel_tool_calls": called != ["time"]}
    found = answered(url, input="weather and time?", max_output_tokens=300, **more)
    assert [item["name"] for item in found["output"] if item["type"] == "function_call"] == called
    assert found["tool_choice"] == choice


NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}


def test_input_items_come_in_pages(url: str) -> None:
    given = [{"role": "user", "content": str(number), "id": f"m{number}"} for number in range(5)]
    found = answered(url, input=given)
    where = f"{url}/v1/responses/{found['id']}/input_items"
    page = httpx2.get(where, params={"limit": 2}).json()
    assert [item["id"] for item in page["data"]] == ["m4", "m3"]
    assert (page["first_id"], page["last_id"], page["has_more"]) == ("m4", "m3", True)
    rest = httpx2.get(where, params={"after": "m3"}).json()
    assert [item["id"] for item in rest["data"]] == ["m2", "m1", "m0"]
    assert not rest["has_more"]


def test_what_is_deleted_or_not_stored_is_not_there(url: str) -> None:
    stored, not_stored = answered(url)["id"], answered(url, store=False)["id"]
    deleted = httpx2.delete(f"{url}/v1/responses/{stored}")
    assert deleted.json() == {"id": stored, "object": "response", "deleted": True}
    for name in (stored, not_stored):
        assert httpx2.get(f"{url}/v1/responses/{name}").status_code == 404
        assert httpx2.get(f"{url}/v1/responses/{name}/input_items").status_code == 404
        assert httpx2.delete(f"{url}/v1/responses/{name}").status_code == 404
        refused = ask(url, previous_response_id=name)
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "previous_response_id"


def test_no_more_is_kept_than_there_is_room_for() -> None:
    with serving(lambda: scripted_app(ANSWERS, ServeOptions(stored_responses=2))) as url:
        names = [answered(url)["id"] for _ in range(3)]
        assert [httpx2.get(f"{url}/v1/responses/{name}").status_code for name in names] == [404, 200, 200]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": None}, "model"),
        ({"input": None}, "input"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"max_tool_calls": 1}, "max_tool_calls"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"prompt": {"id": "x"}}, "prompt"),
        ({"include": ["reasoning.encrypted_content"]}, "include[0]"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [TOOL | {"function": {}}]}, "tools[0].function"),
        ({"tool_choice": {"type": "mcp"}}, "tool_choice.type"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_object", "schema": {}}}}, "text.format.schema"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"reasoning": {"summary": "detailed"}}, "reasoning.summary"),
        ({"reasoning": {"effort": "low"}}, "reasoning.effort"),
        ({"stream_options": {"include_obfuscation": False}}, "stream_options"),
        ({"metadata": {"a": "x" * 513}}, "metadata.a"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type"),
    ],
)
def test_a_field_that_is_wrong_or_unknown_is_named(url: str, body: dict[str, Any], param: str) -> None:
    response = ask(url, **body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == param
    assert param.split(".")[-1] in error["message"]


def test_what_is_not_there_is_refused_by_name(url: str) -> None:
    name = answered(url)["id"]
    cancel = httpx2.post(f"{url}/v1/responses/{name}/cancel")
    assert cancel.status_code == 400
    assert "background" in cancel.json()["error"]["message"]
    assert httpx2.post(f"{url}/v1/responses/resp_0/cancel").status_code == 404
    compact = httpx2.post(f"{url}/v1/responses/compact", json={"model": "scripted", "input": "x"})
    assert compact.status_code == 404
    assert "/v1/responses/compact" in compact.json()["error"]["message"]
    for query, param in (({"stream": "true"}, "stream"), ({"include": "x"}, "include")):
        refused = httpx2.get(f"{url}/v1/responses/{name}", params=query)
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == param
    refused = httpx2.get(f"{url}/v1/responses/{name}/input_items", params={"limit": "101"})
    assert refused.json()["error"]["param"] == "limit"
    assert httpx2.get(f"{url}/v1/responses/{name}/input_items", params={"after": "x"}).status_code == 400
