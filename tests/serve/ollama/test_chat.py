"""`/api/chat` and `/api/generate` over scripted models, as raw HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx2
import pytest

from edgeship.engine.thinking import Marks
from edgeship.serve import ServeOptions
from tests.serve.serving import calling_app, scripted_app, serving

ANSWERS = {"hello": "Good day to you.", "think": "<Hm, why?>Because.", "json": '{"a": 1}'}
TIMES = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(lambda: scripted_app(ANSWERS, thought_marks=Marks(ord("<"), ord(">")))) as url:
        yield url


@pytest.fixture(scope="module")
def calling() -> Iterator[str]:
    with serving(calling_app) as url:
        yield url


def chat(url: str, question: str = "hello", **body: Any) -> httpx2.Response:
    body = {"model": "scripted:latest", "messages": [{"role": "user", "content": question}]} | body
    return httpx2.post(f"{url}/api/chat", json=body)


def generate(url: str, prompt: str = "hello", **body: Any) -> httpx2.Response:
    return httpx2.post(f"{url}/api/generate", json={"model": "scripted", "prompt": prompt} | body)


def lines(response: httpx2.Response) -> list[dict[str, Any]]:
    assert response.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in response.text.splitlines()]


def test_a_whole_answer(url: str) -> None:
    found = chat(url, stream=False).json()
    assert found["model"] == "scripted:latest"
    assert datetime.fromisoformat(found["created_at"]).tzinfo
    assert found["message"] == {"role": "assistant", "content": "Good day to you."}
    assert (found["done"], found["done_reason"]) == (True, "stop")
    assert found["eval_count"] == len("Good day to you.") + 1
    assert found["prompt_eval_count"] > 0
    assert all(isinstance(found[name], int) for name in TIMES)


def test_a_stream_is_what_comes_unless_told_otherwise(url: str) -> None:
    *parts, last = lines(chat(url))
    assert "".join(part["message"]["content"] for part in parts) == "Good day to you."
    assert not any(part["done"] for part in parts)
    assert (last["message"], last["done_reason"]) == ({"role": "assistant", "content": ""}, "stop")
    assert last["eval_count"] == len("Good day to you.") + 1


def test_a_prompt_is_answered_in_the_same_way(url: str) -> None:
    assert generate(url, stream=False).json()["response"] == "Good day to you."
    *parts, last = lines(generate(url))
    assert "".join(part["response"] for part in parts) == "Good day to you."
    assert (last["response"], last["done_reason"]) == ("", "stop")


def test_a_raw_prompt_has_no_template_around_it(url: str) -> None:
    found = generate(url, "hello", raw=True, stream=False).json()
    assert found["prompt_eval_count"] == len("hello")
    assert found["response"] == "I do not know."


def test_thoughts_are_told_apart(url: str) -> None:
    message = chat(url, "think", stream=False).json()["message"]
    assert message == {"role": "assistant", "content": "Because.", "thinking": "Hm, why?"}
    parts = lines(generate(url, "think"))
    assert "".join(part.get("thinking", "") for part in parts) == "Hm, why?"
    assert "".join(part["response"] for part in parts) == "Because."


def test_calls(calling: str) -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    call = {"id": "call_0", "function": {"index": 0, "name": "weather", "arguments": {"location": "San Francisco"}}}
    found = chat(calling, tools=tools, stream=False).json()
    assert (found["message"]["tool_calls"], found["done_reason"]) == ([call], "stop")
    first, last = lines(chat(calling, tools=tools))
    assert (first["message"]["tool_calls"], last["done_reason"]) == ([call], "stop")


def test_an_answer_that_was_cut(url: str) -> None:
    found = chat(url, options={"num_predict": 3}, stream=False).json()
    assert (found["message"]["content"], found["done_reason"], found["eval_count"]) == ("Goo", "length", 3)


def test_what_an_answer_is_held_to(url: str) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    for given in (schema, "json"):
        assert json.loads(chat(url, "json", format=given, stream=False).json()["message"]["content"]) == {"a": 1}


def test_log_probabilities(url: str) -> None:
    found = generate(url, stream=False, logprobs=True, top_logprobs=2).json()["logprobs"]
    assert len(found) == len("Good day to you.") + 1
    assert len(found[0]["top_logprobs"]) == 2
    assert sum(len(part.get("logprobs", ())) for part in lines(generate(url, logprobs=True))) == len(found)


@pytest.mark.parametrize(
    "ask", [lambda url, **how: chat(url, messages=[], **how), lambda url, **how: generate(url, "", **how)]
)
def test_without_a_question_a_model_is_loaded_or_unloaded(ask: Any) -> None:
    with serving(scripted_app) as url:
        assert ask(url).json()["done_reason"] == "load"
        assert [model["name"] for model in httpx2.get(f"{url}/api/ps").json()["models"]] == ["scripted:latest"]
        assert ask(url, keep_alive=0).json()["done_reason"] == "unload"
        assert httpx2.get(f"{url}/api/ps").json()["models"] == []


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"model": ""}, "model"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "boss", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, "messages[0].images"),
        ({"template": "x"}, "template"),
        ({"options": {"mirostat": 2}}, "options.mirostat"),
        ({"options": {"num_ctx": 0}}, "options.num_ctx"),
        ({"options": {"temperature": "hot"}}, "options.temperature"),
        ({"format": "yaml"}, "format"),
        ({"keep_alive": "soon"}, "keep_alive"),
        ({"think": "high"}, "think"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
    ],
)
def test_a_field_that_is_wrong_or_unknown_is_named(url: str, body: dict[str, Any], named: str) -> None:
    response = chat(url, **body)
    assert response.status_code == 400
    assert list(response.json()) == ["error"]
    assert named in response.json()["error"]


def test_a_model_that_is_not_there(url: str) -> None:
    for response in (chat(url, model="other:latest"), generate(url, model="other", stream=False)):
        assert response.status_code == 404
        assert "'other" in response.json()["error"]


def test_an_answer_that_cannot_be_completed_ends_with_an_error() -> None:
    slow = {"hello": "x" * 1000}
    with serving(lambda: scripted_app(slow, ServeOptions(deadline_s=0.3), delay_s=0.02)) as url:
        last = lines(chat(url))[-1]
    assert list(last) == ["error"]
    assert "not complete within the time" in last["error"]


def test_what_open_webui_sends(calling: str) -> None:
    """A conversation with a call in it, the settings of its panel, and the task that makes a title."""
    call = {"index": 0, "id": "call_0", "function": {"name": "weather", "arguments": {"location": "Paris"}}}
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "tool_calls": [call], "content": ""},
        {"role": "tool", "content": "20 degrees", "tool_call_id": "call_0"},
    ]
    options = {
        "temperature": 0.8,
        "num_ctx": 1_000_000,
        "num_thread": 4,
        "num_gpu": 0,
        "use_mmap": True,
        "stop": ["\n\n"],
    }
    tools = [{"type": "function", "function": {"name": "weather", "description": "", "parameters": {}}}]
    assert chat(calling, messages=messages, options=options, tools=tools, keep_alive="5m").status_code == 200
    title = chat(calling, stream=False, num_predict=1000, options={})
    assert title.json()["message"]["content"] == "Good day to you."
    unloaded = generate(calling, "", model="scripted:latest", keep_alive=0)
    assert unloaded.json()["done_reason"] == "unload"
