"""What of this machine ran out, as an error of ours, whatever a library made of it."""

from __future__ import annotations

import errno

from edgeship.errors import LESS_MEMORY, DiskShort, MemoryShort, ResourceError

DISK_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
"""What systems say of a full disk, and of a user whose share is full."""


def memory_ran_out(error: MemoryError) -> MemoryShort:
    """Python's own error as one of ours."""
    return MemoryShort(f"memory ran out: {error}".rstrip(": "), hint=LESS_MEMORY)


def ran_out(error: BaseException) -> ResourceError | None:
    """What ran out, where that is what an error, or what it was raised from, says; None otherwise."""
    if isinstance(error, ResourceError):
        return error
    if isinstance(error, MemoryError):
        return memory_ran_out(error)
    known: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in known:
        if isinstance(found, OSError) and found.errno in DISK_FULL:
            hint = "Free some space, or set EDGESHIP_HOME to a folder on another disk."
            return DiskShort("the disk is full", where=found.filename, hint=hint)
        known.add(id(found))
        found = found.__cause__ or found.__context__
    return None
