"""Files that others made: a checkpoint's, an adapter's, a package's, and what a user names.

Each is opened here, so that none can make us wait (a pipe), fill memory (a device, a huge file) or read and copy what
lies outside of the folder that was given to us (a link).
"""

from __future__ import annotations

import os
import re
import stat
import sys
from io import BufferedReader
from pathlib import Path

from edgeship.system.text import decode

MOST_BYTES = 1 << 28
"""A larger file is not read as a whole: the largest tokenizers take a tenth of it."""
# A part of a name that is one on every system: no separator of Windows, no drive.
_PART = re.compile(r"[^/\\:\0]+")
_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
LONGEST_NAME = 255
"""Bytes that the name of a file or folder may have."""
_KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}
# A pipe without a writer would be waited for; a terminal would become the process's own.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)


class Refused(OSError):
    """A file that is not read: no regular one, too large, or reached by a link that leads out of its folder."""


def open_file(path: Path, *, folder: Path | None = None, named: bool = False) -> BufferedReader:
    """A regular file, open for reading.

    folder: what links must stay in, by default the folder in which `path` lies. They may also lead to blobs of the
    Hugging Face cache: from a snapshot to those of its repository, and from anywhere to those of models in `hub_cache`.
    named: a user named this very file: links may lead anywhere, and a pipe is read, as a shell's <(...) makes one.
    Raises OSError, ValueError for what cannot be a path.
    """
    _require_regular(path.stat(), named)
    stream = open(path, "rb", opener=_opened)  # noqa: SIM115 - closed by who asks
    try:
        # What was opened is looked at again: something else may have taken the place of the file.
        opened = os.fstat(stream.fileno())
        _require_regular(opened, named)
        if sys.platform != "win32" and stat.S_ISFIFO(opened.st_mode):
            os.set_blocking(stream.fileno(), True)  # one without a writer is at its end, and is not waited for
        if not named:
            _require_inside(path, folder or path.parent, opened)
    except BaseException:
        stream.close()
        raise
    return stream


def read_bytes(path: Path, *, folder: Path | None = None, named: bool = False, most_bytes: int = MOST_BYTES) -> bytes:
    """All that a file holds; see `open_file`. Raises OSError, ValueError."""
    with open_file(path, folder=folder, named=named) as stream:
        known = os.fstat(stream.fileno()).st_size
        content = stream.read(most_bytes + 1) if known <= most_bytes else b""
    if max(known, len(content)) > most_bytes:
        limit = f"{most_bytes >> 20} MiB" if most_bytes >> 20 else f"{most_bytes >> 10} KiB"
        raise Refused(f"it is larger than {limit}")
    return content


def read_text(path: Path, *, folder: Path | None = None, named: bool = False, most_bytes: int = MOST_BYTES) -> str:
    """A text as `decode` reads it; see `open_file`. Raises OSError, ValueError."""
    return decode(read_bytes(path, folder=folder, named=named, most_bytes=most_bytes))


def named_path(stated: object) -> Path:
    """The path that a user names, with ~ and ~USER spelled out. Raises ValueError for what no file can be called."""
    text = str(stated)
    if not isinstance(stated, str | Path) or not text or not str(Path(text)).strip() or "\0" in text:
        raise ValueError("no file can be called that")
    try:
        os.fsencode(text)
        return Path(text).expanduser()
    except UnicodeEncodeError as error:
        raise ValueError("no file can be called that") from error
    except RuntimeError as error:
        raise ValueError("there is no such user; a path may begin with ./~ too") from error


def is_file(path: Path) -> bool:
    """Whether there is a file; False also for what no file can be called."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Whether there is a folder; False also for what none can be called."""
    try:
        return path.is_dir()
    except OSError:
        return False


def require_readable(path: Path, *, folder: Path | None = None) -> None:
    """That a file which a library will open is one that `open_file` would. Raises OSError, ValueError."""
    open_file(path, folder=folder).close()


def is_executable(stream: BufferedReader) -> bool:
    """Whether an open file is marked as a program. Windows knows no such mark: there a name alone makes one."""
    return bool(os.fstat(stream.fileno()).st_mode & (stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH))


def stays_inside(name: str) -> bool:
    """Whether a file's name, with "/" between its parts, leads to a place in the folder on every system."""
    return all(
        _PART.fullmatch(part) and part not in (".", "..") and len(os.fsencode(part)) <= LONGEST_NAME
        for part in name.split("/")
    )


def hub_cache() -> Path:
    """Where this user's models from the Hugging Face Hub lie, by the rules of huggingface_hub."""
    stated = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(os.path.expandvars(stated or Path(home, "hub"))).expanduser()


def _opened(path: str, flags: int) -> int:
    return os.open(path, flags | _FLAGS)


def _require_regular(found: os.stat_result, named: bool) -> None:
    if not stat.S_ISREG(found.st_mode) and not (named and stat.S_ISFIFO(found.st_mode)):
        kind = next((name for is_kind, name in _KINDS.items() if is_kind(found.st_mode)), "something else")
        raise Refused(f"it is {kind}, and no regular file")


def _require_inside(path: Path, folder: Path, opened: os.stat_result) -> None:
    root, real = folder.resolve(), path.resolve()
    if not real.is_relative_to(root) and real.parent not in _hub_blobs(root) and not _is_downloaded(real):
        raise Refused(f"it is a link that leads out of its folder, to {real}; copy the file itself there")
    if not os.path.samestat(opened, real.lstat()):
        raise Refused("it was exchanged while it was opened")


def _hub_blobs(root: Path) -> list[Path]:
    """Where a snapshot of the Hugging Face cache, REPOSITORY/snapshots/COMMIT, has its files: REPOSITORY/blobs."""
    return [place.parent / "blobs" for place in root.parents if place.name == "snapshots"]


def _is_downloaded(real: Path) -> bool:
    """Whether a file is a blob of a model in the user's own cache.

    Downloads into a folder (`--local-dir`) were links to such for years. A stranger's link could name no other file
    there than one of a model that the user has downloaded, and only by a digest of its content.
    """
    blobs = real.parent
    return (
        _BLOB.fullmatch(real.name) is not None
        and blobs.name == "blobs"
        and blobs.parent.name.startswith("models--")
        and blobs.parent.parent == hub_cache().resolve()
    )
