"""How long work tells what it is doing, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float | None], None]
"""Called with a short message and the part that is done (0 to 1), or None where that is not known."""


def silent(message: str, fraction: float | None = None) -> None:
    """Tells nobody."""


def under(stage: str, progress: Progress) -> Progress:
    """Tells the same with the stage's name before it."""

    def tell(message: str, fraction: float | None = None) -> None:
        progress(f"{stage}: {message}", fraction)

    return tell
