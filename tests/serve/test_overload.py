"""More requests than a server takes, and its end while it answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from edgeship.serve import ServeOptions
from tests import waiting
from tests.serve.serving import connected, posted, scripted_app, serving

PATH = "/v1/chat/completions"
LONG: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "long"}]}
SHORT: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}]}
RUN = 6
"""Four slots, and two ahead."""


def app_of(**options: Any) -> FastAPI:
    """One whose answers to LONG do not end."""
    answers = {"long": "x" * 100_000, "hello": "Good day."}
    app = scripted_app(answers, ServeOptions(**options), delay_s=0.01, context_tokens=200_000)

    @app.post("/drain")
    async def drain() -> None:
        await app.state.server.drain()

    return app


def counts(app: FastAPI) -> tuple[int, int]:
    running, waits = app.state.server.line.counts()
    return running.total(), waits.total()


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def ask(clients: ExitStack, url: str, body: dict[str, Any]) -> Any:
    client = clients.enter_context(connected(url))
    client.sendall(posted(PATH, body))
    return client


def test_who_comes_when_the_line_is_full_is_told_at_once(clients: ExitStack) -> None:
    app = app_of(most_waiting=2)
    with serving(lambda: app) as url:
        for _ in range(RUN + 2):
            ask(clients, url, LONG)
        waiting.until(lambda: counts(app) == (RUN, 2))
        # Not even its body is read, which is no JSON.
        refused = httpx2.post(url + PATH, content=b"{")
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "engine_busy"
        assert httpx2.get(f"{url}/health/live").status_code == 200
        assert httpx2.get(f"{url}/v1/models").status_code == 200
        clients.close()
        waiting.until(lambda: counts(app) == (0, 0))
        assert httpx2.post(url + PATH, json=SHORT).status_code == 200


def drain(url: str) -> None:
    """Returns once the server has drained."""
    assert httpx2.post(f"{url}/drain", timeout=60).status_code == 200


def test_the_end_lets_answers_be_completed(clients: ExitStack) -> None:
    app = app_of()
    with serving(lambda: app) as url:
        client = ask(clients, url, SHORT)
        waiting.until(lambda: counts(app) == (1, 0))
        drain(url)
        answer = client.recv(10_000)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"Good day." in answer


def test_what_is_not_complete_in_time_is_told_so_in_its_stream(clients: ExitStack) -> None:
    app = app_of(drain_s=0.2)
    with serving(lambda: app) as url:
        with httpx2.stream("POST", url + PATH, json=LONG | {"stream": True}) as response:
            lines = response.iter_lines()
            next(lines)
            whole = ask(clients, url, LONG)
            for _ in range(RUN):
                last = ask(clients, url, LONG)
            waiting.until(lambda: counts(app) == (RUN, 2))
            drain(url)
            events = [line.removeprefix("data: ") for line in lines if line]
        assert events[-1] == "[DONE]"
        assert json.loads(events[-2])["error"]["code"] == "server_ending"
        # Neither one that is answered as a whole nor one that waits is left without a word.
        for client in (whole, last):
            assert client.recv(10_000).startswith(b"HTTP/1.1 503")
        assert counts(app) == (0, 0)


def test_who_waits_longer_than_an_answer_may_take_is_told_so(clients: ExitStack) -> None:
    app = app_of(deadline_s=0.5)
    with serving(lambda: app) as url:
        for _ in range(RUN):
            ask(clients, url, LONG)
        waiting.until(lambda: counts(app) == (RUN, 0))
        app.state.server.line._lanes["scripted"].running += 100  # nobody gets a place any more
        response = httpx2.post(url + PATH, json=SHORT, timeout=60)
        assert response.status_code == 504
        assert response.json()["error"]["code"] == "deadline_passed"
