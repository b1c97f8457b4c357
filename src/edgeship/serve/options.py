"""How a server serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgeship.engine.api import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from edgeship.serve.tracing import TracerProvider

MOST_BODY_BYTES = 4 << 20
"""Of a request. A prompt that fills a context of 128 k tokens has a tenth of it."""


@dataclass(frozen=True)
class ServeOptions:
    """What a server lets in, and how much it takes.

    aliases: other names of models, as ALIAS=NAME. cache_dir: where packages lie; None takes the settings'.
    limits: of each model's engine. memory_bytes: of all models together; None takes what the machine has free.
    threads: cores that an engine may use; None takes the settings'.
    idle_timeout_s: a model that nobody has asked for so long is unloaded; None keeps it.
    most_body_bytes: a longer request is refused. body_s: one that has not come within so many seconds is given up.
    most_waiting: requests that may wait for their answers to begin; more are told at once to come back later.
    deadline_s: an answer that takes longer is cut; None sets no limit. drain_s: how long running answers may go on when
    the server is told to end.
    stored_responses, stored_bytes, stored_s: how many responses of /v1/responses are kept in memory to be asked for
    again, the bytes that they take together, and for how long.
    api_key_file: the keys of those who may ask, see `serve/key_file.py`; None asks for none.
    host: the address that the server listens at, by which it may be called. allowed_hosts: other names for it, "*" for
    any. Where keys are asked for and no names are given, it goes by any.
    cors_origins: web pages, by SCHEME://HOST[:PORT], that may ask; "*" for all.
    tracer_provider: OpenTelemetry's, which makes a span for each request; None makes none.
    log_prompts: requests are logged with all that is in them.
    """

    aliases: Sequence[str] = ()
    cache_dir: Path | None = None
    limits: Limits = DEFAULT_LIMITS
    memory_bytes: int | None = None
    threads: int | None = None
    idle_timeout_s: float | None = None
    most_body_bytes: int = MOST_BODY_BYTES
    body_s: float = 30.0
    most_waiting: int = 256
    deadline_s: float | None = None
    drain_s: float = 30.0
    stored_responses: int = 1024
    stored_bytes: int = 64 << 20
    stored_s: float = 86_400.0
    api_key_file: Path | None = None
    host: str = "127.0.0.1"
    allowed_hosts: Sequence[str] = ()
    cors_origins: Sequence[str] = ()
    metrics_names: Literal["edgeship", "vllm"] = "edgeship"
    tracer_provider: TracerProvider | None = None
    log_prompts: bool = False
