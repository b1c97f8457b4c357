"""The list of models as Anthropic has it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from edgeship.errors import RequestInvalid
from edgeship.serve.models import ModelCard

VERSION = "anthropic-version"
"""The header that Anthropic's clients send."""
MOST = 1000
"""Models in one page."""
_USUAL = 20


def listed(
    cards: Sequence[ModelCard], *, after_id: str | None = None, before_id: str | None = None, limit: int | None = None
) -> dict[str, Any]:
    """One page of the models, by each of their names. Raises RequestInvalid for ids of none."""
    named = [(card, name) for card in cards for name in card.listed_names]
    names = [name for _, name in named]
    first = 0 if after_id is None else _place(names, after_id, "after_id") + 1
    last = len(names) if before_id is None else _place(names, before_id, "before_id")
    limit = _USUAL if limit is None else limit
    page = named[first:last][:limit] if before_id is None else named[first:last][-limit:]
    return {
        "data": [told(card, name) for card, name in page],
        "has_more": len(page) < last - first,
        "first_id": page[0][1] if page else None,
        "last_id": page[-1][1] if page else None,
    }


def told(card: ModelCard, name: str) -> dict[str, Any]:
    """One model; gate, which Anthropic does not have, is as `edgeship cache ls` shows it."""
    created = datetime.fromtimestamp(card.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": created,
        "lifecycle": "active",
        "gate": card.gate,
    }


def _place(names: Sequence[str], name: str, param: str) -> int:
    if name not in names:
        raise RequestInvalid(f"{param} is {name!r}, and no model is called so", param=param)
    return names.index(name)
