"""Processes of our own, driven from outside: their memory comes back, their peak is their own, and they end when we do.

A job goes in as one line of JSON on stdin, which stays open: when it closes, the parent is gone, however it went, and
the child ends. JSON lines come back on stdout; whatever libraries print goes to stderr, where the parent listens.
`worker.py` is the child's side.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from edgeship.errors import LESS_MEMORY, EdgeshipError, MemoryShort, UsageError, all_errors
from edgeship.progress import Progress, silent
from edgeship.system import border, log, telemetry

STOPPED_S = 30.0
"""A child that somebody stopped (SIGSTOP) and did not let go on is ended after so long, where nothing else is said."""
_POLL_S = 1.0
# What a process printed is read to the end after its own, unless one that it left behind holds its pipes.
_DRAIN_S = 5.0
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
_BAR = re.compile(r"\d+(it|%|/\d+)|it/s")

_log = logging.getLogger("edgeship.system")


class Died(Exception):
    """A process that ended without a result.

    status: as subprocess gives it, negative for a signal. lines: the last that it printed.
    stopped: it was stopped for so long that we ended it.
    """

    def __init__(self, status: int, lines: Sequence[str], *, stopped: bool = False) -> None:
        super().__init__(f"status {status}: {lines[-1] if lines else 'it said nothing'}")
        self.status = status
        self.lines = tuple(lines)
        self.stopped = stopped

    @property
    def how(self) -> str:
        """What happened, to go on after "the process"."""
        if self.stopped:
            return "was stopped from outside, and ended as it did not go on"
        if self.killed:
            return "was killed, most likely by the system for want of memory"
        return f"was ended by signal {-self.status}" if self.status < 0 else f"ended with status {self.status}"

    @property
    def killed(self) -> bool:
        """True where it was killed outright, as a system short of memory does."""
        return self.status == -9 and not self.stopped

    @property
    def last(self) -> str:
        """The last line that it printed and that is no progress bar."""
        return next((line for line in reversed(self.lines) if not _BAR.search(line)), "nothing")

    def as_error(
        self,
        kind: type[EdgeshipError],
        who: str,
        *,
        where: str | None = None,
        hint: str | None = None,
        if_killed: str = "",
        said: str | None = None,
    ) -> EdgeshipError:
        """An error of `kind`, or MemoryShort where the system killed it; to be raised `from` this.

        who: the process, as the message begins. if_killed: what to try besides having more memory.
        said: the line to quote, where it is not the last one.
        """
        what = f"{who} {self.how}; the last it said: {said or self.last}"
        if self.killed:
            return MemoryShort(what, where=where, hint=f"{LESS_MEMORY} {if_killed}".rstrip())
        return kind(what, where=where, hint=hint)


class ChildFault(Exception):
    """A fault of our own in a child; the traceback from there is printed with the one from here."""

    def __init__(self, what: str, traceback_text: str) -> None:
        super().__init__(what)
        self.add_note(f"In the child process:\n{traceback_text}")


def failure_in(message: Mapping[str, Any]) -> Exception | None:
    """What a child's message says went wrong there: an error of ours as it was raised, or a ChildFault."""
    if "error" in message:
        error = message["error"]
        kind = {known.code: known for known in all_errors()}.get(error["code"], EdgeshipError)
        found = kind(error["what"], where=error["where"], hint=error["hint"])
        if isinstance(found, UsageError):
            found.param = error.get("param")
        return found
    if "fault" in message:
        return ChildFault(message["fault"]["what"], message["fault"]["traceback"])
    return None


