"""Requests as evidence keeps them, so that they can be asked again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from edgeship.engine.api import Constraint, Conversation, Sampling

_SHOWN = 2000


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
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text):,} characters)"
