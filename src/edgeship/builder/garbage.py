"""What builds leave behind, and its removal: finished steps, work that was cut short, logs of failures.

Nothing is removed that a running process builds or builds upon: until it ends, it holds a lock for each of its steps,
<builds>/locks/users/<step>.<pid>-<random>.lock, which the system frees however it ends. One lock, `users.lock`, keeps
those who begin to use and those who remove apart. When a step was used last is when its folder was changed last.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgeship.system.storage import is_held, locked, remove_folder, size_of

if TYPE_CHECKING:
    from filelock import FileLock

STEP_NAME = "step.json"
PARTIAL = ".tmp-"
"""What the folder of an unfinished step is called, before the step's own name."""
_WAIT_S = 600.0
_held: dict[Path, FileLock] = {}


@dataclass(frozen=True)
class Garbage:
    """Something that was removed, or would be."""

    kind: Literal["step", "partial work", "log"]
    path: Path
    size_bytes: int


def use(builds_dir: Path, steps: Iterable[str]) -> None:
    """Keeps these steps from being removed until this process ends; a folder that cannot be written loses nothing."""
    import filelock

    with contextlib.suppress(OSError), _gate(builds_dir):
        for step in steps:
            if builds_dir / step not in _held:
                path = _users(builds_dir) / f"{step}.{os.getpid()}-{secrets.token_hex(4)}.lock"
                path.parent.mkdir(parents=True, exist_ok=True)
                lock = filelock.FileLock(path)
                lock.acquire(timeout=0)
                _held[builds_dir / step] = lock


def collect(builds_dir: Path, *, dry_run: bool = False) -> list[Garbage]:
    """Removes everything that no running process uses; what it was. dry_run: only says so."""
    return _remove(builds_dir, limit_bytes=None, dry_run=dry_run)


def keep_limit(builds_dir: Path, limit_bytes: int) -> list[Garbage]:
    """Removes finished steps and partial work, least recently used first, until the rest is within the limit."""
    return _remove(builds_dir, limit_bytes=limit_bytes, dry_run=False)


def _remove(builds_dir: Path, *, limit_bytes: int | None, dry_run: bool) -> list[Garbage]:
    if not builds_dir.is_dir():
        return []
    with _gate(builds_dir):
        used = _used(builds_dir)
        items = sorted(_items(builds_dir), key=lambda item: _used_at(item.path))
        total = sum(item.size_bytes for item in items)
        gone = []
        for item in items:
            if limit_bytes is not None and (total <= limit_bytes or item.kind == "log"):
                continue
            if not any(step in item.path.name for step in used):
                gone.append(item)
                total -= item.size_bytes
        for item in () if dry_run else gone:
            if item.path.is_dir():
                remove_folder(item.path)
            else:
                item.path.unlink(missing_ok=True)
        return gone


def _items(builds_dir: Path) -> Iterator[Garbage]:
    for path in sorted(builds_dir.iterdir()):
        if path.name not in ("locks", "logs") and path.is_dir():
            finished = (path / STEP_NAME).is_file() and not path.name.startswith(".")
            yield Garbage("step" if finished else "partial work", path, size_of(path))
    for path in sorted((builds_dir / "logs").glob("*.log")):
        yield Garbage("log", path, path.stat().st_size)


def _used(builds_dir: Path) -> set[str]:
    """Steps that running processes use; the locks of those that ended go."""
    found = set()
    for lock in _users(builds_dir).glob("*.lock"):
        if is_held(lock):
            found.add(lock.name.partition(".")[0])
        else:
            with contextlib.suppress(PermissionError):  # Windows: another process looks at it at this moment
                lock.unlink(missing_ok=True)
    return found


def _gate(builds_dir: Path) -> contextlib.AbstractContextManager[None]:
    return locked(builds_dir / "locks" / "users.lock", _WAIT_S, what="finished build steps")


def _users(builds_dir: Path) -> Path:
    return builds_dir / "locks" / "users"


def _used_at(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0
