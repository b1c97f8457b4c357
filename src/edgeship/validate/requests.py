"""Requests as evidence keeps them, so that they can be asked again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from edgeship.engine.api import Constraint, Conversation, Sampling

MOST_KEPT = 5
"""So many requests are kept of those that speak against a target in one finding; its figure counts them all."""
MOST_CHARACTERS = 2000
"""So much is kept of an answer."""


def asked(conversation: Conversation, sampling: Sampling) -> dict[str, Any]:
    """A conversation and how it was to be answered, as JSON; settings at their defaults are left out."""
    said = {name: value for name, value in asdict(conversation).items() if value}
    settings = {
        known.name: asdict(value) if isinstance(value, Constraint) else value
        for known in fields(Sampling)
        if (value := getattr(sampling, known.name)) != known.default
    }
    return {"kind": "chat", "conversation": said, "sampling": settings}


def ask_again(request: Mapping[str, Any]) -> tuple[Conversation, Sampling]:
    """What `asked` wrote."""
    settings = dict(request["sampling"])
    if "constraint" in settings:
        settings["constraint"] = Constraint(**settings["constraint"])
    if "stop" in settings:
        settings["stop"] = tuple(settings["stop"])
    return Conversation(**request["conversation"]), Sampling(**settings)


def shortened(text: str) -> str:
    """A text as evidence quotes it."""
    if len(text) <= MOST_CHARACTERS:
        return text
    return f"{text[:MOST_CHARACTERS]}... ({len(text):,} characters)"
