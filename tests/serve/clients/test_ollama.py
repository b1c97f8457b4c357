"""The `ollama` package as its users write it, with another host."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import ollama
import pytest

from tests.serve.serving import calling_app, serving

HELLO = [{"role": "user", "content": "hello"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def weather(location: str) -> str:
    """Tells the weather.

    Args:
        location: the city
    """
    assert location == "San Francisco"
    return "rain"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(calling_app) as url:
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> ollama.Client:
    return ollama.Client(host=url)


def test_an_answer(client: ollama.Client) -> None:
    found = client.chat(model="scripted", messages=HELLO, options={"temperature": 0.5, "seed": 1}, keep_alive="5m")
    assert (found.message.content, found.done_reason) == ("Good day to you.", "stop")
    assert found.eval_count == len("Good day to you.") + 1
    assert found.eval_duration is not None


def test_a_stream(client: ollama.Client) -> None:
    parts = list(client.chat(model="scripted", messages=HELLO, stream=True))
    assert "".join(part.message.content or "" for part in parts) == "Good day to you."
    assert (parts[-1].done, parts[-1].done_reason) == (True, "stop")


def test_a_prompt(client: ollama.Client) -> None:
    assert client.generate(model="scripted", prompt="hello", system="Be kind.").response == "Good day to you."
    parts = client.generate(model="scripted", prompt="hello", stream=True)
    assert "".join(part.response or "" for part in parts) == "Good day to you."


def test_asynchronously(url: str) -> None:
    async def ask() -> tuple[str | None, str]:
        client = ollama.AsyncClient(host=url)
        found = await client.chat(model="scripted", messages=HELLO)
        streamed = [part.message.content or "" async for part in await client.chat("scripted", HELLO, stream=True)]
        return found.message.content, "".join(streamed)

    assert asyncio.run(ask()) == ("Good day to you.", "Good day to you.")


def test_a_call_and_its_result(client: ollama.Client) -> None:
    called = client.chat(model="scripted", messages=HELLO, tools=[weather])
    [call] = called.message.tool_calls or ()
    assert (call.function.name, call.function.arguments) == ("weather", {"location": "San Francisco"})
    result = {"role": "tool", "content": weather(**call.function.arguments), "tool_name": "weather"}
    answer = client.chat(model="scripted", messages=[*HELLO, called.message, result], tools=[weather])
    assert answer.message.content == "It rains."
    assert not answer.message.tool_calls


def test_an_answer_in_the_form_of_a_schema(client: ollama.Client) -> None:
    found = client.chat(model="scripted", messages=[{"role": "user", "content": "json"}], format=SCHEMA)
    assert found.message.content == '{"a": 1}'


def test_models(client: ollama.Client) -> None:
    assert [model.model for model in client.list().models] == ["scripted:latest"]
    assert client.show("scripted:latest").capabilities == ["completion"]
    client.generate(model="scripted:latest")
    assert [model.name for model in client.ps().models] == ["scripted:latest"]
    client.generate(model="scripted", keep_alive=0)
    assert client.ps().models == []


def test_errors_are_those_of_the_package(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="no model is called 'other'") as caught:
        client.chat(model="other", messages=HELLO)
    assert caught.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="embeddings"):
        client.embed("scripted", "hello")
    with pytest.raises(ollama.ResponseError, match="on its machine"):
        list(client.pull("scripted", stream=True))
