"""Waiting for what another thread does."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(condition: Callable[[], bool]) -> None:
    """Waits until something is so."""
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "it never came to be so"
        time.sleep(0.001)
