"""A module that runs as long as its parent lives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests import waiting

MODULE = """
import os, signal, sys, time
def end(*_):
    print("ended", flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, end)
print(sys.argv[1:], os.read(0, 10), __name__, flush=True)
while True:
    time.sleep(0.01)
"""
PARENT = """
import subprocess, sys, time
child = subprocess.Popen(
    [sys.executable, "-m", "edgeship.system.tether", "tethered"], stdin=subprocess.PIPE, stdout=open(sys.argv[1], "wb")
)
time.sleep(100)
"""


def start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    (folder / "tethered.py").write_text(MODULE, encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder
    )


def test_it_runs_as_by_itself_and_ends_in_order_when_its_stdin_does(tmp_path: Path) -> None:
    process = start(tmp_path, "-m", "edgeship.system.tether", "tethered", "a", "b c")
    assert process.stdout
    # What it would read from stdin is nothing: that is its parent's.
    assert process.stdout.readline() == b"['a', 'b c'] b'' __main__\n"
    assert process.poll() is None
    said, _ = process.communicate(timeout=60)
    assert said == b"ended\n"
    assert process.returncode == 7


def test_it_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    said = tmp_path / "said"
    said.touch()
    parent = start(tmp_path, "-c", PARENT, str(said))
    waiting.until(lambda: b"__main__" in said.read_bytes())
    parent.kill()
    parent.communicate(timeout=60)
    waiting.until(lambda: said.read_bytes().endswith(b"ended\n"))
