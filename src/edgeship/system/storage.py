"""Disk work that can fail half way: full and read-only disks, locks between processes, copies with a digest."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from edgeship.errors import CacheBusy, DiskShort, EdgeshipError, NotWritable
from edgeship.progress import Progress, silent

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_PIECE_BYTES = 4 * 2**20


class FileDigest(BaseModel):
    """A file's content: SHA-256, and its size."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=0)


def digest_file(path: Path) -> FileDigest:
    """SHA-256 and size of a file, read in pieces."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
    return FileDigest(sha256=digest.hexdigest(), size_bytes=path.stat().st_size)


def megabytes(size_bytes: float) -> str:
    """A size as tables and sentences show it: MB (10^6 bytes), to three figures or better."""
    value = size_bytes / 1e6
    return f"{value:.2f} MB" if value < 10 else f"{value:.1f} MB" if value < 100 else f"{value:,.0f} MB"


@contextmanager
def disk_errors(folder: Path, hint: str) -> Iterator[None]:
    """Turns the failures of writing into `folder` into DiskShort and NotWritable; `hint` says where else to write."""
    try:
        yield
    except EdgeshipError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise DiskShort("the disk is full", where=str(folder), hint=f"Free some space, or {hint}") from error
        what = f"the folder cannot be written: {error}"
        raise NotWritable(what, where=str(folder), hint=hint[0].upper() + hint[1:]) from error


def require_writable(folder: Path, hint: str) -> None:
    """Makes the folder and writes into it once. Raises NotWritable, DiskShort."""
    with disk_errors(folder, hint):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{secrets.token_hex(4)}"
        probe.write_bytes(b"1")
        probe.unlink()


@contextmanager
def locked(path: Path, wait_s: float, progress: Progress = silent, *, what: str = "") -> Iterator[None]:
    """Holds the lock `path`; the system frees it when the process ends, however it ends. Raises CacheBusy.

    what: what the lock stands for, in words; by default the name of its file.
    """
    import filelock

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    try:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            progress(f"waiting for another process that works on {(what or path.stem)!r}", None)
            lock.acquire(timeout=wait_s)
    except filelock.Timeout as error:
        raise CacheBusy(
            f"another process has held {(what or path.stem)!r} for more than {wait_s:g} s",
            where=str(path),
            hint="Wait for it or end it, then run the same command again.",
        ) from error
    try:
        yield
    finally:
        lock.release()


def temporary_beside(folder: Path) -> Path:
    """Where to make a folder that is to be put in the place of `folder`: on the same disk, hidden, this process's."""
    return folder.with_name(f"{_temporary_prefix(folder)}{os.getpid()}-{secrets.token_hex(4)}")


def put_in_place(temporary: Path, folder: Path) -> None:
    """One rename; a folder that is in the way steps aside first and comes back if that fails."""
    if not folder.exists():
        temporary.replace(folder)
        return
    aside = temporary.with_name(temporary.name + "-old")
    folder.replace(aside)
    try:
        temporary.replace(folder)
    except BaseException:
        aside.replace(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Deletes what killed processes left beside the folder."""
    import psutil

    for left in folder.parent.glob(f"{glob.escape(_temporary_prefix(folder))}*"):
        pid = left.name.removeprefix(_temporary_prefix(folder)).partition("-")[0]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _temporary_prefix(folder: Path) -> str:
    return f".{folder.name}.tmp-"


def bring(source: Path, target: Path, *, move: bool = False) -> FileDigest:
    """Puts a file at `target`, by a rename where it may be moved and the disk is the same; the digest of it there.

    Never by a hard link: readers of ONNX refuse weights that have a second name.
    """
    if move:
        with suppress(OSError):
            source.replace(target)
            return digest_file(target)
    return _copy(source, target)


def _copy(source: Path, target: Path) -> FileDigest:
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as reader, target.open("xb") as writer:
        while piece := reader.read(_PIECE_BYTES):
            digest.update(piece)
            size += len(piece)
            writer.write(piece)
    return FileDigest(sha256=digest.hexdigest(), size_bytes=size)
