"""`langchain-openai` against a running server, through chat completions and through responses."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, SecretStr


class Found(BaseModel):
    """What the model answers to "json"."""

    a: int


@tool
def weather(location: str) -> str:
    """The weather at a place."""
    assert location == "San Francisco"
    return "rain"


def opened(url: str, *, responses: bool) -> ChatOpenAI:
    key = SecretStr("any")
    return ChatOpenAI(model="scripted", base_url=url, api_key=key, max_retries=0, use_responses_api=responses)


@pytest.fixture(params=[False, True], ids=["chat", "responses"])
def model(url: str, request: pytest.FixtureRequest) -> ChatOpenAI:
    return opened(url, responses=request.param)


def test_an_answer(model: ChatOpenAI) -> None:
    found = model.invoke("hello")
    assert found.text == "Good day to you."
    assert found.usage_metadata
    assert found.usage_metadata["output_tokens"] == len("Good day to you.") + 1


def test_a_stream(model: ChatOpenAI) -> None:
    assert "".join(chunk.text for chunk in model.stream("hello")) == "Good day to you."


def test_async_answers(url: str) -> None:
    async def ask() -> list[str]:
        found = [opened(url, responses=responses).ainvoke("hello") for responses in (False, True)]
        return [message.text for message in await asyncio.gather(*found)]

    assert asyncio.run(ask()) == ["Good day to you."] * 2


def test_a_structure(model: ChatOpenAI) -> None:
    found: Any = model.with_structured_output(Found, method="json_schema").invoke("json")
    assert found == Found(a=1)


def test_tools(model: ChatOpenAI) -> None:
    bound = model.bind_tools([weather])
    said = bound.invoke("weather?")
    assert isinstance(said, AIMessage)
    [call] = said.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"location": "San Francisco"})
    came = weather.invoke(call)
    assert isinstance(came, ToolMessage)
    assert bound.invoke([("user", "weather?"), said, came]).text == "It rains."


def test_tools_in_a_stream(model: ChatOpenAI) -> None:
    chunks = list(model.bind_tools([weather]).stream("weather?"))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk  # type: ignore[assignment]
    [call] = whole.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"location": "San Francisco"})
