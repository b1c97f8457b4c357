"""Log-probabilities in OpenAI's words: those of chats over a running server, and the forms by themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from edgeship.engine.api import Conversation, Logprob, Token
from edgeship.engine.text import TextCodec
from edgeship.serve.logprobs import Spelled, chat_logprobs, completion_logprobs, prompt_logprobs
from tests.bigram import LIKELY
from tests.serve.serving import bigram_app, serving

MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with serving(lambda: bigram_app(folder)) as url:
        yield url


def spelled(codec: TextCodec, *tokens: int) -> Spelled:
    return dict(zip(tokens, codec.spell(tokens), strict=True))


def ask(url: str, **body: Any) -> httpx2.Response:
    body = {"model": "bigram", "messages": MESSAGES, "logprobs": True, "ignore_eos": True, "max_tokens": 40} | body
    response = httpx2.post(f"{url}/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    return response


def test_a_chat_s_bytes_are_its_text(url: str) -> None:
    for top in (0, 20):
        [found] = ask(url, temperature=3.0, seed=1, top_logprobs=top).json()["choices"]
        entries = found["logprobs"]["content"]
        assert len(entries) == 40
        text = bytes(byte for entry in entries for byte in entry["bytes"] or ())
        assert text.decode(errors="replace") == found["message"]["content"]
        assert all(len(entry["top_logprobs"]) == top for entry in entries)


def test_a_chat_s_log_probabilities_are_the_model_s_own(url: str, codec: TextCodec) -> None:
    last = codec.render(Conversation(MESSAGES)).tokens[-1]
    [found] = ask(url, top_logprobs=2, temperature=0.5, seed=3, max_tokens=1).json()["choices"]
    [entry] = found["logprobs"]["content"]
    wanted = sorted(LIKELY[last], reverse=True)[:2]
    assert [top["logprob"] for top in entry["top_logprobs"]] == pytest.approx(wanted, abs=1e-5)
    assert abs(LIKELY[last] - entry["logprob"]).min() < 1e-5


def test_a_chat_s_stream_has_the_same(url: str) -> None:
    how: dict[str, Any] = {"top_logprobs": 3, "temperature": 3.0, "seed": 4}
    [whole] = ask(url, **how).json()["choices"]
    lines = [line.removeprefix("data: ") for line in ask(url, stream=True, **how).text.split("\n\n") if line]
    pieces = [json.loads(line)["choices"][0] for line in lines[:-1]]
    told = [entry for piece in pieces if piece["logprobs"] for entry in piece["logprobs"]["content"]]
    assert told == whole["logprobs"]["content"]


def test_usage_is_told_from_the_first_step_of_a_chat_on(url: str, codec: TextCodec) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    lines = ask(url, stream=True, stream_options=options, max_tokens=3).text.split("\n\n")
    usages = [json.loads(line.removeprefix("data: "))["usage"] for line in lines if line and "[DONE]" not in line]
    assert usages[0] is None  # who answers is told before the prompt is read
    prompt = len(codec.render(Conversation(MESSAGES)).tokens)
    assert {usage["prompt_tokens"] for usage in usages[1:]} == {prompt}
    assert [usage["completion_tokens"] for usage in usages[1:]] == [1, 2, 3, 3, 3]


def test_special_tokens_have_no_bytes(codec: TextCodec) -> None:
    [entry] = chat_logprobs([Token(2, "", logprob=Logprob(-1.0))], spelled(codec, 2))["content"]
    assert entry == {"token": "<|im_end|>", "logprob": -1.0, "bytes": None, "top_logprobs": []}


def test_of_tokens_that_are_written_alike_the_likelier_counts(codec: TextCodec) -> None:
    nothing = 383  # which the tokenizer does not have, as it does not have 382
    how = Logprob(-3.0, ((382, -0.5), (5, -2.0)))
    found = completion_logprobs([(nothing, how, 7)], spelled(codec, nothing, 382, 5), 2)
    assert found["top_logprobs"] == [{"": -0.5, codec.spell([5])[0].text: -2.0}]
    assert found["token_logprobs"] == [-3.0]
    assert found["text_offset"] == [7]


def test_the_likeliest_tokens_of_a_prompt_are_as_many_as_were_asked_for(codec: TextCodec) -> None:
    of_third = Logprob(-1.0, ((5, -0.1), (7, -1.0), (9, -4.0)))
    of_second = Logprob(-6.0, ((5, -0.1), (7, -1.0), (9, -4.0)))
    first, second, third = prompt_logprobs((1, 8, 7), (of_second, of_third), spelled(codec, 5, 7, 8, 9), 2)
    assert first is None
    assert {token: told["rank"] for token, told in second.items()} == {"5": 1, "7": 2, "8": None}
    assert {token: (told["rank"], told["logprob"]) for token, told in third.items()} == {"5": (1, -0.1), "7": (2, -1.0)}
