"""`/tokenize`, `/detokenize` and `/tokenizer_info` with a real tokenizer, as raw HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from lm_eval.utils import RemoteTokenizer, check_remote_tokenizer_support  # type: ignore[import-untyped]

from edgeship.engine.api import Conversation
from edgeship.engine.text import TextCodec
from edgeship.serve import ServeOptions, app
from edgeship.serve.models import Pool
from edgeship.settings import resolve
from tests.checkpoints import CHATML, VOCAB
from tests.serve.serving import bigram_app, card, serving, talker

TEXT = "hello wörld<|im_end|>"
MESSAGES = [{"role": "user", "content": "hello<|im_end|>"}]


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with serving(lambda: bigram_app(folder)) as url:
        yield url


def test_a_text_becomes_tokens_and_a_text_again(url: str, codec: TextCodec) -> None:
    found = httpx2.post(f"{url}/tokenize", json={"model": "bigram", "prompt": TEXT}).json()
    assert found["tokens"] == list(codec.encode(TEXT).tokens)
    assert found == {"count": len(found["tokens"]), "max_model_len": 512, "tokens": found["tokens"], "token_strs": None}
    back = httpx2.post(f"{url}/detokenize", json={"model": "bigram", "tokens": found["tokens"]}).json()
    assert back == {"prompt": TEXT}
    assert httpx2.post(f"{url}/detokenize", json={"tokens": []}).json() == {"prompt": ""}


def test_the_texts_of_tokens(url: str) -> None:
    found = httpx2.post(f"{url}/tokenize", json={"prompt": "hello<|im_end|>", "return_token_strs": True}).json()
    assert "".join(found["token_strs"]) == "hello<|im_end|>"


def test_a_conversation_becomes_the_tokens_of_its_prompt(url: str, codec: TextCodec) -> None:
    body = {"messages": MESSAGES, "add_generation_prompt": True, "add_special_tokens": False}
    found = httpx2.post(f"{url}/tokenize", json=body).json()
    assert found["tokens"] == list(codec.render(Conversation(MESSAGES)).tokens)


def test_what_is_said_of_the_tokenizer(url: str) -> None:
    found = httpx2.get(f"{url}/tokenizer_info", params={"model": "bigram"}).json()
    assert found == {
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 512,
        "chat_template": CHATML,
    }


def test_lm_eval_takes_it_for_its_tokenizer(url: str, codec: TextCodec) -> None:
    base = f"{url}/v1/completions"
    assert check_remote_tokenizer_support(base)
    remote = RemoteTokenizer(base)
    assert remote.eos_token_id == 2
    assert remote.encode(TEXT) == list(codec.encode(TEXT).tokens)
    assert remote.decode(remote.encode(TEXT)) == TEXT
    assert remote.apply_chat_template([{"role": "user", "content": "hello"}]).endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("tokenize", {}, "prompt"),
        ("tokenize", {"prompt": "a", "messages": MESSAGES}, "prompt"),
        ("tokenize", {"messages": MESSAGES, "add_special_tokens": True}, "add_special_tokens"),
        ("tokenize", {"messages": MESSAGES, "add_generation_prompt": False}, "add_generation_prompt"),
        ("tokenize", {"messages": MESSAGES, "continue_final_message": True}, "continue_final_message"),
        ("tokenize", {"prompt": "a", "chat_template_kwargs": {}}, "chat_template_kwargs"),
        ("tokenize", {"prompt": "a", "add_generation_prompt": True}, "add_generation_prompt"),
        ("tokenize", {"messages": [{"role": "boss"}]}, "messages[0].role"),
        ("tokenize", {"prompt": 5}, "prompt"),
        ("detokenize", {"tokens": "a"}, "tokens"),
        ("detokenize", {"tokens": [-1]}, "tokens[0]"),
        ("detokenize", {"tokens": [5, VOCAB]}, "tokens"),
        ("detokenize", {"tokens": [10**40]}, "tokens"),
        ("detokenize", {"tokens": [True]}, "tokens[0]"),
    ],
)
def test_what_is_wrong_is_named(url: str, path: str, body: dict[str, Any], param: str) -> None:
    response = httpx2.post(f"{url}/{path}", json=body)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param


def test_an_answer_that_was_begun_ends_the_prompt(url: str, codec: TextCodec) -> None:
    begun = [*MESSAGES, {"role": "assistant", "content": "Good day"}]
    how = {"continue_final_message": True, "add_generation_prompt": False}
    told = httpx2.post(f"{url}/tokenize", json={"messages": begun} | how).json()
    assert codec.decode(told["tokens"], special=True).endswith("<|im_start|>assistant\nGood day")


def test_a_model_whose_tokens_are_not_known_says_so() -> None:
    pool = Pool([card("scripted")], settings=resolve(), open_chat=lambda _: talker())
    with serving(lambda: app.over(pool, ServeOptions())) as url:
        for response in (
            httpx2.post(f"{url}/tokenize", json={"prompt": "a"}),
            httpx2.post(f"{url}/detokenize", json={"tokens": [5]}),
            httpx2.get(f"{url}/tokenizer_info"),
            httpx2.post(f"{url}/v1/completions", json={"model": "scripted", "prompt": "a"}),
        ):
            assert response.status_code == 400
            assert response.json()["error"]["code"] == "not_supported"
