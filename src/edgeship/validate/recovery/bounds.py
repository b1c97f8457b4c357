"""What recovery is held to."""

from __future__ import annotations

from dataclasses import dataclass

from edgeship.validate.bounds import Bounds, bound


@dataclass(frozen=True)
class RecoveryBounds(Bounds):
    """How long it may take until what was held is free, and until what was ended is back."""

    max_freeing_s: float = bound(
        10.0,
        "How long an answer may hold its slot after it was cancelled: to stop takes a step, which is a second where a "
        "long prompt is read on a slow machine, and a busy one may take ten times that.",
        least=0.1,
    )
    max_freeing_share: float = bound(
        0.5,
        "The same as a part of the time that such an answer takes where nobody cancels it: a small model would be done "
        "within max_freeing_s, whether or not it noticed that it was cancelled.",
        least=0.01,
        most=1.0,
    )
    max_slowdown_ratio: float = bound(
        4.0,
        "How many times as long as before a few short answers may take afterwards, and max_freeing_s more: a busy "
        "machine may be half as fast as it was a moment ago, and half of that again.",
        least=1.0,
    )
    max_restart_s: float = bound(
        120.0,
        "How long a model whose process was killed may take until it answers again: a large one takes a minute to "
        "load, and a busy machine twice that.",
        least=0.1,
    )
