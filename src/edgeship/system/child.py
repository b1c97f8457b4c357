"""Work in a process of its own: its memory comes back, its peak is its own, and it ends when we do.

The job goes in as one line of JSON on stdin, which stays open: when it closes, the parent is gone, however it went, and
the child ends. JSON lines come back on stdout: progress, then a result or an error. Whatever libraries print goes to
stderr, where the parent listens.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import IO, Any

from edgeship.errors import EdgeshipError, all_errors
from edgeship.progress import Progress, silent
from edgeship.system import telemetry

_KEPT_LINES = 40
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUNBUFFERED": "1",
    "PYTHONUTF8": "1",
    # A module in the user's working directory must not stand in for one of ours.
    "PYTHONSAFEPATH": "1",
}


class Died(Exception):
    """A child that ended without a result.

    status: as subprocess gives it, negative for a signal. lines: the last that it printed.
    """

    def __init__(self, status: int, lines: list[str]) -> None:
        super().__init__(f"status {status}: {lines[-1] if lines else 'it said nothing'}")
        self.status = status
        self.lines = lines

    @property
    def how(self) -> str:
        """What happened, to go on after "the process"."""
        if self.killed:
            return "was killed, most likely by the system for want of memory"
        return f"was ended by signal {-self.status}" if self.status < 0 else f"ended with status {self.status}"

    @property
    def killed(self) -> bool:
        """True where it was killed outright, as a system short of memory does."""
        return self.status == -9

    @property
    def last(self) -> str:
        """The last line that it printed."""
        return self.lines[-1] if self.lines else "it said nothing"


# --- the parent's side -----------------------------------------------------------------------------------------------


def run(
    module: str,
    job: Mapping[str, Any],
    *,
    progress: Progress = silent,
    heard: Callable[[str], object] = lambda _: None,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The result of `module`'s work on `job`. `heard` gets every line that the child prints, from another thread.

    environment: variables that the child has besides ours.

    Raises the error of ours that the child ended with, and Died.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment_with(environment or {}),
    )
    assert child.stdin
    assert child.stdout
    assert child.stderr
    lines: deque[str] = deque(maxlen=_KEPT_LINES)
    # Both pipes are drained at the same time, or a child that fills one would wait for ever.
    listener = threading.Thread(target=_listen, args=(child.stderr, lines, heard), daemon=True)
    listener.start()
    try:
        _send_job(child.stdin, job)
        answer = _converse(child.stdout, progress)
        # Closing stdin ends a child that has answered, and one that was abandoned by an interrupt.
        _close(child.stdin)
        if answer is None:
            status = child.wait()
            listener.join()
            raise Died(status, list(lines))
    finally:
        child.kill()
        child.wait()
        listener.join(timeout=10)
        for stream in (child.stdin, child.stdout, child.stderr):
            _close(stream)
    if "error" in answer:
        raise revive(answer["error"])
    result: dict[str, Any] = answer["result"]
    return result


def environment_with(ours: Mapping[str, str]) -> dict[str, str]:
    """What a child finds in its environment."""
    return {**os.environ, **telemetry.OFF, **_ENVIRONMENT, **ours}


def _converse(stream: IO[bytes], progress: Progress) -> dict[str, Any] | None:
    """The child's answer; None where it said no more."""
    for line in stream:
        message: dict[str, Any] = json.loads(line)
        if "progress" not in message:
            return message
        progress(*message["progress"])
    return None


def _listen(stream: IO[bytes], lines: deque[str], heard: Callable[[str], object]) -> None:
    """Lines as they come. A progress bar's carriage returns end lines too, so that they do not pile up."""
    for raw in stream:
        for line in raw.decode("utf-8", "replace").replace("\r", "\n").split("\n"):
            if line.strip():
                lines.append(line.strip())
                heard(line.strip())


def _send_job(stream: IO[bytes], job: Mapping[str, Any]) -> None:
    # A child that is gone already says why by its exit status and its last lines.
    with contextlib.suppress(OSError):
        stream.write(json.dumps(job).encode() + b"\n")
        stream.flush()


def _close(stream: IO[bytes]) -> None:
    with contextlib.suppress(OSError):  # bytes that a dead child never read
        stream.close()


def revive(error: Mapping[str, Any]) -> EdgeshipError:
    """An error of ours from its `to_dict`."""
    kind = {known.code: known for known in all_errors()}.get(error["code"], EdgeshipError)
    return kind(error["what"], where=error["where"], hint=error["hint"])


# --- the child's side ------------------------------------------------------------------------------------------------


def serve(work: Callable[[dict[str, Any], Progress], dict[str, Any]]) -> None:
    """The child's whole life: reads the job, does `work`, answers. Errors of ours are answers, others end it."""
    job = json.loads(_read_line())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    send = answering()

    def tell(message: str, fraction: float | None = None) -> None:
        send({"progress": [message, fraction]})

    try:
        send({"result": work(job, tell)})
    except EdgeshipError as error:
        send({"error": error.to_dict()})


def answering() -> Callable[[Mapping[str, Any]], None]:
    """Takes stdout for JSON lines to the parent: libraries print there too, and from here on they print to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def send(message: Mapping[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    return send


def _read_line() -> bytes:
    # Not through sys.stdin: a thread that waits in its buffer would hold a lock the interpreter needs to end.
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            os._exit(1)
        line += byte
    return line


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)
