from __future__ import annotations

import errno

from edgeship.errors import AdapterInvalid, DiskShort, MemoryShort, ToolFailed, ran_out


def test_what_strangers_wrote_is_quoted_without_power_and_end() -> None:
    error = AdapterInvalid(f"it holds \x1b[31m\u202e{'x' * 10**6}\ud800 end\nmore", hint="see \x07it")
    assert error.what.startswith("it holds \\x1b[31m\\u202exxx")
    assert error.what.endswith("\\ud800 end\nmore")
    assert len(error.what) < 2100
    assert (str(error), error.hint) == (error.what, "see \\x07it")


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
