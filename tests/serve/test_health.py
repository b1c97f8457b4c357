"""Whether the server lives, and whether it wants requests."""

from __future__ import annotations

import asyncio

import httpx2
import pytest

from edgeship.serve import ServeOptions
from edgeship.serve.server import Server
from tests.serve.serving import pool_of, scripted_app, serving

READY = ("/health", "/health/ready", "/ready")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_server_that_has_started(method: str) -> None:
    with serving(scripted_app) as url:
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
        await server.start()
        assert server.ready
        await server.close()
        assert not server.ready

    asyncio.run(scenario())
