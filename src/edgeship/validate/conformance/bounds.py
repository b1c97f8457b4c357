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
        "A server may say nothing for so long: a minute is what a slow one takes to load its model, twice.",
        least=1,
    )
    max_close_s: float = bound(
        END_S,
        "A stream is closed so long after its last event: clients wait for that before they ask again. Once one is "
        "not, the others are waited for a second at most.",
        least=0.1,
    )
    max_answer_tokens: int = bound(
        16, "Answers that are compared have so many tokens at most: enough to be cut, stopped and streamed.", least=4
    )
