from __future__ import annotations

import errno

from edgeship.errors import DiskShort, MemoryShort, ToolFailed
from edgeship.system.shortage import ran_out


def test_what_ran_out_is_found_below_whatever_a_library_made_of_it() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/there/file")
    masked, mapped = ValueError("cannot close"), ToolFailed("transformers failed")
    masked.__context__, mapped.__cause__ = full, masked
    for error in (full, masked, mapped):
        found = ran_out(error)
        assert isinstance(found, DiskShort)
        assert (found.what, found.where) == ("the disk is full", "/there/file")
    assert isinstance(ran_out(MemoryError()), MemoryShort)
    short = DiskShort("the model needs 5 GB")
    assert ran_out(short) is short
    assert ran_out(OSError(errno.EACCES, "no")) is None
    assert ran_out(mapped.__class__("another fault")) is None
