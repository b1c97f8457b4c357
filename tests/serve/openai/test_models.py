"""OpenAI's list of models: every name, and which of them are the same model."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from edgeship.engine.remote import RemoteChat
from tests.serve.serving import scripted_app, serving


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(scripted_app) as url:
        yield url


def test_each_name_is_listed_with_its_model(url: str) -> None:
    listed = httpx2.get(f"{url}/v1/models").json()["data"]
    assert [(entry["id"], entry["root"]) for entry in listed] == [("scripted", "scripted"), ("alias", "scripted")]
    assert httpx2.get(f"{url}/v1/models/alias").json()["root"] == "scripted"


def test_who_names_no_model_gets_the_only_one(url: str) -> None:
    with RemoteChat(url + "/v1") as chat:
        assert chat.model == "scripted"


def test_there_are_no_embeddings(url: str) -> None:
    response = httpx2.post(f"{url}/v1/embeddings", json={"model": "scripted", "input": "a"})
    assert response.status_code == 400
    assert "no model here makes embeddings" in response.json()["error"]["message"]
