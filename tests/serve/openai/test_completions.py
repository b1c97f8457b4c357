"""`/v1/completions` over a model that fits into a table, with a real tokenizer, as raw HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from edgeship.engine.codec import Spelling
from edgeship.engine.text import TextCodec
from tests.bigram import END, LIKELY, greedy
from tests.checkpoints import VOCAB
from tests.serve.serving import bigram_app, serving

TEXT = "hello wörld 🙂"
"""Characters of one, of two and of four tokens."""


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with serving(lambda: bigram_app(folder)) as url:
        yield url


def ask(url: str, **body: Any) -> httpx2.Response:
    return httpx2.post(f"{url}/v1/completions", json={"model": "bigram", "prompt": TEXT, "temperature": 0} | body)


def choice(url: str, **body: Any) -> dict[str, Any]:
    response = ask(url, **body)
    assert response.status_code == 200, response.text
    [found] = response.json()["choices"]
    return dict(found)


def chunks(url: str, **body: Any) -> list[dict[str, Any]]:
    response = ask(url, stream=True, **body)
    assert response.status_code == 200, response.text
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_a_text_goes_on(url: str, codec: TextCodec) -> None:
    tokens = codec.encode(TEXT).tokens
    response = ask(url, max_tokens=8).json()
    made = greedy(tokens[-1], 8)
    assert response["object"] == "text_completion"
    assert response["model"] == "bigram"
    assert response["choices"] == [
        {
            "index": 0,
            "text": codec.decode(made),
            "logprobs": None,
            "finish_reason": "stop" if END in made else "length",
        }
    ]
    assert response["usage"]["prompt_tokens"] == len(tokens)
    assert response["usage"]["completion_tokens"] == len(made)


def test_every_form_of_a_prompt(url: str, codec: TextCodec) -> None:
    tokens, others = list(codec.encode(TEXT).tokens), list(codec.encode("how are you").tokens)
    one, other = choice(url)["text"], choice(url, prompt="how are you")["text"]
    assert choice(url, prompt=tokens)["text"] == one
    assert choice(url, prompt=[tokens])["text"] == one
    assert choice(url, prompt=[TEXT])["text"] == one
    for several in (["how are you", TEXT], [others, tokens]):
        found = ask(url, prompt=several).json()
        assert [found["index"] for found in found["choices"]] == [0, 1]
        assert [found["text"] for found in found["choices"]] == [other, one]
        assert found["usage"]["prompt_tokens"] == len(tokens) + len(others)


def test_sixteen_tokens_are_made_where_nothing_is_said(url: str) -> None:
    assert ask(url, ignore_eos=True).json()["usage"]["completion_tokens"] == 16
    assert ask(url, ignore_eos=True, max_tokens=1).json()["usage"]["completion_tokens"] == 1


@pytest.mark.parametrize("top", [0, 1, 5, 20])
def test_log_probabilities(url: str, codec: TextCodec, top: int) -> None:
    tokens = codec.encode(TEXT).tokens
    found = choice(url, max_tokens=4, ignore_eos=True, logprobs=top)["logprobs"]
    assert len(found["tokens"]) == 4
    before = tokens[-1]
    for logprob, likeliest in zip(found["token_logprobs"], found["top_logprobs"], strict=True):
        token = int(LIKELY[before].argmax())
        assert logprob == pytest.approx(LIKELY[before, token], abs=1e-5)
        assert logprob == max(likeliest.values())  # the very same float
        wanted = np.sort(LIKELY[before])[::-1][: max(top, 1)]
        assert sorted(likeliest.values(), reverse=True) == pytest.approx(wanted.tolist(), abs=1e-5)
        before = token


def test_an_echo_is_scored(url: str, codec: TextCodec) -> None:
    tokens = list(codec.encode(TEXT).tokens)
    for prompt in (TEXT, tokens):
        found = choice(url, prompt=prompt, echo=True, logprobs=1, max_tokens=1)
        scored = found["logprobs"]
        made = int(LIKELY[tokens[-1]].argmax())
        assert found["text"] == TEXT + codec.decode([made])
        assert scored["token_logprobs"][0] is None
        assert scored["top_logprobs"][0] is None
        wanted = [LIKELY[one, other] for one, other in zip(tokens, [*tokens[1:], made], strict=True)]
        assert scored["token_logprobs"][1:] == pytest.approx(wanted, abs=1e-5)
        for one, likeliest in zip(tokens, scored["top_logprobs"][1:], strict=True):
            assert max(likeliest.values()) == pytest.approx(LIKELY[one].max(), abs=1e-5)


def test_an_echo_alone(url: str, codec: TextCodec) -> None:
    response = ask(url, echo=True, logprobs=0, max_tokens=0).json()
    [found] = response["choices"]
    assert found["text"] == TEXT
    assert found["finish_reason"] == "length"
    assert len(found["logprobs"]["tokens"]) == len(codec.encode(TEXT).tokens)
    assert response["usage"]["completion_tokens"] == 0
    assert choice(url, max_tokens=0)["text"] == ""


def test_offsets_are_those_of_the_text(url: str, codec: TextCodec) -> None:
    found = choice(url, echo=True, logprobs=0, max_tokens=30, ignore_eos=True)
    scored, text = found["logprobs"], found["text"]
    assert len(scored["text_offset"]) == len(scored["tokens"])
    for token, offset in zip(scored["tokens"], scored["text_offset"], strict=True):
        if not (token.startswith("bytes:") or token in codec.special_tokens.values() or token == "<|im_start|>"):
            assert text[offset : offset + len(token)] == token
    parts = [offset for token, offset in zip(scored["tokens"], scored["text_offset"], strict=True) if "\\x" in token]
    assert parts[:6] == [TEXT.index("ö")] * 2 + [TEXT.index("🙂")] * 4


def test_special_tokens_that_a_prompt_writes_have_their_place(url: str) -> None:
    prompt = "<|im_start|>hello<|im_end|>"
    found = choice(url, prompt=prompt, echo=True, logprobs=0, max_tokens=0)
    assert found["text"] == prompt
    assert found["logprobs"]["text_offset"][-1] == prompt.index("<|im_end|>")


@pytest.mark.parametrize("body", [{}, {"echo": True}, {"echo": True, "max_tokens": 0}, {"prompt_logprobs": 2}])
def test_a_stream_says_the_same(url: str, body: dict[str, Any]) -> None:
    body = {"logprobs": 2, "max_tokens": 30, "ignore_eos": True, "stop": ["zzz"]} | body
    whole, told = choice(url, **body), chunks(url, **body)
    pieces = [piece for chunk in told for piece in chunk["choices"]]
    assert "".join(piece["text"] for piece in pieces) == whole["text"]
    for name, values in whole["logprobs"].items():
        assert [value for piece in pieces for value in piece["logprobs"][name]] == values
    assert [piece["finish_reason"] for piece in pieces if piece["finish_reason"]] == [whole["finish_reason"]]
    given = [piece["prompt_logprobs"] for piece in pieces if "prompt_logprobs" in piece]
    assert given == ([whole["prompt_logprobs"]] if "prompt_logprobs" in body else [])


def test_what_prompt_logprobs_tell(url: str, codec: TextCodec) -> None:
    tokens = codec.encode(TEXT).tokens
    found = choice(url, prompt_logprobs=3, echo=True, logprobs=1)
    assert found["prompt_logprobs"][0] is None
    for one, other, told in zip(tokens, tokens[1:], found["prompt_logprobs"][1:], strict=False):
        assert told[str(other)]["logprob"] == pytest.approx(LIKELY[one, other], abs=1e-5)
        best = int(LIKELY[one].argmax())
        assert told[str(best)] == {
            "logprob": pytest.approx(LIKELY[one, best], abs=1e-5),
            "rank": 1,
            "decoded_token": codec.spell([best])[0].text,
        }
        assert len(told) in (3, 4)
    assert {len(likeliest) for likeliest in found["logprobs"]["top_logprobs"][1 : len(tokens)]} <= {1, 2}


def test_several_answers_to_several_prompts(url: str, codec: TextCodec) -> None:
    body: dict[str, Any] = {"prompt": ["hello", "how"], "n": 3, "temperature": 1.0, "seed": 5, "ignore_eos": True}
    response = ask(url, **body).json()
    assert [found["index"] for found in response["choices"]] == list(range(6))
    texts = [found["text"] for found in response["choices"]]
    assert len(set(texts)) == 6
    assert texts[0] == choice(url, prompt="hello", temperature=1.0, seed=5, ignore_eos=True)["text"]
    assert response["usage"]["prompt_tokens"] == len([*codec.encode("hello").tokens, *codec.encode("how").tokens])
    assert response["usage"]["completion_tokens"] == 6 * 16
    streamed: dict[int, str] = {}
    for chunk in chunks(url, **body):
        [piece] = chunk["choices"]
        streamed[piece["index"]] = streamed.get(piece["index"], "") + piece["text"]
    assert [streamed[index] for index in range(6)] == texts


def test_usage_in_every_chunk(url: str, codec: TextCodec) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    told = chunks(url, ignore_eos=True, max_tokens=6, logprobs=0, stream_options=options)
    tokens = len(codec.encode(TEXT).tokens)
    assert [chunk["usage"]["prompt_tokens"] for chunk in told] == [tokens] * 7
    assert [chunk["usage"]["completion_tokens"] for chunk in told] == [1, 2, 3, 4, 5, 6, 6]
    assert told[-1]["choices"] == []
    only_last = chunks(url, ignore_eos=True, stream_options={"include_usage": True})
    assert ["usage" in chunk for chunk in only_last] == [False] * (len(only_last) - 1) + [True]


def test_a_stop_text_ends_an_answer(url: str) -> None:
    text = choice(url, ignore_eos=True, max_tokens=30)["text"]
    stop = text[5:7]
    found = choice(url, ignore_eos=True, max_tokens=30, stop=stop)
    assert found["text"] == text[: text.index(stop)]
    assert found["finish_reason"] == "stop"


def test_settings_change_what_is_made(url: str, codec: TextCodec) -> None:
    first = greedy(codec.encode(TEXT).tokens[-1], 1)[0]
    plain = choice(url, max_tokens=1, logprobs=0)["logprobs"]["tokens"]
    biased = choice(url, max_tokens=1, logprobs=0, logit_bias={str(first): -100})["logprobs"]["tokens"]
    assert plain != biased
    for penalty in ("presence_penalty", "frequency_penalty"):
        made = choice(url, max_tokens=60, ignore_eos=True, logprobs=0, **{penalty: 100})["logprobs"]["tokens"]
        assert len(set(made)) == 60
    made = choice(url, max_tokens=40, ignore_eos=True, logprobs=0, repetition_penalty=1000)["logprobs"]["tokens"]
    assert len(set(made)) > len(set(choice(url, max_tokens=40, ignore_eos=True, logprobs=0)["logprobs"]["tokens"]))


@pytest.mark.parametrize(
    ("how", "texts"),
    [
        ({"guided_choice": ["hello", "how"]}, ("hello", "how")),
        ({"guided_regex": "ab{3}"}, ("abbb",)),
        ({"guided_grammar": 'start: "a" "b"'}, ("ab",)),
        ({"structured_outputs": {"choice": ["yes"]}}, ("yes",)),
        ({"guided_json": {"const": 7}}, ("7",)),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"const": 7}}}}, ("7",)),
    ],
)
def test_what_an_answer_is_held_to(url: str, how: dict[str, Any], texts: tuple[str, ...]) -> None:
    found = choice(url, echo=True, prompt_logprobs=0, logprobs=0, **how)
    assert found["text"] in [TEXT + text for text in texts]
    assert found["finish_reason"] == "stop"
    assert all(choice(url, prompt_logprobs=0, **how)["prompt_logprobs"][1:])


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": {}}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [5, "a"]}, "prompt[1]"),
        ({"prompt": ["a", 5]}, "prompt[1]"),
        ({"prompt": [[5], "a"]}, "prompt[1]"),
        ({"prompt": [[5, "a"]]}, "prompt[0][1]"),
        ({"prompt": [5.0]}, "prompt[0]"),
        ({"prompt": [True]}, "prompt[0]"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"prompt": [VOCAB]}, "prompt"),
        ({"prompt": ["a", "b"], "n": 129}, "n"),
        ({"prompt": [[5], [10**30]]}, "prompt[1]"),
        ({"prompt": ["a"] * 300}, "prompt"),
        ({"prompt": ["a"] * 200, "n": 2}, "prompt"),
        ({"prompt": [5] * 600}, "prompt"),
        ({"prompt": "a" * 600}, "prompt"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": -1}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"prompt_logprobs": 21}, "prompt_logprobs"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"seed": -1}, "seed"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {str(VOCAB): 1}}, "logit_bias"),
        ({"logit_bias": {"9" * 5000: 1}}, "logit_bias"),
        ({"best_of": 2}, "best_of"),
        ({"suffix": "x"}, "suffix"),
        ({"messages": []}, "messages"),
        ({"guided_choice": []}, "guided_choice"),
        ({"guided_regex": "("}, "guided_regex"),
    ],
)
def test_what_is_wrong_is_named(url: str, body: dict[str, Any], param: str) -> None:
    response = ask(url, **body)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param, error


def test_a_long_list_that_is_wrong_is_refused_at_once(url: str) -> None:
    response = ask(url, prompt=[5, *["a"] * 500_000])
    assert response.status_code == 400
    assert len(response.content) < 1000
    assert response.json()["error"]["param"] == "prompt[1]"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "hello", "logprobs": 1}),
        ("/v1/completions", {"prompt": "hello " * 50, "logprobs": 1, "echo": True, "stream": True}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hello"}], "logprobs": True}),
        ("/tokenize", {"prompt": "hello", "return_token_strs": True}),
    ],
)
def test_what_may_be_large_is_made_while_others_are_served(
    url: str, path: str, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    makers: list[str] = []
    real = TextCodec.spell

    def noted(codec: TextCodec, tokens: Sequence[int]) -> tuple[Spelling, ...]:
        makers.append(threading.current_thread().name)
        return real(codec, tokens)

    monkeypatch.setattr(TextCodec, "spell", noted)
    more = {} if path == "/tokenize" else {"max_tokens": 1}
    assert httpx2.post(url + path, json=body | more | {"model": "bigram"}).status_code == 200
    assert makers
    assert all(name.startswith("edgeship serve") for name in makers)
