"""What stands behind the question mark of a request."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from fastapi.routing import APIRoute

from edgeship.serve import app, page
from tests.serve.serving import scripted_app, serving

ROUTES = [
    (method, re.sub(r"\{[^}]*\}", "x", route.path))
    for router in app.ROUTERS
    if router is not page.router
    for route in router.routes
    if isinstance(route, APIRoute)
    for method in route.methods or ()
]
ASK = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx2.Client]:
    with serving(scripted_app) as url, httpx2.Client(base_url=url) as client:
        yield client


def message_of(path: str, told: Any) -> str:
    """What went wrong, in the shape of the API that lies there."""
    if path.startswith("/api/"):
        return str(told["error"])
    assert ("request_id" in told) == path.startswith("/v1/messages")
    return str(told["error"]["message"])


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_what_no_route_knows_is_refused_by_name_on_every_route(client: httpx2.Client, method: str, path: str) -> None:
    response = client.request(method, path, params={"surely_unknown": "1"}, json=ASK if method == "POST" else None)
    assert response.status_code == 400
    if method != "HEAD":
        assert message_of(path, response.json()).startswith("'surely_unknown' is not supported in a URL here")


@pytest.mark.parametrize(
    ("path", "param", "hint"),
    [
        ("/v1/responses/x/input_items?ordre=asc", "ordre", "Did you mean order?"),
        ("/v1/responses/x?include[]=message.output_text.logprobs", "include[]", "Leave it out of the URL."),
        ("/v1/responses/x?starting_after=3", "starting_after", "Leave it out of the URL."),
        ("/v1/responses/x?stream=true", "stream", "can only be 'false' here"),
        ("/v1/responses/x/input_items?limit=1&limit=2", "limit", "Give it once."),
        ("/v1/models?limit=1", "limit", "It goes with the header anthropic-version."),
        ("/v1/models?beta=true", "beta", "Leave it out of the URL."),
        ("/metrics?api-version=1", "api-version", "Leave it out of the URL."),
    ],
)
def test_what_is_said_of_a_parameter(client: httpx2.Client, path: str, param: str, hint: str) -> None:
    response = client.get(path)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == param
    assert error["message"].endswith(hint)


def test_what_clients_put_into_every_url(client: httpx2.Client) -> None:
    assert client.post("/v1/messages?beta=true", json=ASK).status_code == 200
    assert client.post("/v1/messages?beta=maybe", json=ASK).status_code == 400
    assert client.get("/v1/models?beta=true", headers={"anthropic-version": "2023-06-01"}).status_code == 200
    assert client.post("/v1/chat/completions?api-version=preview", json=ASK).status_code == 200
    assert client.get("/?from=a-link").status_code == 200


def test_a_response_is_asked_for_again_whole(client: httpx2.Client) -> None:
    made = client.post("/v1/responses", json={"model": "scripted", "input": "hello"}).json()
    assert client.get(f"/v1/responses/{made['id']}?stream=false").json() == made
