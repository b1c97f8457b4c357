"""`/v1/models`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from edgeship.serve.models import ModelCard
from edgeship.serve.server import server_of

router = APIRouter()


@router.get("/v1/models")
async def list_models(request: Request) -> dict[str, Any]:
    """Every model, by each of its names."""
    cards = server_of(request).pool.cards()
    return {"object": "list", "data": [_told(card, name) for card in cards for name in (card.id, *card.aliases)]}


@router.get("/v1/models/{name:path}")
async def retrieve_model(name: str, request: Request) -> dict[str, Any]:
    """One model."""
    return _told(server_of(request).pool.find(name), name)


def _told(card: ModelCard, name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": card.created, "owned_by": "edgeship"}
