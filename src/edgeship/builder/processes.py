"""The data file shared among processes: numpy's loops hold the interpreter too often for threads to gain anything."""

from __future__ import annotations

import threading
import time
from typing import Any

from edgeship.errors import BuilderFailed
from edgeship.progress import Progress
from edgeship.system import child

WORKER = "edgeship.builder.stream_worker"
ONE_NUMPY_THREAD = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "VECLIB_MAXIMUM_THREADS": "1"}
"""Variables for a process whose results must not depend on the number of cores, and that has others at its side."""


class Helpers:
    """Processes that write all shares but the first; they end when this process does."""

    def __init__(self, job: dict[str, Any], count: int, meter: Meter) -> None:
        self.count, self._meter = count, meter
        self._peaks, self._failures = [0], list[BaseException]()
        self._threads = [
            threading.Thread(target=self._run, args=({**job, "step": "share", "share": [index, count]},), daemon=True)
            for index in range(1, count)
        ]
        for thread in self._threads:
            thread.start()

    def tell(self, written: int) -> None:
        """What the first share has written. Raises what another share failed with."""
        self._raise()
        self._meter.tell(0, written / self._meter.total_bytes)

    def join(self) -> int:
        """Waits for the others; the sum of their peak memory in bytes. Raises what one failed with."""
        for thread in self._threads:
            thread.join()
        self._raise()
        return sum(self._peaks)

    def _run(self, job: dict[str, Any]) -> None:
        def tell(_: str, fraction: float | None = None) -> None:
            self._meter.tell(job["share"][0], fraction or 0.0)

        try:
            result = child.run(WORKER, job, progress=tell, environment=ONE_NUMPY_THREAD)
            self._peaks.append(int(result["peak_memory_bytes"]))
        except child.Died as death:
            self._failures.append(death.as_error(BuilderFailed, "a process of the conversion", where=job["checkpoint"]))
        except BaseException as failure:
            self._failures.append(failure)

    def _raise(self) -> None:
        if self._failures:
            raise self._failures[0]


KNOWN_FROM = 0.1
"""Of the file: before so much is written the speed so far says nothing of the time left."""


class Meter:
    """Tells the bytes that all shares have written, and the time left by the speed so far."""

    def __init__(self, total_bytes: int, progress: Progress) -> None:
        self.total_bytes, self._progress = total_bytes, progress
        self._fractions: dict[int, float] = {}
        self._before: float | None = None
        self._started = self._told = time.monotonic()

    def note(self, message: str) -> None:
        """Something else that is being done, while what is written stays as it is."""
        self._progress(message, sum(self._fractions.values()))

    def tell(self, share: int, fraction: float) -> None:
        """What part of the file a share has written."""
        self._fractions[share] = fraction
        done, now = sum(self._fractions.values()), time.monotonic()
        if self._before is None:
            self._before = done  # what an earlier run wrote took no time now
        if now - self._told < 0.2 or done <= self._before:
            return
        self._told = now
        total_mb = self.total_bytes / 1e6
        written = f"convert: {done * total_mb:.0f} of {total_mb:.0f} MB"
        # What is calibrated before the first piece would make its share of the time look far too large.
        if done - self._before >= KNOWN_FROM:
            left_s = (now - self._started) / (done - self._before) * (1 - done)
            written += f", {left_s:.0f} s left"
        self._progress(written, done)
