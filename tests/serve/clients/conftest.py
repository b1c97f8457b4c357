"""A server for clients that people use, which may ask nobody else."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.serve.serving import scripted_app, serving


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Where OpenAI's API is served, by a model that can call tools."""
    with serving(scripted_app) as url:
        yield f"{url}/v1"


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Clients neither report nor fetch anything: they reach this machine only."""
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    monkeypatch.setenv("LANGSMITH_TRACING", "false")
    connect, strangers = socket.socket.connect, []

    def connect_here(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            strangers.append(address)
            raise ConnectionRefusedError(f"a client asked {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here)
    yield
    assert not strangers
