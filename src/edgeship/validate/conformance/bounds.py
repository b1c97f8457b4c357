"""What conformance is held to."""

from __future__ import annotations

from dataclasses import dataclass

from edgeship.validate.bounds import Bounds, bound
from edgeship.validate.over_http import END_S


@dataclass(frozen=True)
class ConformanceBounds(Bounds):
    """Waits alone: an answer has the form of its API or has not."""

    max_silence_s: float = bound(
        120.0,
        "How long a server may send nothing: twice the minute that a slow one takes to load its model.",
        least=1,
    )
    max_close_s: float = bound(
        END_S,
        "How long a stream may stay open after its last event: clients wait for its end before they ask again. Once "
        "one is late, the others are waited for a second at most.",
        least=0.1,
    )
    max_answer_tokens: int = bound(
        16,
        "How many tokens the answers may have that are compared: enough to be truncated, stopped and streamed.",
        least=4,
    )
