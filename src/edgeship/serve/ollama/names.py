"""Models by the names that Ollama's clients give them: each has a tag, and no tag means the latest."""

from __future__ import annotations

from edgeship.errors import ModelUnknown
from edgeship.serve.models import ModelCard, Pool

_LATEST = ":latest"


def tagged(name: str) -> str:
    """A model's name as it is listed. Clients that know only such names put the tag there themselves."""
    return name if ":" in name else name + _LATEST


def found(pool: Pool, name: str) -> ModelCard:
    """The model of that name, with or without its tag. Raises ModelUnknown."""
    try:
        return pool.find(name)
    except ModelUnknown:
        if name.endswith(_LATEST):
            return pool.find(name.removesuffix(_LATEST))
        raise
