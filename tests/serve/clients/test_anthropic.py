"""The `anthropic` package as its users write it, with another URL."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import anthropic
import pytest
from anthropic.types import Message, MessageParam, ToolParam
from pydantic import BaseModel

from tests.serve.serving import calling_app, serving

HELLO: list[MessageParam] = [{"role": "user", "content": "hello"}]
WEATHER: ToolParam = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(calling_app) as url:
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=url, api_key="any", max_retries=0) as client:
        yield client


def test_an_answer(client: anthropic.Anthropic) -> None:
    message = client.messages.create(model="scripted", max_tokens=50, system="Be kind.", messages=HELLO)
    [block] = message.content
    assert block.type == "text"
    assert (block.text, message.stop_reason) == ("Good day to you.", "end_turn")


def test_a_stream(client: anthropic.Anthropic) -> None:
    with client.messages.stream(model="scripted", max_tokens=50, messages=HELLO, stop_sequences=["you"]) as stream:
        assert "".join(stream.text_stream) == "Good day to "
        message = stream.get_final_message()
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "you")
    assert message.usage.input_tokens > 0
    assert message.usage.output_tokens == len("Good day to you")


def test_asynchronously(url: str) -> None:
    async def ask() -> tuple[str, str]:
        async with anthropic.AsyncAnthropic(base_url=url, api_key="any", max_retries=0) as client:
            message = await client.messages.create(model="scripted", max_tokens=50, messages=HELLO)
            async with client.messages.stream(model="scripted", max_tokens=50, messages=HELLO) as stream:
                streamed = "".join([text async for text in stream.text_stream])
            [block] = message.content
            assert block.type == "text"
            return block.text, streamed

    assert asyncio.run(ask()) == ("Good day to you.", "Good day to you.")


@pytest.mark.parametrize("streamed", [False, True])
def test_a_call_and_its_result(client: anthropic.Anthropic, streamed: bool) -> None:
    called: Message
    if streamed:
        with client.messages.stream(model="scripted", max_tokens=50, messages=HELLO, tools=[WEATHER]) as stream:
            called = stream.get_final_message()
    else:
        called = client.messages.create(model="scripted", max_tokens=50, messages=HELLO, tools=[WEATHER])
    assert called.stop_reason == "tool_use"
    [block] = called.content
    assert block.type == "tool_use"
    assert (block.name, block.input) == ("weather", {"location": "San Francisco"})
    followed: list[MessageParam] = [
        *HELLO,
        {"role": "assistant", "content": called.content},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": block.id, "content": "20 degrees"}]},
    ]
    answer = client.messages.create(model="scripted", max_tokens=50, messages=followed, tools=[WEATHER])
    assert answer.stop_reason == "end_turn"


def test_an_answer_in_the_form_of_a_class(client: anthropic.Anthropic) -> None:
    class Found(BaseModel):
        a: int

    asked: list[MessageParam] = [{"role": "user", "content": "json"}]
    message = client.messages.parse(model="scripted", max_tokens=50, messages=asked, output_format=Found)
    assert message.parsed_output == Found(a=1)


def test_counting(client: anthropic.Anthropic) -> None:
    counted = client.messages.count_tokens(model="scripted", messages=HELLO).input_tokens
    assert counted == client.messages.create(model="scripted", max_tokens=50, messages=HELLO).usage.input_tokens


def test_models(client: anthropic.Anthropic) -> None:
    assert [model.id for model in client.models.list()] == ["scripted"]
    assert client.models.retrieve("scripted").display_name == "scripted"


def test_errors_are_those_of_the_package(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="no model is called 'other'"):
        client.messages.create(model="other", max_tokens=50, messages=HELLO)
    with pytest.raises(anthropic.BadRequestError, match="temperature"):
        client.messages.create(model="scripted", max_tokens=50, messages=HELLO, extra_body={"temperature": "hot"})
