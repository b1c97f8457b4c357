"""The list of models for those who speak Anthropic's API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from edgeship.engine.api import Chat
from edgeship.serve import ServeOptions, app
from edgeship.serve.models import ModelCard, Pool
from edgeship.settings import resolve
from tests.scripted import ScriptedEngine
from tests.serve.serving import card, serving


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    def open_chat(_: ModelCard) -> Chat:
        return ScriptedEngine({})

    cards = [card("a", aliases=("b",)), card("c"), card("d")]
    with serving(lambda: app.over(Pool(cards, settings=resolve(), open_chat=open_chat), ServeOptions())) as url:
        yield url


def get(url: str, path: str = "", **params: Any) -> httpx2.Response:
    return httpx2.get(f"{url}/v1/models{path}", params=params, headers={"anthropic-version": "2023-06-01"})


def page(url: str, **params: Any) -> tuple[str, bool]:
    found = get(url, **params).json()
    names = [model["id"] for model in found["data"]]
    assert (found["first_id"], found["last_id"]) == ((names[0], names[-1]) if names else (None, None))
    return "".join(names), found["has_more"]


def test_pages(url: str) -> None:
    assert page(url) == ("abcd", False)
    assert page(url, limit=2) == ("ab", True)
    assert page(url, limit=2, after_id="b") == ("cd", False)
    assert page(url, limit=2, before_id="d") == ("bc", True)
    assert page(url, after_id="d") == ("", False)


def test_one_model(url: str) -> None:
    assert get(url, "/b").json() == {
        "type": "model",
        "id": "b",
        "display_name": "b",
        "created_at": "2023-11-14T22:13:20Z",
        "lifecycle": "active",
        "gate": None,
    }


@pytest.mark.parametrize("params", [{"limit": "0"}, {"limit": "1001"}, {"limit": "9" * 5000}, {"after_id": "x"}])
def test_pages_that_there_are_not(url: str, params: dict[str, str]) -> None:
    response = get(url, **params)
    assert response.status_code == 400
    assert next(iter(params)) in response.json()["error"]["message"]


def test_errors_are_in_the_words_of_who_asks(url: str) -> None:
    assert get(url, "/x").json()["error"]["type"] == "not_found_error"
    assert get(url, "/x").json()["type"] == "error"
    assert httpx2.get(f"{url}/v1/models/x").json()["error"]["code"] == "model_unknown"
