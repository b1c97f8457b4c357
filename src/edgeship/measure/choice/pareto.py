"""What no other beats, in several measures at once."""

from __future__ import annotations

from collections.abc import Sequence


def pareto(points: Sequence[Sequence[float]]) -> list[int]:
    """Which of the points no other beats: as good in every measure and better in one. Smaller is better."""
    return [
        index
        for index, point in enumerate(points)
        if not any(
            all(one <= mine for one, mine in zip(other, point, strict=True))
            and any(one < mine for one, mine in zip(other, point, strict=True))
            for other in points
        )
    ]
