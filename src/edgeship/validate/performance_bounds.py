"""What speed and memory are held to."""

from __future__ import annotations

from dataclasses import dataclass

from edgeship.validate.bounds import Bounds, bound

_NO_BUDGET = "0, the default, sets no budget: one is right for one kind of machine."


@dataclass(frozen=True)
class PerformanceBounds(Bounds):
    """What the figures are held to."""

    max_ttft_ratio: float = bound(
        1.25, "The time to the first token, against the baseline's. Less than a quarter nobody notices.", least=0.01
    )
    max_tpot_ratio: float = bound(
        1.15,
        "The time for each further token, against the baseline's. Turns show a tenth on a quiet machine; the rest is "
        "room for a busy one.",
        least=0.01,
    )
    max_memory_ratio: float = bound(
        1.1,
        "Memory after loading and at its peak, against the baseline's. A tenth is beyond what allocators vary by.",
        least=0.01,
    )
    max_load_ratio: float = bound(
        1.5, "The time to load, against the baseline's. What lies in the system's file cache makes it vary.", least=0.01
    )
    max_unanswered_share: float = bound(
        0.0, "No larger part of the questions surely stays unanswered: what does not answer has no speed.", most=1.0
    )
    max_ttft_ms: float = bound(0.0, f"The time to the first token of a question of 64 tokens. {_NO_BUDGET}")
    min_tokens_per_s: float = bound(0.0, f"How fast an answer is written, after its first token. {_NO_BUDGET}")
    max_memory_bytes: float = bound(0.0, f"Memory at its peak, while one answer is made. {_NO_BUDGET}")
    max_load_s: float = bound(0.0, f"The time to load. {_NO_BUDGET}")
