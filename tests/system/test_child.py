"""Work in a child process: answers, errors, death, and no orphans."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from edgeship.errors import MemoryShort
from edgeship.system import child

WORKER = "tests.workers.echo"
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")


def test_result_progress_and_prints_arrive() -> None:
    told: list[tuple[str, float | None]] = []
    heard: list[str] = []
    result = child.run(
        WORKER, {"do": "echo", "text": "grün ☃"}, progress=lambda *said: told.append(said), heard=heard.append
    )
    assert result["echo"] == {"do": "echo", "text": "grün ☃"}
    assert result["peak_memory_bytes"] > 1_000_000
    assert told == [("begun", 0.5)]
    assert heard == ["printed by a library"]


def test_our_errors_come_back_as_they_were() -> None:
    with pytest.raises(MemoryShort) as caught:
        child.run(WORKER, {"do": "fail"})
    assert (caught.value.what, caught.value.where, caught.value.hint) == ("too little", "here", "buy more")


def test_a_crash_is_told_with_its_last_line() -> None:
    with pytest.raises(child.Died) as caught:
        child.run(WORKER, {"do": "crash"})
    assert caught.value.status == 1
    assert caught.value.last == "ValueError: a bug"


@POSIX
def test_a_kill_is_told_as_one() -> None:
    with pytest.raises(child.Died) as caught:
        child.run(WORKER, {"do": "die"})
    assert caught.value.killed
    assert "memory" in caught.value.how


def test_a_module_that_does_not_exist_is_told() -> None:
    with pytest.raises(child.Died, match="No module named"):
        child.run("edgeship.no_such_module", {})


def test_a_flood_of_prints_does_not_block() -> None:
    assert child.run(WORKER, {"do": "flood"})["echo"] == {"do": "flood"}


@POSIX
def test_the_child_ends_when_the_parent_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = f"from edgeship.system import child; child.run({WORKER!r}, {{'do': 'sleep', 'pid_file': {str(pid_file)!r}}})"
    parent = subprocess.Popen([sys.executable, "-c", code])
    worker = _wait_for_pid(pid_file)
    parent.kill()
    parent.wait()
    psutil.wait_procs([worker], timeout=20)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


def _wait_for_pid(path: Path) -> psutil.Process:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if path.exists() and (text := path.read_text(encoding="utf-8")):
            return psutil.Process(int(text))
        time.sleep(0.05)
    raise AssertionError("the child did not start")
