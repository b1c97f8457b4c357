from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeship.system import memory

MIB = 2**20


def test_zero_pages_take_memory_when_they_are_written() -> None:
    # In a process of its own: its peak is not yet raised by other tests.
    code = (
        "from edgeship.system import memory\n"
        "before = memory.peak_memory_bytes()\n"
        f"pages = memory.zero_pages(256 * {MIB})\n"
        "untouched = memory.peak_memory_bytes() - before\n"
        f"pages[: 128 * {MIB}] = b'1' * (128 * {MIB})\n"
        "print(untouched, memory.peak_memory_bytes() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    untouched, written = map(int, done.stdout.split())
    assert untouched < 16 * MIB
    assert written > 128 * MIB


def test_zero_pages_are_zeros_that_can_be_written() -> None:
    array = np.frombuffer(memory.zero_pages(4 * MIB), np.float32)
    assert not array.any()
    array[-1] = 1.0
    assert array.sum() == 1.0


def test_more_than_the_system_promises_is_told_as_memory() -> None:
    for size_bytes in (1 << 60, 1 << 80):
        with pytest.raises(MemoryError, match="GB are not to be had"):
            memory.zero_pages(size_bytes)


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of memory that holds")
def test_a_process_gets_no_more_memory_than_it_may() -> None:
    script = """
from edgeship.system import memory
for most in (1 << 40, 1 << 26):
    memory.limit_growth(most)
    try:
        print(len(bytes(1 << 28)))
    except MemoryError:
        print("no more")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == [str(1 << 28), "no more", ""]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere files that are mapped are not told apart")
def test_own_memory_leaves_out_files_that_are_mapped(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"1" * (32 * MIB))
    before = memory.own_bytes(os.getpid())
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert mapped[::4096].count(b"1") == 8192
        with_file = memory.own_bytes(os.getpid())
    kept = b"1" * (32 * MIB)
    after = memory.own_bytes(os.getpid())
    assert before
    assert with_file
    assert after
    assert with_file - before < 8 * MIB
    assert after - before > 24 * MIB
    assert kept
    assert memory.own_bytes(2**22 + 1) is None
