"""Completions by the `openai` package against a running server, whose model fits into a table."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError, OpenAI

from edgeship.engine.text import TextCodec
from tests.packages import make_package
from tests.serve.serving import bigram_app, serving

HOW: Any = {"model": "bigram", "temperature": 0, "max_tokens": 12, "extra_body": {"ignore_eos": True}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_package(tmp_path_factory.mktemp("bigram") / "bigram").folder


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with serving(lambda: bigram_app(folder)) as url:
        yield f"{url}/v1"


@pytest.fixture
def client(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=url, api_key="any", max_retries=0) as client:
        yield client


def test_a_completion(client: OpenAI, folder: Path) -> None:
    tokens = list(TextCodec(folder).encode("hello").tokens)
    found = client.completions.create(prompt="hello", echo=True, logprobs=2, **HOW)
    [choice] = found.choices
    assert choice.text.startswith("hello")
    assert choice.finish_reason == "length"
    assert choice.logprobs
    assert choice.logprobs.token_logprobs
    assert len(choice.logprobs.token_logprobs) == len(tokens) + 12
    assert found.usage
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (len(tokens), 12)
    assert client.completions.create(prompt=tokens, echo=True, **HOW).choices[0].text == choice.text


def test_a_completion_as_a_stream(client: OpenAI) -> None:
    whole = client.completions.create(prompt=["hello", "how"], **HOW)
    options: Any = {"include_usage": True}
    chunks = list(client.completions.create(prompt=["hello", "how"], stream=True, stream_options=options, **HOW))
    for choice in whole.choices:
        pieces = [piece for chunk in chunks for piece in chunk.choices if piece.index == choice.index]
        assert "".join(piece.text for piece in pieces) == choice.text
    assert chunks[-1].usage
    assert whole.usage
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens == 24


def test_async_completions(url: str) -> None:
    async def ask() -> tuple[str, str]:
        async with AsyncOpenAI(base_url=url, api_key="any", max_retries=0) as client:
            whole, stream = await asyncio.gather(
                client.completions.create(prompt="hello", **HOW),
                client.completions.create(prompt="hello", stream=True, **HOW),
            )
            pieces = [chunk.choices[0].text async for chunk in stream]
        return whole.choices[0].text, "".join(pieces)

    whole, streamed = asyncio.run(ask())
    assert whole == streamed


def test_what_is_not_supported_is_named(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as refused:
        client.completions.create(prompt="hello", suffix="world", **HOW)
    assert refused.value.param == "suffix"
