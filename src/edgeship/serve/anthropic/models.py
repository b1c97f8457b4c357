"""The list of models as Anthropic has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from edgeship.errors import RequestInvalid
from edgeship.serve.models import ModelCard

VERSION = "anthropic-version"
"""The header that Anthropic's clients send."""
_MOST, _USUAL = 1000, 20


def listed(cards: Sequence[ModelCard], asked: Mapping[str, str]) -> dict[str, Any]:
    """One page of the models, by each of their names.

    asked: after_id, before_id, limit. Raises RequestInvalid.
    """
    models = [told(card, name) for card in cards for name in card.listed_names]
    names = [model["id"] for model in models]
    first = _place(names, asked, "after_id", -1) + 1
    last = _place(names, asked, "before_id", len(names))
    limit = _limit(asked.get("limit", str(_USUAL)))
    page = models[first:last][-limit:] if "before_id" in asked else models[first:last][:limit]
    return {
        "data": page,
        "has_more": len(page) < last - first,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
    }


def told(card: ModelCard, name: str) -> dict[str, Any]:
    """One model."""
    created = datetime.fromtimestamp(card.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": "model", "id": name, "display_name": name, "created_at": created, "lifecycle": "active"}


def _place(names: Sequence[str], asked: Mapping[str, str], param: str, otherwise: int) -> int:
    if param not in asked:
        return otherwise
    if asked[param] not in names:
        raise RequestInvalid(f"{param} is {asked[param]!r}, and no model is called so", param=param)
    return names.index(asked[param])


def _limit(text: str) -> int:
    if not text.isdecimal() or len(text) > len(str(_MOST)) or not 1 <= int(text) <= _MOST:
        raise RequestInvalid(f"limit is {text!r}; it must be from 1 to {_MOST}", param="limit")
    return int(text)
