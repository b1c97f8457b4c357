"""Disk work that can fail half way: a file or a folder finished by one rename, locks between processes, full disks.

What is unfinished is called .NAME.tmp-PID-RANDOM and lies beside what it becomes, so that it is on the same disk and
what a killed process left can be told from what a running one makes.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from pydantic import BaseModel, ConfigDict, Field

from edgeship.errors import CacheBusy, DiskShort, EdgeshipError, NotWritable
from edgeship.progress import Progress, silent
from edgeship.system import foreign
from edgeship.system.shortage import DISK_FULL

_CANNOT_FLUSH = {errno.EINVAL, errno.ENOTSUP, errno.EROFS}
_PIECE_BYTES = 4 * 2**20
_ASIDE = "-old"
# Windows' "access denied" and "used by another process"; how long to wait before each further try, 3 s in all.
_IN_USE = {5, 32}
# What tells this process from a killed one that had its number, as the only process of a container always has.
_THIS_PROCESS = secrets.token_hex(4)
_PAUSES_S = (0.01, 0.04, 0.15, 0.5, 0.8, 1.5)


class FileDigest(BaseModel):
    """A file's content: SHA-256, and its size."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=0)


def digest_file(path: Path, folder: Path | None = None) -> FileDigest:
    """SHA-256 and size of a file, read in pieces; opened as `foreign.open_file` does."""
    with foreign.open_file(path, folder=folder) as stream:
        digest = hashlib.file_digest(stream, "sha256")
        return FileDigest(sha256=digest.hexdigest(), size_bytes=stream.tell())


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
        if error.errno in DISK_FULL:
            raise DiskShort("the disk is full", where=str(folder), hint=f"Free some space, or {hint}") from error
        what = f"the folder cannot be written: {error}"
        raise NotWritable(what, where=str(folder), hint=hint[0].upper() + hint[1:]) from error


