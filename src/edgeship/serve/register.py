"""The servers that run on this machine, each with a file in <home>/servers: for `edgeship ps` and `edgeship stop`.

A server asks for nothing by its file; that somebody wants it to end lies beside it. So no request over the network can
end a server, and it works the same on every system.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgeship.errors import PackageDamaged
from edgeship.system import json_file
from edgeship.system.json_file import Complaint
from edgeship.system.storage import disk_errors, leftovers, write_file

_log = logging.getLogger("edgeship.serve")
_FAULT = Complaint(PackageDamaged, "Remove it.")
_SAME_S = 2.0
"""A process with the number of a server's that began at another time is another process."""


@dataclass(frozen=True)
class Entry:
    """A server that runs. state: starting, ready or ending. models: those that are loaded; folders: where they lie."""

    pid: int
    url: str
    port: int
    state: str
    models: tuple[str, ...]
    folders: Mapping[str, str]
    memory_bytes: int


class Record:
    """This process's own file, from the first `write` to `remove`.

    Where it cannot be written, that is logged, and the server answers all the same.
    """

    def __init__(self, home: Path, url: str, port: int) -> None:
        self._path = home / "servers" / f"{os.getpid()}.json"
        self._stop = _stop_file(self._path)
        self._facts = {"url": url, "port": port, "began": _began(os.getpid())}
        self._written: Mapping[str, object] = {}

    def write(self, state: str, models: Mapping[str, Path | None]) -> None:
        """Says how the server is, where that has changed. models: those that are loaded, with their folders."""
        folders = {name: str(folder) for name, folder in models.items() if folder}
        facts = self._facts | {"state": state, "models": list(models), "folders": folders}
        if facts == self._written:
            return
        first, self._written = not self._written, facts
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if first:
                self._stop.unlink(missing_ok=True)
            json_file.write_object(self._path, facts)
        except OSError as error:
            if first:
                _log.warning("`edgeship ps` and `edgeship stop` do not find this server: %s", error)

    def is_asked_to_stop(self) -> bool:
        """Whether somebody wants the server to end."""
        return self._stop.exists()

    def remove(self) -> None:
        """The server is over."""
        for path in (self._path, self._stop):
            with suppress(OSError):
                path.unlink(missing_ok=True)


def running(home: Path) -> list[Entry]:
    """The servers that run; files of those that are gone are deleted."""
    folder = home / "servers"
    for left in leftovers(folder):
        left.unlink(missing_ok=True)
    found = [_entry(path) for path in sorted(folder.glob("*.json"))]
    return [entry for entry in found if entry]


def ask_to_stop(home: Path, entry: Entry) -> None:
    """Wants a server to end once its answers are complete. Raises NotWritable, DiskShort."""
    path = _stop_file(home / "servers" / f"{entry.pid}.json")
    with disk_errors(path.parent, "end its process instead."):
        write_file(path, "")


def is_running(entry: Entry, home: Path) -> bool:
    """Whether a server still runs."""
    return any(other.pid == entry.pid for other in running(home))


def _entry(path: Path) -> Entry | None:
    try:
        facts = json_file.read_fields(path, _FAULT)
        pid, began = int(path.stem), facts.required_number("began")
        there = _began(pid)
        if there is None or abs(there - began) > _SAME_S:
            raise ValueError(pid)
        url, state = facts.required_text("url"), facts.required_text("state")
        models, kept = tuple(facts.texts("models")), facts.part("folders")
        folders = {name: kept.required_text(name) for name in kept.values}
        return Entry(pid, url, facts.required_count("port"), state, models, folders, _memory_bytes(pid))
    except (PackageDamaged, ValueError):
        for left in (path, _stop_file(path)):
            with suppress(OSError):
                left.unlink(missing_ok=True)
        return None


def _stop_file(path: Path) -> Path:
    return path.with_suffix(".stop")


def _began(pid: int) -> float | None:
    """When a process began, in unix seconds; None where there is none."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None


def _memory_bytes(pid: int) -> int:
    """What a server holds, with the processes of its models."""
    import psutil

    total = 0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                total += one.memory_info().rss
    return total
