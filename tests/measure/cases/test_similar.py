"""Texts as vectors, by a server that counts words; a text is asked for once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from edgeship.errors import RemoteFailed
from edgeship.measure.cases.assertions import Reply
from edgeship.measure.cases.evalset import EvalCase, judge
from edgeship.measure.cases.similar import Embeddings
from tests.chat_server import Answer, Handler, Server, serving

WORDS = ("rain", "sun", "train")


def count_words(handler: Handler) -> None:
    """Vectors in another order than the texts, as OpenAI's API may give them."""
    texts = handler.server.asked[-1][2]["input"]
    vectors = [{"index": at, "embedding": [text.count(word) for word in WORDS]} for at, text in enumerate(texts)]
    handler.say({"object": "list", "data": vectors[::-1]})


@contextmanager
def embedding(answer: Answer = count_words) -> Iterator[tuple[Embeddings, Server]]:
    with serving(answer) as server:
        server.answers["/v1/embeddings"] = answer
        with Embeddings(server.url, api_key="sk-secret-1") as embeddings:
            yield embeddings, server


def test_texts_are_compared_by_a_servers_model() -> None:
    values: dict[str, Any] = {
        "id": "a",
        "messages": [{"role": "user", "content": "How is it?"}],
        "assert": [{"type": "similar", "value": ["rain rain", "sun"], "threshold": 0.9}],
    }
    case = EvalCase.model_validate(values)
    with embedding() as (embeddings, server):
        right, wrong = (judge(case, Reply(text), embed=embeddings) for text in ("rain", "train rain"))
        again = judge(case, Reply("rain"), embed=embeddings)
    assert (right.passed, wrong.passed) == (True, False)
    assert right.score == pytest.approx(1)
    assert wrong.results[0].reason == "its similarity is 0.89"
    assert again == right
    assert [body["input"] for _, _, body in server.asked] == [["rain", "rain rain", "sun"], ["train rain"]]
    assert server.asked[0][1]["Authorization"] == "Bearer sk-secret-1"


@pytest.mark.parametrize(
    "body",
    [
        {},
        "no JSON",
        {"data": []},
        {"data": [{"index": 0, "embedding": []}]},
        {"data": [{"index": 0, "embedding": ["x"]}]},
        {"data": [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [1]}]},
        '{"data": [{"index": 0, "embedding": [NaN]}]}',
        {"data": [[0]]},
        [],
    ],
)
def test_what_are_no_embeddings(body: Any) -> None:
    def say(handler: Handler) -> None:
        handler.say(body)

    with embedding(say) as (embeddings, _), pytest.raises(RemoteFailed, match="embeddings cannot be read"):
        embeddings(["rain"])


def test_a_server_without_embeddings() -> None:
    def refuse(handler: Handler) -> None:
        handler.say({"error": {"message": "start with --embeddings"}}, 501)

    with embedding(refuse) as (embeddings, _), pytest.raises(RemoteFailed, match="start with --embeddings"):
        embeddings(["rain"])
