"""What Ollama's API tells of models, and what of it needs another way here."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Request
from pydantic import AliasChoices, Field
from starlette.responses import Response

from edgeship.errors import NotSupported
from edgeship.serve.fields import Fields
from edgeship.serve.models import Loaded, ModelCard
from edgeship.serve.ollama import details
from edgeship.serve.ollama.names import found, tagged
from edgeship.serve.server import server_of
from edgeship.version import __version__

router = APIRouter()
refused = APIRouter(include_in_schema=False)

API_VERSION = "0.12.11"
"""The version of Ollama whose API this is: clients look whether it has what they need."""
_FOR_EVER = "2999-12-31T00:00:00Z"
"""When a model expires that stays until others need its room."""


class ShowRequest(Fields):
    """Which model. verbose: there is no more to tell."""

    unread: ClassVar[tuple[str, ...]] = ("system", "template", "options", "name", "model")

    model: Annotated[str, Field(min_length=1, validation_alias=AliasChoices("model", "name"))]
    verbose: bool = False


@router.head("/", include_in_schema=False)
async def running() -> Response:
    """Whether a server is there."""
    return Response()


@router.get("/api/version")
async def version() -> dict[str, str]:
    """The API's version, and Edgeship's own."""
    return {"version": API_VERSION, "edgeship": __version__}


@router.get("/api/tags")
async def tags(request: Request) -> dict[str, Any]:
    """Every model, by each of its names."""
    cards = server_of(request).pool.cards()
    return {"models": await asyncio.to_thread(lambda: [entry for card in cards for entry in _entries(card)])}


@router.get("/api/ps")
async def loaded(request: Request) -> dict[str, Any]:
    """The models that are open."""
    models = server_of(request).pool.loaded()
    return {"models": await asyncio.to_thread(lambda: [_running(model) for model in models])}


@router.post("/api/show")
async def show(body: ShowRequest, request: Request) -> dict[str, Any]:
    """All that is told of one model."""
    server = server_of(request)
    card = found(server.pool, body.model)
    told = await asyncio.to_thread(details.shown, card, server.pool.context_tokens(card))
    gate = await asyncio.to_thread(lambda: card.gate)
    return told | {"modelfile": f"FROM {card.id}\n", "modified_at": _time(card.created), "gate": gate}


@refused.post("/api/embed")
@refused.post("/api/embeddings")
async def embed() -> None:
    """Raises NotSupported."""
    raise NotSupported("no model here makes embeddings", hint="Ask a server that has an embedding model.")


@refused.post("/api/pull")
@refused.post("/api/push")
@refused.post("/api/create")
@refused.post("/api/copy")
@refused.delete("/api/delete")
@refused.post("/api/blobs/{digest}")
@refused.head("/api/blobs/{digest}")
async def manage() -> None:
    """Raises NotSupported."""
    raise NotSupported(
        "models are not brought, made or removed over the network",
        hint="Whoever runs the server does that on its machine: docs/serve-ollama.md says how.",
    )


def _entries(card: ModelCard) -> list[dict[str, Any]]:
    """gate, which Ollama does not have, is as `edgeship cache ls` shows it."""
    about, gate = details.of(card), card.gate
    return [
        _named(name)
        | {
            "modified_at": _time(card.created),
            "size": card.size_bytes or 0,
            "digest": about.digest,
            "details": about.told(),
            "gate": gate,
        }
        for name in card.listed_names
    ]


def _running(model: Loaded) -> dict[str, Any]:
    about = details.of(model.card)
    return _named(model.card.id) | {
        "size": model.memory_bytes,
        "size_vram": 0,
        "digest": about.digest,
        "details": about.told(),
        "expires_at": _FOR_EVER if model.expires_at is None else _time(model.expires_at),
        "context_length": model.chat.context_tokens or 0,
        "gate": model.card.gate,
    }


def _named(name: str) -> dict[str, str]:
    return {"name": tagged(name), "model": tagged(name)}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