def require_writable(folder: Path, hint: str) -> None:
    """Makes the folder and writes into it once. Raises NotWritable, DiskShort, and then leaves nothing that it made."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    with disk_errors(folder, hint):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = _temporary_beside(folder / "probe")
            try:
                probe.write_bytes(b"1")
            finally:
                probe.unlink(missing_ok=True)
        except OSError:
            for place in made:
                with suppress(OSError):
                    place.rmdir()
            raise


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


@contextmanager
def new_file(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Where to write a file that becomes `path` by one rename when the block ends; a failure leaves nothing of it.

    durable: its content is on the disk before its name is, so that a loss of power leaves the old file or the new one.
    """
    temporary = _temporary_beside(path)
    try:
        yield temporary
        if durable:
            _reach_the_disk(temporary)
        rename(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_file(path: Path, content: str | bytes, *, private: bool = False) -> None:
    """Writes a file, UTF-8 with the line ends of `content`, so that readers find the old one or the new one.

    private: only its user can read it, where files have owners.
    """
    with new_file(path, durable=True) as temporary:
        if private:
            temporary.touch(mode=0o600, exist_ok=False)
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_named(path: Path, content: str) -> None:
    """Writes what a user wants kept where the user says: through a link to what it names, and straight to a device or
    a pipe, which a file must not replace; everywhere else as `write_file`. Raises OSError."""
    if is_stream(path):
        with path.open("wb") as stream:
            stream.write(content.encode())
    else:
        write_file(path.resolve(), content)


def is_stream(path: Path) -> bool:
    """Whether it is there and neither a file nor a folder: a device, a pipe."""
    return path.exists() and not path.is_file() and not path.is_dir()


def may_write(path: Path) -> bool:
    """Whether this user may write to what is there."""
    return os.access(path, os.W_OK)


def leads_to(stream: TextIO, path: Path) -> bool:
    """Whether what is written to the stream ends in that file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(stream.fileno()))
    except (OSError, ValueError):  # it is not there, or the stream is closed or no file of the system's
        return False


@contextmanager
def new_folder(
    folder: Path,
    *,
    at: Path | None = None,
    goes_on: Callable[[BaseException], bool] | None = None,
    durable: bool = False,
) -> Iterator[Path]:
    """Where to fill a folder that becomes `folder`, in the place of what was there, by one rename when the block ends.

    at: a place on the same disk that nobody else uses, since the caller holds a lock. What a killed run left there is
    deleted first.
    goes_on: a failure for which it is true leaves the work at `at`, as a killed run does; the next one finds it there.
    durable: as for new_file, of everything in the folder.
    """
    temporary = at or _temporary_beside(folder)
    if at is None:
        remove_leftovers(folder)
    elif goes_on is None:
        shutil.rmtree(at, ignore_errors=True)
    temporary.mkdir(parents=True, exist_ok=goes_on is not None)
    try:
        yield temporary
        if durable:
            for path in sorted(temporary.rglob("*")):
                _reach_the_disk(path)
        _put_in_place(temporary, folder)
        if durable:
            _reach_the_disk(folder.parent)
    except BaseException as failure:
        if goes_on is None or not goes_on(failure):
            shutil.rmtree(temporary, ignore_errors=True)
        raise


def _put_in_place(temporary: Path, folder: Path) -> None:
    """One rename; a folder that is in the way steps aside first and comes back if that fails."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not folder.exists():
        rename(temporary, folder)
        return
    aside = _temporary_beside(folder)
    aside = aside.with_name(aside.name + _ASIDE)
    rename(folder, aside)
    try:
        rename(temporary, folder)
    except BaseException:
        rename(aside, folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def rename(source: Path, target: Path) -> None:
    """One rename, also over a file that is there.

    Windows refuses it while anyone has one of them open, as virus scanners have whatever is new: it is tried again.
    """
    for pause_s in _PAUSES_S:
        try:
            source.replace(target)
        except PermissionError as error:
            if getattr(error, "winerror", None) not in _IN_USE:
                raise
            time.sleep(pause_s)
        else:
            return
    source.replace(target)


def remove_folder(folder: Path, *, at: Path | None = None) -> None:
    """Deletes a folder, or the link to one: by one rename it is gone, and then its content goes.

    at: where its content goes, on the same disk; what cannot be deleted there is the caller's to sweep.
    """
    if folder.is_symlink():
        folder.unlink()
        return
    temporary = at or _temporary_beside(folder)
    rename(folder, temporary)
    shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(path: Path) -> None:
    """Deletes what killed processes left beside `path`; what one of them had put aside is back where it was."""
    for left in leftovers(path.parent, path.name):
        if left.name.endswith(_ASIDE) and not path.exists():
            rename(left, path)
        elif left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def leftovers(folder: Path, name: str = "*") -> list[Path]:
    """The unfinished files and folders of processes that are gone; of `name`, or all that lie in `folder`."""
    pattern = "*" if name == "*" else glob.escape(name)
    return [
        path for path in sorted(folder.glob(f".{pattern}.tmp-*")) if _is_of_the_dead(path.name.rpartition(".tmp-")[2])
    ]


def _is_of_the_dead(label: str) -> bool:
    """Whether a name with the label that `_label` gives is of a process that is gone."""
    import psutil

    number, _, rest = label.partition("-")
    if number == str(os.getpid()):
        return not rest.startswith(_THIS_PROCESS)
    return number.isdecimal() and not psutil.pid_exists(int(number))


def _label() -> str:
    """A new one: the process's number, what tells it from earlier ones of that number, and what no other label has."""
    return f"{os.getpid()}-{_THIS_PROCESS}{secrets.token_hex(4)}"


@contextmanager
def scratch_folder(root: Path) -> Iterator[Path]:
    """An empty folder under `root` that goes when the block ends; what killed runs left there goes when it begins."""
    import filelock

    root.mkdir(parents=True, exist_ok=True)
    sweep_scratch(root)
    folder = root / f"{os.getpid()}-{secrets.token_hex(4)}"
    lock = root / f"{folder.name}.lock"
    try:
        with filelock.FileLock(lock):
            folder.mkdir()
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.unlink(missing_ok=True)


def sweep_scratch(root: Path, *, dry_run: bool = False) -> list[tuple[Path, int]]:
    """Deletes what killed runs left under the root of scratch folders; each with its size. dry_run: only says so."""
    found = []
    for lock in sorted(root.glob("*.lock")):
        folder = lock.with_suffix("")
        if is_held(lock):
            continue
        if folder.is_dir():
            found.append((folder, size_of(folder)))
        if not dry_run:
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(PermissionError):  # Windows: another process looks at it at this moment
                lock.unlink(missing_ok=True)
    return found


def is_held(lock: Path) -> bool:
    """Whether a running process holds a lock that one process alone ever takes; what it was for is over otherwise."""
    import filelock

    try:
        with filelock.FileLock(lock, timeout=0):
            return False
    except filelock.Timeout:
        return True


def write_private(folder: Path, text: str, *, most: int) -> Path:
    """A new file with this text, which its user alone can read, under a name that nobody can guess or have linked.

    Of the files in the folder, which is made for them, the newest `most` stay. Raises OSError.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    now = time.time_ns()
    prefix = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now // 10**9))}-{now % 10**9:09d}-"
    handle, name = tempfile.mkstemp(".log", prefix, folder)
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
        stream.write(text)
    for old in sorted(folder.glob("*.log"))[:-most]:
        old.unlink(missing_ok=True)
    return Path(name)


class TemporaryFolder(tempfile.TemporaryDirectory[str]):
    """A folder in the system's temporary one that is gone when it is closed or the process ends.

    What processes that were killed left there under the same prefix goes first.
    """

    def __init__(self, prefix: str) -> None:
        _sweep_temporary(prefix)
        super().__init__(prefix=f"{prefix}-{_label()}-", ignore_cleanup_errors=True)

    def cleanup(self) -> None:
        """Deletes it. A library may write a last line of its log when it is closed, which puts a file back."""
        for pause_s in _PAUSES_S:
            super().cleanup()
            if not Path(self.name).exists():
                return
            time.sleep(pause_s)
        super().cleanup()


def _sweep_temporary(prefix: str) -> None:
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}-*-*"):
        # Others' folders lie there too, and links that others made; what is not ours cannot be deleted.
        if _is_of_the_dead(left.name.removeprefix(f"{prefix}-")) and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)


def touch(folder: Path) -> None:
    """Notes that a folder was used now, as the time of its last change; nothing where that cannot be written."""
    with suppress(OSError):
        os.utime(folder)


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder and below."""
    size = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # removed a moment ago
            size += path.stat().st_size if path.is_file() else 0
    return size


def _temporary_beside(path: Path) -> Path:
    """Where to make what is to be put in the place of `path`: on the same disk, hidden, this process's."""
    return path.with_name(f".{path.name}.tmp-{_label()}")


def _reach_the_disk(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk; goes on where the system has no way to."""
    # Windows flushes only what is open for writing, and opens no folder.
    mode = os.O_RDONLY if os.name == "posix" else os.O_RDWR
    try:
        handle = os.open(path, mode)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:
            raise
    finally:
        os.close(handle)


def bring(source: Path, target: Path, *, folder: Path | None = None, move: bool = False) -> FileDigest:
    """Puts a file at `target`, by a rename where it may be moved and the disk is the same; the digest of it there.

    Never by a hard link: readers of ONNX refuse weights that have a second name. The source is opened as
    `foreign.open_file` does.
    """
    if move and not source.is_symlink():
        with suppress(OSError):
            rename(source, target)
            return digest_file(target)
    return _copy(source, target, folder)


def _copy(source: Path, target: Path, folder: Path | None) -> FileDigest:
    digest, size = hashlib.sha256(), 0
    with foreign.open_file(source, folder=folder) as reader, target.open("xb") as writer:
        while piece := reader.read(_PIECE_BYTES):
            digest.update(piece)
            size += len(piece)
            writer.write(piece)
    return FileDigest(sha256=digest.hexdigest(), size_bytes=size)
