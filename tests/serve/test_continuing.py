"""Answers that go on with the last message, in each API's own way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.serve.serving import scripted_app, serving

BEGUN = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "Good day"}]
BOTH = {"continue_final_message": True, "add_generation_prompt": False}
PATHS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": BOTH,
    "/v1/messages": {"max_tokens": 50},
    "/api/chat": {"stream": False},
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx2.Client]:
    with serving(scripted_app) as url, httpx2.Client(base_url=url) as client:
        yield client


def ask(client: httpx2.Client, path: str, **more: Any) -> httpx2.Response:
    return client.post(path, json={"model": "scripted", "messages": BEGUN} | PATHS[path] | more)


def text_of(told: Any) -> Any:
    """An answer's text, whatever API tells it."""
    if "choices" in told:
        return told["choices"][0]["message"]["content"]
    return told["message"]["content"] if "message" in told else told["content"][0]["text"]


@pytest.mark.parametrize("path", PATHS)
def test_an_answer_goes_on_with_its_space(client: httpx2.Client, path: str) -> None:
    response = ask(client, path)
    assert response.status_code == 200, response.text
    assert text_of(response.json()) == " to you."


@pytest.mark.parametrize("path", PATHS)
def test_as_a_stream(client: httpx2.Client, path: str) -> None:
    said = ask(client, path, stream=True).text
    assert "Good" not in said
    assert '" "' in said


def test_openais_api_answers_anew_unless_told_otherwise(client: httpx2.Client) -> None:
    asked = {"model": "scripted", "messages": BEGUN}
    found = client.post("/v1/chat/completions", json=asked).json()
    assert text_of(found) == "Good day to you."
    found = client.post("/v1/responses", json={"model": "scripted", "input": BEGUN}).json()
    assert found["output"][0]["content"][0]["text"] == "Good day to you."


@pytest.mark.parametrize(
    ("path", "more", "named"),
    [
        ("/v1/chat/completions", {"add_generation_prompt": None}, "continue_final_message"),
        ("/v1/chat/completions", {"continue_final_message": False}, "add_generation_prompt"),
        ("/v1/chat/completions", {"messages": BEGUN[:1]}, "the last message is to be continued"),
        ("/v1/chat/completions", {"guided_regex": "a+"}, "cannot be held to a schema"),
        ("/v1/chat/completions", {"reasoning_effort": "high"}, "reasoning_effort"),
        ("/v1/messages", {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}, "held to a schema"),
        ("/v1/messages", {"thinking": {"type": "enabled", "budget_tokens": 5}}, "thinking"),
        ("/v1/messages", {"messages": [*BEGUN[:1], {"role": "assistant", "content": " "}]}, "it has no text"),
        ("/api/chat", {"format": "json"}, "cannot be held to a schema"),
        ("/api/chat", {"think": True}, "think"),
    ],
)
def test_what_does_not_go_together(client: httpx2.Client, path: str, more: dict[str, Any], named: str) -> None:
    response = ask(client, path, **more)
    assert response.status_code == 400, response.text
    assert named in json.dumps(response.json())


def test_an_answer_of_ollamas_that_was_begun_with_nothing_is_a_new_one(client: httpx2.Client) -> None:
    messages = [*BEGUN[:1], {"role": "assistant", "content": ""}]
    assert text_of(ask(client, "/api/chat", messages=messages).json()) == "Good day to you."
    held = ask(client, "/api/chat", messages=[{"role": "user", "content": "json"}, messages[1]], format="json")
    assert json.loads(text_of(held.json())) == {"a": 1}


def test_a_call_of_ollamas_is_no_answer_that_was_begun(client: httpx2.Client) -> None:
    called = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    assert text_of(ask(client, "/api/chat", messages=[*BEGUN[:1], called]).json()) == "Good day to you."
