"""Whether the server lives, and whether it wants requests."""

from __future__ import annotations

import asyncio
import threading

import httpx2
import pytest

from edgeship.engine.api import Chat
from edgeship.errors import EngineFailed
from edgeship.serve import ServeOptions, app
from edgeship.serve.models import ModelCard, Pool
from edgeship.serve.server import Server
from edgeship.settings import resolve
from tests import waiting
from tests.scripted import ScriptedEngine
from tests.serve.serving import card, pool_of, scripted_app, serving

READY = ("/health", "/health/ready", "/ready")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_server_that_has_started(method: str) -> None:
    with serving(scripted_app) as url:
        waiting.until(lambda: httpx2.get(f"{url}/ready").status_code == 200)
        assert {httpx2.request(method, url + path).status_code for path in ("/health/live", *READY)} == {200}


def test_a_server_that_is_to_end_lives_and_wants_no_requests() -> None:
    app = scripted_app()
    with serving(lambda: app) as url:
        app.state.server.line.ending = True
        assert httpx2.get(f"{url}/health/live").status_code == 200
        for path in READY:
            response = httpx2.get(url + path)
            assert response.status_code == 503
            assert response.headers["retry-after"]
        refused = httpx2.post(f"{url}/v1/chat/completions", json={})
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert refused.json()["error"]["code"] == "server_ending"


def test_it_is_ready_once_its_models_are() -> None:
    async def scenario() -> None:
        server = Server(pool_of({}), ServeOptions())
        assert not server.ready
        loading = server.load()
        assert not server.ready
        await loading
        assert server.ready
        await server.close()
        assert not server.ready

    asyncio.run(scenario())


def test_while_a_model_is_loaded_it_lives_and_is_not_ready() -> None:
    go_on = threading.Event()

    def open_chat(_: ModelCard) -> Chat:
        go_on.wait(60)
        return ScriptedEngine({})

    pool = Pool([card("slow")], settings=resolve(), open_chat=open_chat)
    with serving(lambda: app.over(pool, ServeOptions())) as url:
        assert httpx2.get(f"{url}/health/live").status_code == 200
        assert httpx2.get(f"{url}/health/ready").status_code == 503
        go_on.set()
        waiting.until(lambda: httpx2.get(f"{url}/health/ready").status_code == 200)


def test_a_model_that_cannot_be_loaded_leaves_it_unready(caplog: pytest.LogCaptureFixture) -> None:
    pool = Pool([card("broken")], settings=resolve(), open_chat=broken)
    with serving(lambda: app.over(pool, ServeOptions())) as url:
        waiting.until(lambda: "cannot be loaded: it is broken" in caplog.text)
        assert httpx2.get(f"{url}/health/live").status_code == 200
        assert httpx2.get(f"{url}/health/ready").status_code == 503


def broken(_: ModelCard) -> Chat:
    raise EngineFailed("it is broken")
