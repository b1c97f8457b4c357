"""Ids, headers, the line in the log, and failures that nobody foresaw."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from edgeship.serve import ServeOptions
from tests import waiting
from tests.serve.serving import scripted_app, serving

SECRET_QUESTION = {"model": "alias", "messages": [{"role": "user", "content": "what nobody may read"}]}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(lambda: scripted_app(default="nor this")) as url:
        yield url


def ask(url: str, **headers: str) -> httpx2.Response:
    return httpx2.post(f"{url}/v1/chat/completions", json=SECRET_QUESTION, headers=headers)


def facts_in(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """Of the one request there was; its line may come when its answer is there already."""

    def lines() -> list[logging.LogRecord]:
        return [each for each in caplog.records if each.name == "edgeship.serve.access"]

    waiting.until(lambda: bool(lines()))
    [record] = lines()
    facts: dict[str, Any] = record.__dict__["facts"]
    return facts


def test_an_id_is_kept_or_made(url: str) -> None:
    assert ask(url, **{"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    for bad in ("a b", "x" * 129, '"', "ä"):
        response = httpx2.get(f"{url}/health", headers={b"x-request-id": bad.encode()})
        assert response.headers["x-request-id"].startswith("req_")
    assert ask(url).headers["x-request-id"] != ask(url).headers["x-request-id"]
    assert httpx2.post(f"{url}/v1/messages").headers["request-id"].startswith("req_")


def test_headers_that_keep_browsers_from_guessing(url: str) -> None:
    for response in (ask(url), httpx2.get(f"{url}/nowhere"), httpx2.get(f"{url}/health")):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["content-security-policy"].startswith("default-src 'none'")
        assert "server" not in response.headers or response.headers["server"] == "uvicorn"  # the tests' own


def test_a_request_leaves_one_line_without_what_was_said(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "edgeship")
    ask(url, **{"x-request-id": "mine-2"})
    facts = facts_in(caplog)
    assert facts.items() >= {"id": "mine-2", "model": "scripted", "status": 200, "method": "POST"}.items()
    assert facts["path"] == "/v1/chat/completions"
    assert facts["completion_tokens"] == len("nor this") + 1
    assert facts["prompt_tokens"] > 0
    assert facts["duration_s"] >= facts["first_s"] > 0
    assert "what nobody may read" not in caplog.text
    assert "nor this" not in caplog.text


def test_a_refusal_is_logged_by_its_code(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "edgeship")
    httpx2.post(f"{url}/v1/chat/completions", content=b"{")
    assert facts_in(caplog).items() >= {"status": 400, "error": "body-invalid"}.items()


def test_prompts_are_logged_where_somebody_wants_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "edgeship")
    with serving(lambda: scripted_app(options=ServeOptions(log_prompts=True))) as url:
        ask(url)
    assert "what nobody may read" in caplog.text


def failing_app() -> FastAPI:
    app = scripted_app()

    @app.get("/fail")
    async def fail() -> None:
        raise RuntimeError("with /a/path in it")

    return app


def test_a_fault_of_ours_is_told_without_its_words_and_logged_with_the_id(caplog: pytest.LogCaptureFixture) -> None:
    with serving(failing_app) as url:
        response = httpx2.get(f"{url}/fail", headers={"x-request-id": "mine-3"})
    assert response.status_code == 500
    assert response.headers["x-request-id"] == "mine-3"
    assert response.json()["error"]["type"] == "server_error"
    assert "/a/path" not in response.text
    assert "request mine-3 failed" in caplog.text
    assert "with /a/path in it" in caplog.text


def test_probes_are_logged_where_all_is(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "edgeship")
    httpx2.get(f"{url}/health")
    assert facts_in(caplog)["path"] == "/health"
    [record] = [each for each in caplog.records if each.name == "edgeship.serve.access"]
    assert record.levelno == logging.DEBUG
