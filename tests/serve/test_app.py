"""The application as a whole: what is said of a path that there is not, and of a method that one does not take."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from tests.serve.serving import scripted_app, serving


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(scripted_app) as url:
        yield url


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/chat/completions", "Did you mean /v1/chat/completions?"),
        ("/v1/chat/completion", "Did you mean /v1/chat/completions?"),
        ("/v1/audio/speech", "/openapi.json lists what there is."),
    ],
)
def test_a_path_that_there_is_not(url: str, path: str, hint: str) -> None:
    response = httpx2.post(url + path, json={})
    assert response.status_code == 404
    assert response.json()["error"]["message"] == f"there is no {path}. {hint}"


def test_a_method_that_a_path_does_not_take(url: str) -> None:
    response = httpx2.get(f"{url}/v1/chat/completions")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert response.json()["error"]["message"] == "/v1/chat/completions takes no GET. It takes POST."
