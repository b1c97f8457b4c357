"""`litellm` against a running server. To import it takes seconds."""

from __future__ import annotations

import asyncio
from types import ModuleType
from typing import Any

import pytest

pytestmark = [
    pytest.mark.slow,
    # Pydantic's, of litellm's own models.
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.fixture
def asked(url: str) -> dict[str, Any]:
    return {"model": "openai/scripted", "api_base": url, "api_key": "any", "max_retries": 0}


@pytest.fixture
def litellm() -> Any:
    import litellm

    litellm.telemetry = False
    return litellm


def question(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_a_chat(litellm: ModuleType, asked: dict[str, Any]) -> None:
    found = litellm.completion(messages=question("hello"), **asked)
    assert found.choices[0].message.content == "Good day to you."
    assert found.usage.completion_tokens == len("Good day to you.") + 1


def test_a_chat_as_a_stream(litellm: ModuleType, asked: dict[str, Any]) -> None:
    chunks = litellm.completion(messages=question("hello"), stream=True, **asked)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Good day to you."


def test_an_async_chat(litellm: ModuleType, asked: dict[str, Any]) -> None:
    found = asyncio.run(litellm.acompletion(messages=question("hello"), **asked))
    assert found.choices[0].message.content == "Good day to you."


def test_a_chat_with_tools(litellm: ModuleType, asked: dict[str, Any]) -> None:
    found = litellm.completion(messages=question("weather?"), tools=[TOOL], **asked)
    [call] = found.choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments) == ("weather", '{"location": "San Francisco"}')


def test_a_response(litellm: ModuleType, asked: dict[str, Any]) -> None:
    found = litellm.responses(input="hello", **asked)
    assert found.output[0].content[0].text == "Good day to you."
    events = list(litellm.responses(input="hello", stream=True, **asked))
    assert "".join(event.delta for event in events if "output_text.delta" in event.type) == "Good day to you."


def test_an_error_is_read(litellm: ModuleType, asked: dict[str, Any]) -> None:
    with pytest.raises(litellm.NotFoundError, match="'other'"):
        litellm.completion(messages=question("hello"), **asked | {"model": "openai/other"})
