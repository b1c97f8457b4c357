"""What the page shows of a model: how its package was made, how it measured, and how it answers by itself."""

from __future__ import annotations

from typing import Any

from edgeship.engine.sampling import defaults_of
from edgeship.errors import EdgeshipError
from edgeship.measure.measurement import figures
from edgeship.package import DAMAGED, genai_config, template, tokenizer
from edgeship.serve import thoughts
from edgeship.serve.models import ModelCard
from edgeship.store import listing
from edgeship.store.listing import Entry


def told(card: ModelCard) -> dict[str, Any]:
    """The facts as plain values, and no path among them. What is not known is None.

    package: by its manifest; None for what has none. record: what the store keeps of it.
    defaults: how it answers where nothing else is asked for. thinking: what its chat template has to steer that.
    """
    entry = listing.at(card.folder) if card.folder else None
    return {
        "id": card.id,
        "aliases": card.aliases,
        "kind": card.target.kind,
        "package": entry and _package(entry),
        "record": entry and _record(entry),
        "defaults": entry and _defaults(entry),
        "thinking": entry and _thinking(entry),
    }


def _package(entry: Entry) -> dict[str, Any] | None:
    if entry.package is None:
        return None
    return {
        "ref": entry.ref,
        "digest": entry.package.digest,
        "size_bytes": entry.size_bytes,
        "manifest": entry.package.manifest.model_dump(mode="json"),
    }


def _record(entry: Entry) -> dict[str, Any] | None:
    if entry.record is None:
        return None
    return {
        "installed": entry.record.installed,
        "figures": figures(entry.record.measurements or {}),
        "measurements": entry.record.measurements,
        "verdict": entry.record.verdict,
        "gate": entry.gate,
        "note": entry.note,
    }


def _defaults(entry: Entry) -> dict[str, Any] | None:
    try:
        config = genai_config.read(entry.folder, DAMAGED)
    except EdgeshipError:
        return None
    sampling = defaults_of(config.search)
    names = (
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "repetition_penalty",
        "presence_penalty",
        "frequency_penalty",
    )
    return {"context_tokens": config.context_tokens} | {name: getattr(sampling, name) for name in names}


def _thinking(entry: Entry) -> dict[str, Any] | None:
    """switch: the variable that lets the model think. levels: whether it can be told how much."""
    try:
        found = template.find(entry.folder, tokenizer.read(entry.folder, DAMAGED).config, hint=DAMAGED.hint)
        levels = found is not None and thoughts.EFFORT in template.asks_for(found)
        return {"switch": thoughts.switch_of(found), "levels": levels}
    except EdgeshipError:
        return None
