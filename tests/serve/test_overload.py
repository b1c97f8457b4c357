"""More requests than a server takes, and its end while it answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from edgeship.engine.api import Conversation
from edgeship.errors import EngineFailed
from edgeship.serve import ServeOptions
from edgeship.serve.app import over
from edgeship.serve.models import Pool
from edgeship.settings import resolve
from tests import waiting
from tests.scripted import ScriptedEngine
from tests.serve.serving import ANSWERS, card, connected, posted, scripted_app, serving

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
        waiting.until(lambda: app.state.server.ready)
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


class HeldEngine(ScriptedEngine):
    """Makes no step before `go` is set. begun: what it was asked, in order. refused: the answer that it refuses."""

    def __init__(self, refused: int | None = None) -> None:
        super().__init__(ANSWERS)
        self.go, self.begun, self._refused = threading.Event(), list[Any](), refused
        self._step_once = self._decoder.step
        self._decoder.step = self._step_later  # type: ignore[method-assign]

    def _step_later(self, *given: Any, **how: Any) -> Any:
        self.go.wait()
        return self._step_once(*given, **how)

    def converse(self, conversation: Conversation, *given: Any, **how: Any) -> Any:
        """See Chat.converse."""
        self.begun.append(conversation.messages[-1]["content"])
        if len(self.begun) == self._refused:
            raise EngineFailed("the engine is closed")
        return super().converse(conversation, *given, **how)


@contextmanager
def holding(engine: HeldEngine, **options: Any) -> Iterator[tuple[FastAPI, str]]:
    """An application over it, and where that is served; in the end the engine goes on."""
    pool = Pool([card("scripted")], settings=resolve(), open_chat=lambda _: engine)
    app = over(pool, ServeOptions(**options))

    @app.post("/drain")
    async def drain() -> None:
        await app.state.server.drain()

    with serving(lambda: app) as url:
        try:
            yield app, url
        finally:
            engine.go.set()


def asked(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "scripted", "messages": [{"role": "user", "content": text}], "max_tokens": 2} | more


@pytest.mark.parametrize("stream", [False, True])
def test_many_answers_to_one_client_keep_no_other_waiting(clients: ExitStack, *, stream: bool) -> None:
    engine = HeldEngine()
    with holding(engine) as (app, url):
        greedy = ask(clients, url, asked("many", n=16, stream=stream))
        waiting.until(lambda: len(engine.begun) == RUN)
        small = ask(clients, url, asked("small"))
        waiting.until(lambda: counts(app) == (1, 1))
        some = ask(clients, url, asked("some", n=2))
        waiting.until(lambda: counts(app) == (1, 2))
        engine.go.set()
        assert b" 200 " in small.recv(100)
        assert b" 200 " in some.recv(100)
        with greedy.makefile("rb") as answer:
            said = b""
            while said.count(b'"finish_reason":"length"') + said.count(b'"finish_reason": "length"') < 16:
                said += answer.read1()
        assert engine.begun[RUN : RUN + 2] == ["small", "some"]
        assert engine.begun.count("many") == 16
        assert engine.begun.index("some", RUN + 2) < len(engine.begun) - 1
        waiting.until(lambda: counts(app) == (0, 0))


def test_who_goes_leaves_nothing_to_be_begun(clients: ExitStack) -> None:
    engine = HeldEngine()
    with holding(engine) as (app, url):
        ask(clients, url, asked("many", n=16))
        waiting.until(lambda: len(engine.begun) == RUN)
        clients.close()
        waiting.until(lambda: counts(app) == (0, 0))
        engine.go.set()
        assert httpx2.post(url + PATH, json=SHORT).status_code == 200
        assert engine.begun == ["many"] * RUN + ["hello"]
        waiting.until(lambda: app.state.server.line._lanes["scripted"].running == 0)


def test_the_end_cuts_answers_that_are_not_begun(clients: ExitStack) -> None:
    engine = HeldEngine()
    with holding(engine, drain_s=0.0) as (_, url):
        client = ask(clients, url, asked("many", n=16))
        waiting.until(lambda: len(engine.begun) == RUN)
        drain(url)
        assert client.recv(10_000).startswith(b"HTTP/1.1 503")
        assert engine.begun == ["many"] * RUN


def test_what_is_not_begun_in_time_is_told_so() -> None:
    engine = HeldEngine()
    with holding(engine, deadline_s=0.2) as (_, url):
        many = httpx2.post(url + PATH, json=asked("many", n=16), timeout=60)
        assert (many.status_code, many.json()["error"]["code"]) == (504, "deadline_passed")
        assert engine.begun == ["many"] * RUN


@pytest.mark.parametrize("refused", [1, 3])
def test_an_answer_that_is_refused_ends_the_others(refused: int) -> None:
    engine = HeldEngine(refused)
    with holding(engine) as (app, url):
        whole = httpx2.post(url + PATH, json=asked("many", n=16), timeout=60)
        assert (whole.status_code, whole.json()["error"]["code"]) == (502, "engine_failed")
        assert len(engine.begun) == refused
        engine.begun.clear()
        stream = httpx2.post(url + PATH, json=asked("many", n=16, stream=True), timeout=60)
        # What can be told by the status is.
        assert stream.status_code == (502 if refused == 1 else 200)
        assert '"code": "engine_failed"' in stream.text.replace('":"', '": "')
        assert len(engine.begun) == refused
        waiting.until(lambda: app.state.server.line._lanes["scripted"].running == 0)


def test_those_whose_bodies_are_on_their_way_count(clients: ExitStack) -> None:
    with holding(HeldEngine(), most_waiting=2) as (app, url):
        waiting.until(lambda: app.state.server.ready)
        head, body = posted(PATH, SHORT).split(b"\r\n\r\n")
        coming = [clients.enter_context(connected(url)) for _ in range(RUN + 2)]
        for client in coming:
            client.sendall(head + b"\r\n\r\n" + body[:-1])
        waiting.until(lambda: len(app.state.server.line._tickets) == RUN + 2)
        assert httpx2.post(url + PATH, json=SHORT).status_code == 429
        for client in coming:
            client.sendall(body[-1:])
        waiting.until(lambda: counts(app) == (RUN, 2))


def test_whoever_is_told_to_come_back_later_hears_it_whatever_it_sends(clients: ExitStack) -> None:
    with holding(HeldEngine(), most_waiting=0) as (app, url):
        client = clients.enter_context(connected(url))
        large = asked("x" * 3_000_000)
        waiting.until(lambda: app.state.server.ready)
        app.state.server.line.know("scripted", None)  # nobody finds a place
        for _ in range(3):
            client.sendall(posted(PATH, large))
            said = b""
            while not said.endswith(b"}"):
                said += client.recv(10_000)
            assert said.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")


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
