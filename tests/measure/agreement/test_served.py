"""A server's log-probabilities of prompts: what is made of them, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from edgeship.errors import ContextFull, EdgeshipError, NotSupported, RemoteFailed
from edgeship.measure.agreement import served
from edgeship.measure.agreement.fidelity import Likelihood
from edgeship.measure.agreement.predictions import keep
from edgeship.measure.agreement.reference import ReferenceText
from edgeship.progress import silent
from tests.chat_server import Answer, Handler, serving
from tests.scripted import VOCAB_SIZE, ByteCodec

TOKENS = tuple(b"abcd")
FIRST = 2


def text() -> ReferenceText:
    """The reference finds each token likely, with half of all."""
    logits = np.zeros((len(TOKENS) - FIRST, VOCAB_SIZE), np.float32)
    logits[np.arange(len(logits)), TOKENS[FIRST:]] = math.log(VOCAB_SIZE - 1)
    return ReferenceText(TOKENS, FIRST, keep(logits, np.array(TOKENS[FIRST:])))


def entry(logprob: float, token: str) -> dict[str, Any]:
    return {"logprob": logprob, "rank": 1, "decoded_token": token}


def told(*after: dict[str, Any] | None) -> Answer:
    def say(handler: Handler) -> None:
        handler.say({"choices": [{"index": 0, "text": "", "prompt_logprobs": list(after)}]})

    return say


LIKELY = (
    None,
    {"98": entry(-9.0, "b")},  # before what is scored
    {"99": entry(math.log(0.25), "c")},
    {"120": entry(math.log(0.6), "x"), "100": entry(math.log(0.25), "d")},
)


def ask(answer: Answer) -> tuple[Likelihood, Sequence[Any]]:
    with serving(lambda _: None) as server:
        server.answers["/v1/completions"] = answer
        return served.likelihood(server.url, [text()], ByteCodec(), None, None, silent), server.asked


def refused(answer: Answer) -> EdgeshipError:
    with pytest.raises(EdgeshipError) as caught:
        ask(answer)
    return caught.value


def test_what_a_server_tells_of_the_scored_tokens() -> None:
    found, asked = ask(told(*LIKELY))
    assert (found.positions, found.texts, found.top1_agreement) == (2, 1, 0.5)
    assert found.reference_perplexity == pytest.approx(2)
    assert found.perplexity == pytest.approx(4)
    assert found.perplexity_ratio == pytest.approx(2)
    assert found.mean_probability_change == pytest.approx(-0.25)
    ((path, _, body),) = asked
    assert path == "/v1/completions"
    assert (body["prompt"], body["prompt_logprobs"], body["max_tokens"]) == (list(TOKENS), 1, 1)


@pytest.mark.parametrize(
    "answer",
    [
        lambda handler: handler.say({"choices": [{"index": 0, "text": ""}]}),
        lambda handler: handler.say({"error": {"message": "Only no echo is supported"}}, 400),
        told(*LIKELY[:3]),
    ],
)
def test_a_server_that_tells_none_is_refused_by_name(answer: Callable[[Handler], None]) -> None:
    error = refused(answer)
    assert isinstance(error, NotSupported)
    assert "tells no log-probabilities of prompts" in error.what
    assert "http://127.0.0.1" in str(error.where)


def test_another_tokenizer_is_refused_with_a_token() -> None:
    others = [None, *({key: how | {"decoded_token": "?"} for key, how in each.items()} for each in LIKELY[1:] if each)]
    error = refused(told(*others))
    assert isinstance(error, NotSupported)
    assert "another tokenizer: token 99 is '?' there and 'c' here" in error.what


@pytest.mark.parametrize(
    "answer",
    [
        told(None, {}, {"99": {}}, {"100": entry(-1, "d")}),
        told(None, {}, {"98": entry(-1, "b")}, {"100": entry(-1, "d")}),
        told(None, {}, None, {"100": entry(-1, "d")}),
        lambda handler: handler.say("[]"),
        lambda handler: handler.say({"choices": []}),
    ],
)
def test_what_cannot_be_read_is_a_failure_of_the_server(answer: Callable[[Handler], None]) -> None:
    error = refused(answer)
    assert isinstance(error, RemoteFailed)
    assert "cannot be read" in error.what


def test_a_context_that_is_too_short_is_told_as_that() -> None:
    error = refused(lambda handler: handler.say({"error": {"message": "exceeds the context length"}}, 400))
    assert isinstance(error, ContextFull)
