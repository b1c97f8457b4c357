"""genai_config.json: how onnxruntime-genai and Foundry Local are to run a package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FILE_NAME = "genai_config.json"


def tuned(config: Mapping[str, Any], *, threads: int, context_tokens: int) -> dict[str, Any]:
    """What the file holds, for so many threads and a context of prompt and answer together."""
    model = dict(config["model"])
    decoder = dict(model.get("decoder") or {})
    session = dict(decoder.get("session_options") or {})
    decoder["session_options"] = session | {"intra_op_num_threads": threads, "inter_op_num_threads": 1}
    return {**config, "model": model | {"decoder": decoder, "context_length": context_tokens}}


def stated_threads(decoder: Mapping[str, Any]) -> int | None:
    """The threads that the file's part on the decoder names; None where that is left to onnxruntime."""
    threads: int | None = (decoder.get("session_options") or {}).get("intra_op_num_threads")
    return threads
