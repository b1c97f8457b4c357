"""genai_config.json as an engine needs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeship.engine.api import Sampling
from edgeship.engine.text import VERIFY_HINT, read_json
from edgeship.errors import EngineFailed
from edgeship.package.genai_config import FILE_NAME


@dataclass(frozen=True)
class EngineConfig:
    """What a package says of its model.

    context_tokens: what the model was made for. provider: "cpu", or the first execution provider that it asks for.
    decoder: the part of the file that describes the graph's inputs and outputs.
    """

    folder: Path
    context_tokens: int
    vocab_size: int
    end_ids: frozenset[int]
    defaults: Sampling
    provider: str
    decoder: dict[str, Any]


def read_config(folder: Path) -> EngineConfig:
    """The configuration of a package folder. Raises EngineFailed."""
    path = folder / FILE_NAME
    if not path.is_file():
        raise EngineFailed(
            f"this is no package: {FILE_NAME} is missing",
            where=str(folder),
            hint="See what is there with `edgeship cache ls`.",
        )
    config = read_json(path)
    model = config.get("model")
    for key in ("context_length", "vocab_size"):
        value = model.get(key) if isinstance(model, dict) else None
        if not isinstance(value, int) or value < 1:
            raise EngineFailed(f"{FILE_NAME} has no usable model.{key}", where=str(path), hint=VERIFY_HINT)
    assert isinstance(model, dict)
    ends = model.get("eos_token_id", [])
    decoder = model.get("decoder") or {}
    return EngineConfig(
        folder=folder,
        context_tokens=int(model["context_length"]),
        vocab_size=int(model["vocab_size"]),
        end_ids=frozenset(ends if isinstance(ends, list) else [ends]),
        defaults=_defaults(config.get("search", {})),
        provider=_provider(decoder),
        decoder=decoder,
    )


def _provider(decoder: dict[str, Any]) -> str:
    for options in (decoder.get("session_options") or {}).get("provider_options") or []:
        for name in options:
            return str(name).lower().removesuffix("executionprovider")
    return "cpu"


def _defaults(search: dict[str, Any]) -> Sampling:
    """The package's own settings. Its max_length becomes the longest answer: long prompts get one too."""
    return Sampling(
        temperature=search.get("temperature", 1.0) if search.get("do_sample") else 0.0,
        top_p=search.get("top_p") or 1.0,
        top_k=search.get("top_k") or 0,
        min_p=0.0,
        repetition_penalty=search.get("repetition_penalty", 1.0),
        presence_penalty=0.0,
        frequency_penalty=0.0,
        max_tokens=search.get("max_length"),
    )
