"""Steps on disk: reuse, damage, failure, kill -9 and company."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import filelock
import pytest

from edgeship.builder import planning, steps
from edgeship.builder.planning import Job, Step, Task
from edgeship.errors import BuilderFailed, CacheBusy, CheckpointInvalid, DiskShort, NotWritable

SCRIPT = """
import sys
from pathlib import Path
from tests.builder.test_steps import chain, run

def slow(job):
    (job.folder / "half").write_text("half")
    print("started", flush=True)
    sys.stdin.readline()
    (job.folder / "half").unlink()
    (job.folder / "result").write_text(sys.argv[2])
    return 5

result = run(Path(sys.argv[1]), [slow], print)
print((result.folder / "result").read_text(), flush=True)
"""


@dataclass
class Source:
    """Something that steps read."""

    folder: Path
    seen: dict[str, list[int]] = field(default_factory=dict)
    changed: bool = False

    def require_unchanged(self) -> None:
        if self.changed:
            raise CheckpointInvalid("it was changed")


def writes(text: str, counter: list[str] | None = None) -> Callable[[Job], int]:
    """A task's function that writes one file and notes that it ran."""

    def make(job: Job) -> int:
        if counter is not None:
            counter.append(text)
        (job.folder / "sub").mkdir()
        (job.folder / "sub" / "result").write_text(text)
        return len(text)

    return make


def chain(builds: Path, makes: list[Callable[[Job], int]]) -> tuple[list[Task], tuple[Step, ...]]:
    tasks = [Task(f"step{i}", "for a test", {"i": i}, {f"tool{i}": "1"}, make) for i, make in enumerate(makes)]
    return tasks, planning.make_steps(tasks, "digest", builds, steps.looks_done)


def run(
    builds: Path,
    makes: list[Callable[[Job], int]],
    say: Callable[[str], object] = len,
    wait_s: float = 60,
) -> steps.Result:
    tasks, planned = chain(builds, makes)

    def tell(message: str, fraction: float | None) -> None:
        del fraction
        say(message)

    return steps.run_all(tasks, planned, Source(builds.parent), builds, tell, wait_s=wait_s)


def leftovers(builds: Path) -> list[Path]:
    return list(builds.glob(".tmp-*"))


def test_steps_run_once_and_are_reused(tmp_path: Path) -> None:
    ran: list[str] = []
    makes = [writes("one", ran), writes("second", ran)]
    first, again = run(tmp_path / "b", makes), run(tmp_path / "b", makes)
    assert ran == ["one", "second"]
    assert again == first
    assert (first.folder / "sub/result").read_text() == "second"
    assert first.record.tools == {"tool0": "1", "tool1": "1"}
    assert first.record.peak_memory_bytes == len("second")
    assert list(first.record.files) == ["sub/result"]
    assert not leftovers(tmp_path / "b")
    assert not list((tmp_path / "b/logs").iterdir())


def test_each_step_gets_the_result_of_the_one_before(tmp_path: Path) -> None:
    seen: list[Path] = []

    def look(job: Job) -> int:
        seen.append(job.source)
        return 0

    run(tmp_path / "b", [look, look, look])
    planned = chain(tmp_path / "b", [look, look, look])[1]
    assert seen == [tmp_path, planned[0].folder, planned[1].folder]


def test_a_source_that_changes_while_it_is_read_leaves_no_result(tmp_path: Path) -> None:
    source = Source(tmp_path)

    def change(job: Job) -> int:
        source.changed = True
        return writes("half and half")(job)

    tasks, planned = chain(tmp_path / "b", [change])
    with pytest.raises(CheckpointInvalid):
        steps.run_all(tasks, planned, source, tmp_path / "b")
    assert not planned[0].folder.exists()
    assert not leftovers(tmp_path / "b")


@pytest.mark.parametrize(("seen", "found"), [([1, 2], ["begun"]), ([1, 3], [])])
def test_what_a_killed_run_left_is_of_files_that_nobody_wrote_to(
    tmp_path: Path, seen: list[int], found: list[str]
) -> None:
    def begin(job: Job) -> int:
        (job.folder / "begun").touch()
        raise KeyboardInterrupt

    def look(job: Job) -> int:
        left.extend(path.name for path in job.folder.iterdir() if not path.name.startswith("."))
        return 0

    left: list[str] = []
    for make, state in ((begin, [1, 2]), (look, seen)):
        tasks, planned = chain(tmp_path / "b", [make])
        resumable = [replace(task, resumable=True) for task in tasks]
        with contextlib.suppress(KeyboardInterrupt):
            steps.run_all(resumable, planned, Source(tmp_path, {"model.safetensors": state}), tmp_path / "b")
    assert left == found
    assert [path.name for path in planned[0].folder.iterdir()] == [*found, "step.json"]


