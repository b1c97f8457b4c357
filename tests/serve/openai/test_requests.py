"""Whatever fields a request has, and whatever is in them: it is answered, or what is wrong is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from edgeship.serve.fields import Fields
from edgeship.serve.openai.chat import ChatRequest
from edgeship.serve.openai.completions import CompletionRequest
from edgeship.serve.openai.tokens import DetokenizeRequest, TokenizeRequest
from tests.serve.serving import bigram_app, serving

WORDS = st.sampled_from(
    ["type", "json_schema", "schema", "name", "role", "content", "text", "function", "parameters", "include_usage", "5"]
)
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.sampled_from(["json_schema", "json_object", "user", "text", "function", "hello", "a+", "auto"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
REASONABLE: dict[str, dict[str, Any]] = {
    "/v1/completions": {"model": "bigram", "prompt": "hello"},
    "/v1/chat/completions": {"model": "bigram", "messages": [{"role": "user", "content": "hello"}]},
    "/tokenize": {"prompt": "hello"},
    "/detokenize": {"tokens": [5, 6]},
}
FIELDS: dict[str, type[Fields]] = {
    "/v1/completions": CompletionRequest,
    "/v1/chat/completions": ChatRequest,
    "/tokenize": TokenizeRequest,
    "/detokenize": DetokenizeRequest,
}


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[httpx2.Client]:
    with serving(lambda: bigram_app(folder)) as url, httpx2.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.mark.parametrize("path", list(REASONABLE))
@given(data=st.data())
@examples(max_examples=150)
def test_a_request_is_answered_or_refused_by_name(client: httpx2.Client, path: str, data: st.DataObject) -> None:
    known = sorted(FIELDS[path].model_fields)
    given_fields = data.draw(st.dictionaries(st.sampled_from([*known, "nonsense"]), ANYTHING, max_size=3))
    body = REASONABLE[path] | ({"max_tokens": 2} if "max_tokens" in known else {}) | given_fields
    response = client.post(path, json=body)
    assert response.status_code in (200, 400, 404), (body, response.text)
    assert "server_error" not in response.text, body
    if response.status_code == 400:
        error = response.json()["error"]
        named = error["param"] or error["message"]
        assert any(field in named for field in {*given_fields, *REASONABLE[path]}), (body, error)
