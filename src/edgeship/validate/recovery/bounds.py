"""What recovery is held to."""

from __future__ import annotations

from dataclasses import dataclass

from edgeship.validate.bounds import Bounds, bound


@dataclass(frozen=True)
class RecoveryBounds(Bounds):
    """How long it may take until what was held is free, and until what was ended is back."""

    max_freeing_s: float = bound(
        10.0,
        "An answer that nobody wants any more has left its slot after so long: it takes a step, which is a second "
        "where a long prompt is read on a slow machine, and a busy one may take ten times that.",
        least=0.1,
    )
    max_freeing_share: float = bound(
        0.5,
        "And after so large a part of the time that the same answers take to their end: a small model would be done "
        "within max_freeing_s, whether or not it noticed that nobody wants its answers any more.",
        least=0.01,
        most=1.0,
    )
    max_slowdown_ratio: float = bound(
        4.0,
        "Afterwards as many answers as before take at most so many times as long, besides max_freeing_s: a busy "
        "machine may be half as fast as it was a moment ago, and half of that again.",
        least=1.0,
    )
    max_restart_s: float = bound(
        120.0,
        "A model whose process was killed answers again after so long: a large one takes a minute to load, and a busy "
        "machine twice that.",
        least=0.1,
    )
