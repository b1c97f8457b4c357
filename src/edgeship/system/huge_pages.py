"""Memory in pages of 2 MB instead of 4 KB, where Linux grants them: what is read all the time is found sooner."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from edgeship.errors import UsageError
from edgeship.system.fields import shown

VARIABLE = "EDGESHIP_HUGE_PAGES"
PAGE_BYTES = 1 << 21
_MADV_COLLAPSE = 25  # from the kernel's mman.h; Python's mmap knows no name for it
_OWN = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) rw.p \S+ 00:00 0 *(?:\[heap\])?$", re.MULTILINE)

Regions = list[tuple[int, int]]
"""Addresses of memory: the first, and the one after the last."""


def regions() -> Regions:
    """The memory that is this process's alone and has no file behind it; none where huge pages are not to be had.

    Raises UsageError for a VARIABLE that says neither yes nor no.
    """
    if not _wanted() or sys.platform != "linux":
        return []
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [(int(first, 16), int(end, 16)) for first, end in _OWN.findall(maps)]


def _wanted() -> bool:
    stated = os.environ.get(VARIABLE) or "1"
    if stated not in ("0", "1"):
        raise UsageError(f"{VARIABLE} is {shown(stated)}; it must be 0 or 1", hint="Give it such a value, or unset it.")
    return stated == "1"


def added(before: Regions, after: Regions) -> Regions:
    """What lies in `after` and not in `before`, in whole huge pages."""
    found: Regions = []
    for first, end in after:
        for old_first, old_end in sorted(before):
            if old_first < end and old_end > first:  # the region has grown, at either end
                found.append((first, old_first))
                first = old_end
        found.append((first, end))
    whole = [(-(-first // PAGE_BYTES) * PAGE_BYTES, end // PAGE_BYTES * PAGE_BYTES) for first, end in found]
    return [(first, end) for first, end in whole if first < end]


def collapse(wanted: Regions) -> Iterator[bool]:
    """Makes one huge page after another of this memory, whose content stays; says of each whether it became one.

    A page takes about 5 ms. Only Linux 6.1 and later can, and a page that was never written stays as it is.
    """
    if not wanted:
        return
    import ctypes

    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for first, end in wanted:
        for place in range(first, end, PAGE_BYTES):
            yield madvise(place, PAGE_BYTES, _MADV_COLLAPSE) == 0
