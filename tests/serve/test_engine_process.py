"""A model in a process of its own says what it says in this one, and the server loads no tokenizer for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from edgeship.engine.isolated import IsolatedEngine
from edgeship.package import tokenizer
from edgeship.serve import ServeOptions, app
from edgeship.serve.models import Pool
from edgeship.settings import resolve
from tests import bigram
from tests.packages import make_package
from tests.serve.serving import bigram_app, card, serving

TEXT = "hello w\xf6rld \N{GRINNING FACE}<|im_end|>"
MESSAGES = [{"role": "user", "content": TEXT}]
TOKENS = [1, 300, 5, 97, 200, 2]
MADE = {"ignore_eos": True, "max_tokens": 12, "temperature": 2.0, "seed": 3}
CHAT = {"messages": MESSAGES, "logprobs": True, "top_logprobs": 4} | MADE
SCORED = {"logprobs": 3, "stop": ["zzz"]} | MADE
RESPONSE = {"input": TEXT, "include": ["message.output_text.logprobs"], "top_logprobs": 2, "max_output_tokens": 9}
OLLAMA = {"messages": MESSAGES, "logprobs": True, "top_logprobs": 2, "options": {"num_predict": 9, "seed": 3}}
CONTINUED = {
    "messages": [*MESSAGES, {"role": "assistant", "content": "Good"}],
    "continue_final_message": True,
    "add_generation_prompt": False,
}
ASKED: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", CHAT | {"n": 2}),
    ("/v1/chat/completions", CHAT | {"stream": True}),
    *(("/v1/completions", SCORED | {"prompt": prompt, "n": 2}) for prompt in (TEXT, TOKENS, [TEXT, "a"])),
    *(("/v1/completions", SCORED | {"prompt": prompt, "echo": True}) for prompt in (TEXT, TOKENS, [TOKENS, [5]])),
    *(("/v1/completions", SCORED | {"prompt": TEXT, "prompt_logprobs": 2, "stream": one}) for one in (False, True)),
    ("/v1/completions", SCORED | {"prompt": TEXT, "echo": True, "stream": True}),
    ("/v1/completions", {"prompt": TOKENS, "echo": True, "max_tokens": 0}),
    ("/v1/completions", {"prompt": TEXT, "guided_choice": ["hello"], "logprobs": 0}),
    *(("/v1/responses", RESPONSE | {"stream": stream, "store": False}) for stream in (False, True)),
    *(("/api/chat", OLLAMA | {"stream": stream}) for stream in (False, True)),
    ("/v1/chat/completions", {"messages": MESSAGES, "chat_template_kwargs": {"deep": 1}}),
    ("/api/chat", {"messages": MESSAGES, "think": True}),
    *(("/tokenize", {"prompt": TEXT, "add_special_tokens": special}) for special in (False, True)),
    ("/tokenize", {"prompt": TEXT, "return_token_strs": True}),
    ("/tokenize", {"messages": MESSAGES}),
    ("/v1/chat/completions", CHAT | CONTINUED),
    ("/tokenize", {"prompt": "a" * 200_000}),
    ("/detokenize", {"tokens": TOKENS}),
    ("/detokenize", {"tokens": [10**6]}),
]
# What is another each time.
MOVING = {"id", "item_id", "created", "created_at", "completed_at"}


def isolated_app(folder: Path) -> FastAPI:
    def open_chat(_: object) -> IsolatedEngine:
        return IsolatedEngine(folder, engine=bigram.ENGINE)

    return app.over(Pool([card("bigram")], settings=resolve(), open_chat=open_chat), ServeOptions())


def answers(url: str) -> list[Any]:
    with httpx2.Client(base_url=url, timeout=60) as client:
        found = [client.post(path, json={"model": "bigram"} | body) for path, body in ASKED]
        found.append(client.get("/tokenizer_info"))
    return [(response.status_code, [still(line) for line in response.text.splitlines()]) for response in found]


def still(line: str) -> Any:
    """A line of an answer without what is another each time."""
    if not line.startswith(("{", "data: {")):
        return line

    def without(value: Any) -> Any:
        if isinstance(value, list):
            return [without(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {key: without(item) for key, item in value.items() if key not in MOVING and "duration" not in key}

    return without(json.loads(line.removeprefix("data: ")))


@pytest.mark.slow
def test_what_is_told_is_the_same_and_no_tokenizer_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_package(tmp_path / "bigram").folder
    with serving(lambda: bigram_app(folder)) as url:
        expected = answers(url)

    def refused(*_: object) -> None:
        raise AssertionError("a tokenizer is loaded in the server")

    monkeypatch.setattr(tokenizer, "load", refused)
    with serving(lambda: isolated_app(folder)) as url:
        found = answers(url)
    for (path, body), one, other in zip([*ASKED, ("/tokenizer_info", {})], expected, found, strict=True):
        assert one == other, (path, body)
    assert [status for status, _ in found].count(400) == 4