def test_a_failure_keeps_earlier_steps_and_is_not_cached(tmp_path: Path) -> None:
    ran: list[str] = []

    def fails(job: Job) -> int:
        (job.folder / "half").write_text("half")
        job.log.write_text("why")
        raise BuilderFailed("no", where=str(job.log))

    for _ in range(2):
        with pytest.raises(BuilderFailed) as caught:
            run(tmp_path / "b", [writes("one", ran), fails])
        assert Path(str(caught.value.where)).read_text(encoding="utf-8") == "why"
        assert not leftovers(tmp_path / "b")
    assert run(tmp_path / "b", [writes("one", ran), writes("two", ran)]).folder.is_dir()
    assert ran == ["one", "two"]


def test_ctrl_c_leaves_nothing_half_done(tmp_path: Path) -> None:
    def interrupted(job: Job) -> int:
        (job.folder / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", [interrupted])
    assert not leftovers(tmp_path / "b")
    assert not chain(tmp_path / "b", [interrupted])[1][0].done


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "record"])
def test_a_damaged_result_is_made_again(tmp_path: Path, damage: str) -> None:
    said: list[str] = []
    result = run(tmp_path / "b", [writes("result")])
    path = result.folder / "sub/result"
    if damage == "cut":
        path.write_text("resu")
    elif damage == "flipped":
        path.write_text("tluser")
    elif damage == "gone":
        path.unlink()
    else:
        (result.folder / "step.json").write_text("{")
    again = run(tmp_path / "b", [writes("result")], said.append)
    assert (again.folder / "sub/result").read_text() == "result"
    assert not leftovers(tmp_path / "b")
    if damage != "record":
        assert any("sub/result" in message and "damaged" in message for message in said)


def test_an_earlier_step_that_is_gone_is_not_missed(tmp_path: Path) -> None:
    ran: list[str] = []
    makes = [writes("one", ran), writes("two", ran)]
    run(tmp_path / "b", makes)
    shutil.rmtree(chain(tmp_path / "b", makes)[1][0].folder)
    assert run(tmp_path / "b", makes).record.tools == {"tool0": "1", "tool1": "1"}
    assert ran == ["one", "two"]


def start(builds: Path, text: str) -> subprocess.Popen[str]:
    """A process that makes `text`, once it gets a line."""
    return subprocess.Popen(
        [sys.executable, "-u", "-c", SCRIPT, str(builds), text],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent.parent,
    )


def read_until(child: subprocess.Popen[str], word: str) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        if word in line:
            return
    raise AssertionError(f"the child never said {word!r}")


def test_after_kill_9_the_same_command_works(tmp_path: Path) -> None:
    builds = tmp_path / "b"
    child = start(builds, "never")
    read_until(child, "started")
    assert len(leftovers(builds)) == 1
    child.kill()
    child.wait()
    again = start(builds, "done")
    out, _ = again.communicate("\n", timeout=60)
    assert again.returncode == 0
    assert out.splitlines()[-1] == "done"
    assert not leftovers(builds)


def test_two_processes_that_want_the_same_make_it_once(tmp_path: Path) -> None:
    builds = tmp_path / "b"
    first = start(builds, "first")
    read_until(first, "started")
    second = start(builds, "second")
    read_until(second, "another process")
    first.communicate("\n", timeout=60)
    out, _ = second.communicate("\n", timeout=60)
    assert (first.returncode, second.returncode) == (0, 0)
    assert "started" not in out
    assert out.splitlines()[-1] == "first"


def test_a_lock_held_too_long_is_an_error_that_names_the_step(tmp_path: Path) -> None:
    builds = tmp_path / "b"
    step = chain(builds, [writes("x")])[1][0]
    (builds / "locks").mkdir(parents=True)
    with (
        filelock.FileLock(builds / "locks" / f"{step.key[:32]}.lock"),
        pytest.raises(CacheBusy, match="'step0'") as caught,
    ):
        run(builds, [writes("x")], wait_s=0.05)
    assert step.key[:32] in str(caught.value.where)


def test_a_waiting_thread_reuses_what_the_other_made(tmp_path: Path) -> None:
    ran: list[str] = []
    began = threading.Event()

    def slow(job: Job) -> int:
        began.set()
        time.sleep(0.2)
        return writes("slow", ran)(job)

    other = threading.Thread(target=lambda: run(tmp_path / "b", [slow]))
    other.start()
    assert began.wait(120)
    run(tmp_path / "b", [writes("second", ran)])
    other.join()
    assert ran == ["slow"]


def test_a_builds_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("a file in the folder's place")
    with pytest.raises(NotWritable) as caught:
        run(tmp_path / "b", [writes("x")])
    assert caught.value.where == str(tmp_path / "b")


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    def full(job: Job) -> int:
        raise OSError(28, os.strerror(28), str(job.folder))

    with pytest.raises(DiskShort, match="full") as caught:
        run(tmp_path / "b", [full])
    assert "EDGESHIP_HOME" in str(caught.value.hint)
    assert not leftovers(tmp_path / "b")
