"""The `openai` package against a running server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai import APIError, AsyncOpenAI, BadRequestError, NotFoundError, OpenAI
from pydantic import BaseModel

from edgeship.engine.thinking import Marks
from edgeship.serve import ServeOptions
from tests.serve.serving import scripted_app, serving

WEATHER = {
    "name": "weather",
    "description": "The weather at a place.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"location": {"type": "string"}},
        "required": ["location"],
        "additionalProperties": False,
    },
}
CHAT_TOOL: Any = {"type": "function", "function": WEATHER}
RESPONSE_TOOL: Any = {"type": "function", **WEATHER}


class Found(BaseModel):
    """What the model answers to "json"."""

    a: int


@pytest.fixture
def client(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=url, api_key="any", max_retries=0) as client:
        yield client


def question(text: str) -> Any:
    return [{"role": "user", "content": text}]


def test_a_chat(client: OpenAI) -> None:
    found = client.chat.completions.create(model="scripted", messages=question("hello"))
    assert found.choices[0].message.content == "Good day to you."
    assert found.usage
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens


def test_a_chat_as_a_stream(client: OpenAI) -> None:
    options: Any = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(
            model="scripted", messages=question("héllo"), stream=True, stream_options=options
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "Grüß Gott 🙂."
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == len(text.encode()) + 1


def test_a_chat_in_a_structure(client: OpenAI) -> None:
    found = client.chat.completions.parse(model="scripted", messages=question("json"), response_format=Found)
    assert found.choices[0].message.parsed == Found(a=1)


def test_a_chat_with_tools(client: OpenAI) -> None:
    messages = question("weather?")
    found = client.chat.completions.create(model="scripted", messages=messages, tools=[CHAT_TOOL])
    assert found.choices[0].finish_reason == "tool_calls"
    said = found.choices[0].message
    assert said.tool_calls
    [call] = said.tool_calls
    assert call.type == "function"
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments) == {"location": "San Francisco"}
    messages += [said.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    found = client.chat.completions.create(model="scripted", messages=messages, tools=[CHAT_TOOL])
    assert found.choices[0].message.content == "It rains."


def test_tools_in_a_stream(client: OpenAI) -> None:
    with client.chat.completions.stream(model="scripted", messages=question("weather?"), tools=[CHAT_TOOL]) as stream:
        kinds = [event.type for event in stream]
        [call] = stream.get_final_completion().choices[0].message.tool_calls or []
    assert "tool_calls.function.arguments.done" in kinds
    assert call.function.parsed_arguments == {"location": "San Francisco"}


def test_async_chats_and_responses(url: str) -> None:
    async def ask() -> tuple[str | None, str, str]:
        async with AsyncOpenAI(base_url=url, api_key="any", max_retries=0) as client:
            chat, stream, response = await asyncio.gather(
                client.chat.completions.create(model="scripted", messages=question("hello")),
                client.chat.completions.create(model="scripted", messages=question("json"), stream=True),
                client.responses.create(model="scripted", input="hello"),
            )
            pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        return chat.choices[0].message.content, "".join(pieces), response.output_text

    assert asyncio.run(ask()) == ("Good day to you.", '{"a": 1}', "Good day to you.")


def test_a_response_and_the_next(client: OpenAI) -> None:
    first = client.responses.create(model="scripted", input="hello", instructions="Be kind.")
    assert first.output_text == "Good day to you."
    second = client.responses.create(model="scripted", input=question("json"), previous_response_id=first.id)
    assert second.output_text == '{"a": 1}'
    assert client.responses.retrieve(second.id).output_text == second.output_text
    assert len(list(client.responses.input_items.list(second.id, limit=1))) == 3
    client.responses.delete(second.id)
    with pytest.raises(NotFoundError):
        client.responses.retrieve(second.id)


def test_a_response_as_a_stream(client: OpenAI) -> None:
    with client.responses.stream(model="scripted", input="hello") as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        assert "".join(deltas) == stream.get_final_response().output_text == "Good day to you."


def test_a_response_in_a_structure(client: OpenAI) -> None:
    assert client.responses.parse(model="scripted", input="json", text_format=Found).output_parsed == Found(a=1)
    with client.responses.stream(model="scripted", input="json", text_format=Found) as stream:
        assert stream.get_final_response().output_parsed == Found(a=1)


def test_a_response_with_tools(client: OpenAI) -> None:
    with client.responses.stream(model="scripted", input="weather?", tools=[RESPONSE_TOOL]) as stream:
        [call] = stream.get_final_response().output
    assert call.type == "function_call"
    assert call.parsed_arguments == {"location": "San Francisco"}
    came: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    given: Any = [*question("weather?"), call.model_dump(exclude={"parsed_arguments"}), came]
    found = client.responses.create(model="scripted", input=given, tools=[RESPONSE_TOOL])
    assert found.output_text == "It rains."


def test_thoughts_are_told_apart() -> None:
    thinking = {"how many?": "<Three?>Two.", "sure?": "Yes."}
    marks = Marks(ord("<"), ord(">"))
    with (
        serving(lambda: scripted_app(thinking, thought_marks=marks)) as url,
        OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client,
    ):
        with client.responses.stream(model="scripted", input="how many?") as stream:
            thoughts = "".join(event.delta for event in stream if event.type == "response.reasoning_text.delta")
            found = stream.get_final_response()
        assert (thoughts, found.output_text) == ("Three?", "Two.")
        said: Any = [item.model_dump() for item in found.output]
        given = [*question("how many?"), *said, *question("sure?")]
        assert client.responses.create(model="scripted", input=given).output_text == "Yes."


def test_errors_are_read(client: OpenAI) -> None:
    with pytest.raises(NotFoundError, match="'other'") as unknown:
        client.chat.completions.create(model="other", messages=question("hello"))
    assert unknown.value.code == "model_unknown"
    with pytest.raises(BadRequestError, match="background"):
        client.responses.create(model="scripted", input="hello", background=True)


def test_an_answer_that_cannot_be_completed_says_so_in_its_stream() -> None:
    long = {"hello": "x" * 4000}
    with (
        serving(lambda: scripted_app(long, ServeOptions(deadline_s=0.1), delay_s=0.001)) as url,
        OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client,
    ):
        last = list(client.responses.create(model="scripted", input="hello", stream=True))[-1]
        assert last.type == "response.failed"
        assert last.response.error
        assert "not complete within the time" in last.response.error.message
        with pytest.raises(APIError, match="not complete within the time"):
            list(client.chat.completions.create(model="scripted", messages=question("hello"), stream=True))


def test_models_are_listed(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["scripted", "alias"]
    assert client.models.retrieve("scripted").id == "scripted"
