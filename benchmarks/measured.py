"""A command in a process of its own: how long it took, and the most memory that it and its children held at once.

Memory is looked at every 20 ms: the resident sizes of the whole process tree are added up. A single process's peak is
also kept by the system (VmHWM, Linux), so what happened between two looks counts there. Resident memory includes pages
of files that a process has mapped and touched.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

LOOK_S = 0.02
_LOOKS_PER_SEARCH = 10  # finding the children reads every process of the machine, which costs more than a look


@dataclass(frozen=True)
class Cost:
    """What a command took.

    peak_bytes: the larger of the tree's highest sum and the highest peak of any one process.
    output: what it printed, both streams together.
    """

    wall_s: float
    peak_bytes: int
    output: str


class CommandFailed(Exception):
    """A command that ended with another status than 0; the message is the last it printed."""


def measure(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Cost:
    """Runs `command` to its end, with `environment` on top of ours. Raises CommandFailed."""
    if sys.platform != "win32":
        os.sync()  # what an earlier command left to be written should not slow this one
    with tempfile.TemporaryFile() as printed:
        started = time.perf_counter()
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            env=os.environ | dict(environment or {}),
        )
        watch = _Watch(process.pid)
        try:
            status = process.wait()
            wall_s = time.perf_counter() - started
        finally:
            process.kill()
            process.wait()
            peak_bytes = watch.end()
        printed.seek(0)
        output = printed.read().decode("utf-8", "replace")
    if status:
        raise CommandFailed(f"{Path(command[0]).name} ended with status {status}: {output.strip()[-600:]}")
    return Cost(wall_s, peak_bytes, output)


def attempt(name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The figures, or "error" and what went wrong: a long run should not end with the first that fails."""
    try:
        figures = make()
    except Exception as error:
        figures = {"error": f"{type(error).__name__}: {error}"[-600:]}
    print(f"{name}: {figures}", file=sys.stderr, flush=True)
    return figures


class _Watch:
    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._peak_bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)
        self._thread.start()

    def end(self) -> int:
        self._ended.set()
        self._thread.join()
        return self._peak_bytes

    def _look_on(self) -> None:
        tree = [self._root]
        look = 0
        while not self._ended.wait(LOOK_S):
            if look % _LOOKS_PER_SEARCH == 0:
                with contextlib.suppress(psutil.Error):
                    tree = [self._root, *self._root.children(recursive=True)]
            look += 1
            held = [_held_bytes(process) for process in tree]
            self._peak_bytes = max(self._peak_bytes, sum(now for now, _ in held), *(peak for _, peak in held))


def _held_bytes(process: psutil.Process) -> tuple[int, int]:
    """Resident now, and at its peak as the system knows it; zeros for a process that is gone."""
    try:
        now = int(process.memory_info().rss)
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    except psutil.Error:
        return 0, 0
    except OSError:
        return now, now
    peak = next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), now)
    return now, peak
