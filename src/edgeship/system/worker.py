"""The child's side of `child.py`: the line to its parent, and how it ends."""

from __future__ import annotations

import json
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from edgeship.errors import EdgeshipError
from edgeship.progress import Progress
from edgeship.system import log
from edgeship.system.shortage import ran_out

ENDING_S = 5.0
"""For so long a child may clean up once its parent is gone."""


def serve(work: Callable[[dict[str, Any], Progress], dict[str, Any]]) -> None:
    """The whole life of a child with one job: reads it, does `work`, answers with its result or what it raised."""
    parent = Parent()

    def tell(message: str, fraction: float | None = None) -> None:
        parent.send({"progress": [message, fraction]})

    try:
        answer = {"result": work(parent.job, tell)}
    except BaseException as error:  # the parent is told of anything, also of panics in Rust, which are no Exception
        answer = failure(error)
    parent.send(answer)


class Parent:
    """The line to the parent: its job, what it sends after that, and messages to it. We end when the line does.

    hear: gets each message after the job, from a thread of its own. ending: is called before we end with the line, and
    has `ENDING_S` for what it does.
    """

    def __init__(
        self,
        hear: Callable[[dict[str, Any]], object] = lambda _: None,
        ending: Callable[[], object] = lambda: None,
    ) -> None:
        # Ctrl-C reaches every process of a terminal, and systemd's SIGTERM every process of a service. What they mean
        # is the parent's to decide.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        # Libraries print to stdout too; from here on they print to stderr.
        self._answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._sending = threading.Lock()
        jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._listen, args=(jobs, hear, ending), name="edgeship parent", daemon=True).start()
        first = jobs.get()
        self.job: dict[str, Any] = first["job"]
        log.forward(first["log_level"], lambda record: self.send({"log": record}))

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends a message. A parent that is gone needs none."""
        with self._sending, suppress(OSError):
            self._answers.write(json.dumps(message) + "\n")
            self._answers.flush()

    def _listen(
        self,
        jobs: queue.SimpleQueue[dict[str, Any]],
        hear: Callable[[dict[str, Any]], object],
        ending: Callable[[], object],
    ) -> None:
        lines = _lines()
        for line in lines:
            jobs.put(json.loads(line))
            break
        for line in lines:
            hear(json.loads(line))
        # In a thread of its own: a library that hangs must not keep us alive.
        last = threading.Thread(target=ending, name="edgeship ending", daemon=True)
        try:
            last.start()
            last.join(ENDING_S)
        finally:
            os._exit(1)


def failure(error: BaseException) -> dict[str, Any]:
    """The message that `child.failure_in` reads: an error of ours, or a fault with its traceback."""
    error = ran_out(error) or error
    if isinstance(error, EdgeshipError):
        return {"error": error.to_dict() | {"param": getattr(error, "param", None)}}
    what = f"{type(error).__name__}: {error}"
    return {"fault": {"what": what, "traceback": "".join(traceback.format_exception(error))}}


def _lines() -> Iterator[bytes]:
    # Not through sys.stdin: a thread that waits in its buffer would hold a lock the interpreter needs to end.
    rest = b""
    while block := os.read(0, 65536):
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
