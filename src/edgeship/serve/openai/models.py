"""`/v1/models`, which is Anthropic's list too for those who send its header; and the kind of model that none is."""

from __future__ import annotations

import asyncio
import functools
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from edgeship.errors import NotSupported, RequestInvalid
from edgeship.serve.anthropic import models as anthropic
from edgeship.serve.models import ModelCard, Pool
from edgeship.serve.server import server_of

router = APIRouter()


@router.get("/v1/models")
async def list_models(
    request: Request,
    after_id: str | None = None,
    before_id: str | None = None,
    limit: Annotated[int | None, Query(ge=1, le=anthropic.MOST)] = None,
) -> dict[str, Any]:
    """Every model, by each of its names. `root` is the same for all of one model, as at vLLM.

    after_id, before_id, limit: of Anthropic's list, which comes in pages.
    """
    pool = server_of(request).pool
    cards = pool.cards()
    if anthropic.VERSION in request.headers:
        page = functools.partial(anthropic.listed, cards, after_id=after_id, before_id=before_id, limit=limit)
        return await asyncio.to_thread(page)
    for name, given in {"after_id": after_id, "before_id": before_id, "limit": limit}.items():
        if given is not None:
            raise RequestInvalid(
                f"{name} is not supported here", param=name, hint=f"It goes with the header {anthropic.VERSION}."
            )
    data = await asyncio.to_thread(lambda: [_told(pool, card, name) for card in cards for name in card.listed_names])
    return {"object": "list", "data": data}


@router.get("/v1/models/{name:path}")
async def retrieve_model(name: str, request: Request) -> dict[str, Any]:
    """One model."""
    pool = server_of(request).pool
    card = pool.find(name)
    if anthropic.VERSION in request.headers:
        return await asyncio.to_thread(anthropic.told, card, name)
    return await asyncio.to_thread(_told, pool, card, name)


def _told(pool: Pool, card: ModelCard, name: str) -> dict[str, Any]:
    """As OpenAI tells it; max_model_len is vLLM's, which clients look for; gate is as `edgeship cache ls` shows it."""
    return {
        "id": name,
        "object": "model",
        "created": card.created,
        "owned_by": "edgeship",
        "root": card.id,
        "max_model_len": pool.context_tokens(card),
        "gate": card.gate,
    }


@router.post("/v1/embeddings", include_in_schema=False)
async def embed() -> None:
    """Packages answer; they make no vectors."""
    raise NotSupported("no model here makes embeddings", hint="Ask a server that has an embedding model.")