# --- one job, one result ---------------------------------------------------------------------------------------------


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

    Raises the error of ours that the child ended with, ChildFault for any other, and Died.
    """
    inbox: queue.SimpleQueue[dict[str, Any] | BaseException] = queue.SimpleQueue()
    child = start(module, job, inbox.put, heard=heard, environment=environment)
    try:
        while "progress" in (message := _next(inbox)):
            progress(*message["progress"])
    finally:
        # It has answered, or was abandoned by an interrupt.
        child.end()
    if failure := failure_in(message):
        raise failure
    result: dict[str, Any] = message["result"]
    return result


def follow(
    command: Sequence[str],
    *,
    heard: Callable[[str], object],
    environment: Mapping[str, str],
    folder: Path | None = None,
) -> None:
    """Runs a program that knows nothing of us until it ends; `heard` gets every line that it prints.

    environment: all of it. Its stdin stays open as long as this process lives. Raises Died for any status but 0.
    """
    inbox: queue.SimpleQueue[dict[str, Any] | BaseException] = queue.SimpleQueue()
    child = Child(command, inbox.put, heard, environment, folder, foreign=True)
    try:
        _next(inbox)
    except Died as death:
        if death.status:
            raise
    finally:
        child.end()


def _next(inbox: queue.SimpleQueue[dict[str, Any] | BaseException]) -> dict[str, Any]:
    message = border.take(inbox)
    if isinstance(message, BaseException):
        raise message
    return message


# --- the process -----------------------------------------------------------------------------------------------------


def start(
    module: str,
    job: Mapping[str, Any],
    said: Callable[[dict[str, Any] | BaseException], object],
    *,
    heard: Callable[[str], object] = lambda _: None,
    environment: Mapping[str, str] | None = None,
    stopped_s: float | None = None,
) -> Child:
    """A child that works on `job` in `module`; see Child."""
    command = [sys.executable, "-m", module]
    child = Child(command, said, heard, environment_with(environment or {}), stopped_s=stopped_s)
    child.send({"job": job, "log_level": log.level()})
    return child


def environment_with(ours: Mapping[str, str]) -> dict[str, str]:
    """What a child of ours finds in its environment."""
    return {**os.environ, **telemetry.OFF, **_ENVIRONMENT, **ours}


class Child:
    """A process, driven by threads that never wait for whoever drives it.

    said: gets each message, and at last why no more will come: Died, or what `said` or `heard` raised.
    heard: gets each line that it prints.
    foreign: it sends no messages, and what it writes to stdout is heard like the rest.
    stopped_s: how long it may stand still once somebody has stopped it; None for STOPPED_S.
    """

    def __init__(
        self,
        command: Sequence[str],
        said: Callable[[dict[str, Any] | BaseException], object],
        heard: Callable[[str], object],
        environment: Mapping[str, str],
        folder: Path | None = None,
        *,
        foreign: bool = False,
        stopped_s: float | None = None,
    ) -> None:
        self._said, self._heard = said, heard
        self._stopped_s = STOPPED_S if stopped_s is None else stopped_s
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if foreign else subprocess.PIPE,
            env=environment,
            cwd=folder,
        )
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._broken: BaseException | None = None
        self._over = threading.Event()
        self._abandoned = False
        stdout, stderr = self._process.stdout, self._process.stderr
        assert stdout
        # Both pipes are drained at the same time, or a child that fills one would wait for ever.
        self._readers = [self._thread(self._drain, stdout, self._hear if foreign else self._take)]
        if stderr:
            self._readers.append(self._thread(self._drain, stderr, self._hear))
        self._threads = [*self._readers, self._thread(self._write), self._thread(self._watch)]
        _log.info("process %d started: %s", self.pid, " ".join(command))

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends a message, without waiting for the process to read it."""
        self._outbox.put(json.dumps(message).encode() + b"\n")

    def end(self, grace_s: float = 0.0) -> None:
        """Ends it: closes its stdin, which it may answer by ending within `grace_s`, and kills it after that."""
        self._abandoned = True
        self._outbox.put(None)
        if threading.current_thread() in self._threads:
            self._process.kill()
        elif not self._over.wait(grace_s):
            self._process.kill()
            self._over.wait(2 * _DRAIN_S)

    # --- its threads -------------------------------------------------------------------------------------------------

    def _thread(self, work: Callable[..., None], *arguments: Any) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments, name=f"edgeship child {self.pid}", daemon=True)
        thread.start()
        return thread

    def _write(self) -> None:
        stdin = self._process.stdin
        assert stdin
        # A process that is gone already says why by its status and its last lines.
        with suppress(OSError):
            while (line := self._outbox.get()) is not None:
                stdin.write(line)
                stdin.flush()
        with suppress(OSError):
            stdin.close()

    def _drain(self, stream: IO[bytes], take: Callable[[bytes], None]) -> None:
        for line in stream:
            try:
                if self._broken is None:
                    take(line)
            except BaseException as error:
                self._broken = error
                self._process.kill()
        stream.close()

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            return  # it died in the middle of a line
        if "log" in message:
            log.repeat(message["log"])
        else:
            self._said(message)

    def _hear(self, raw: bytes) -> None:
        # A progress bar's carriage returns end lines too, so that they do not pile up.
        for line in raw.decode("utf-8", "replace").replace("\r", "\n").split("\n"):
            if line.strip():
                self._lines.append(line.strip())
                self._heard(line.rstrip())

    def _watch(self) -> None:
        """Waits for its end, and brings it about where it is stopped for too long."""
        stopped_s = 0.0
        while (status := self._wait(_POLL_S)) is None:
            # Counted in steps of ours: a machine that slept, or Ctrl-Z for us both, takes no time.
            stopped_s = stopped_s + _POLL_S if self._is_stopped() else 0.0
            if stopped_s >= self._stopped_s:
                self._process.kill()
        for reader in self._readers:
            reader.join(_DRAIN_S)
        self._outbox.put(None)
        _log.info("process %d ended%s", self.pid, ", as we wanted" if self._abandoned else f" with status {status}")
        try:
            self._said(self._broken or Died(status, self._lines, stopped=stopped_s >= self._stopped_s))
        finally:
            self._over.set()

    def _wait(self, seconds: float) -> int | None:
        """Its status; None where it has not ended within so long."""
        self._readers[0].join(seconds)  # the end of its output is all but its end, and is waited for without looking
        try:
            return self._process.wait(0.0 if self._readers[0].is_alive() else seconds)
        except subprocess.TimeoutExpired:
            return None

    def _is_stopped(self) -> bool:
        import psutil

        try:
            return bool(psutil.Process(self.pid).status() == psutil.STATUS_STOPPED)
        except psutil.Error:
            return False
