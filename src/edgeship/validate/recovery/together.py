"""Work done at the same time by threads that nobody has to wait for: what is looked at may hang."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from edgeship.system import border

Some = TypeVar("Some")


def together(works: Sequence[Callable[[], Some]], within_s: float) -> tuple[list[Some | Exception], float]:
    """What each of them gives or raises, in the order in which they end, and the seconds until the last of them has.

    Those that have not ended within so long are left out.
    """
    done: queue.SimpleQueue[Some | Exception] = queue.SimpleQueue()
    begun = time.monotonic()
    for work in works:
        threading.Thread(target=_run, args=(work, done), name="edgeship validate", daemon=True).start()
    found: list[Some | Exception] = []
    try:
        while len(found) < len(works):
            found.append(border.take(done, begun + within_s))
    except border.TookTooLong:
        pass
    return found, time.monotonic() - begun


def _run(work: Callable[[], Some], done: queue.SimpleQueue[Some | Exception]) -> None:
    try:
        done.put(work())
    except Exception as error:  # whatever it is: it is told
        done.put(error)
