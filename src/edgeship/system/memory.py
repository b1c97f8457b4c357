"""The memory of a process: what it holds, the most that it has held, or may hold; zeros that take none until written.

Only the standard library at the top: the script that runs in Olive's environment reads this file too.
"""

from __future__ import annotations

import mmap
import os
import sys
from contextlib import suppress
from pathlib import Path

_OWN = ("RssAnon:", "RssShmem:", "VmSwap:")


def peak_memory_bytes() -> int:
    """The most physical memory that this process has held at once."""
    told = peak_memory_bytes_of(os.getpid())
    if told or sys.platform == "win32":
        return told or 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_memory_bytes_of(pid: int) -> int | None:
    """The same of any process; None where the system does not tell it, and where there is no such process."""
    if sys.platform == "win32":
        import psutil

        try:
            return int(psutil.Process(pid).memory_info().peak_wset)
        except psutil.Error:
            return None
    with suppress(OSError):
        # Unlike ru_maxrss, this does not begin at what the parent held when it started this process.
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def resident_bytes(pid: int) -> int:
    """Physical memory of another process, files that it has mapped included; 0 where it is gone."""
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def own_bytes(pid: int) -> int | None:
    """Memory that a process has made itself, be it swapped out; None where the process is gone.

    Unlike what is resident it leaves out files that are mapped, such as a model's weights: the system takes these out
    of memory and reads them again as it likes. macOS tells only what is resident.
    """
    if sys.platform == "linux":
        try:
            status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
        except OSError:
            return None
        lines = (line.split() for line in status.splitlines())
        return 1024 * sum(int(words[1]) for words in lines if words and words[0] in _OWN) or None
    import psutil

    try:
        told = psutil.Process(pid).memory_info()
    except psutil.Error:
        return None
    return int(getattr(told, "private", told.rss))


def limit_growth(size_bytes: int) -> None:
    """Lets this process take so much more memory than now, and no more; only on Linux, where such a limit holds."""
    if sys.platform == "linux":
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit = pages * resource.getpagesize() + size_bytes
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))


def zero_pages(size_bytes: int) -> mmap.mmap:
    """Zeros whose pages are taken one by one, when they are first written.

    Raises MemoryError where the system does not promise so many.
    """
    try:
        return _zero_pages(size_bytes)
    except (OSError, OverflowError) as error:  # more than the system grants, or than an address can tell
        raise MemoryError(f"{size_bytes / 1e9:,.1f} GB are not to be had") from error


def _zero_pages(size_bytes: int) -> mmap.mmap:
    if sys.platform == "win32":
        return mmap.mmap(-1, size_bytes)
    pages = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        with suppress(OSError):  # a kernel without huge pages
            pages.madvise(mmap.MADV_NOHUGEPAGE)
    return pages
