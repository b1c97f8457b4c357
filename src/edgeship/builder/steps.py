"""Steps on disk: made once, in a temporary folder, under a lock, and reused while their bytes are unchanged."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from edgeship.builder import garbage
from edgeship.builder.garbage import PARTIAL, STEP_NAME
from edgeship.builder.planning import STEP_FORMAT, Job, Step, Task
from edgeship.errors import BuilderFailed, MemoryShort
from edgeship.progress import Progress, silent
from edgeship.system import foreign, json_file
from edgeship.system.json_file import MOST_BYTES, Complaint, write_object
from edgeship.system.storage import FileDigest, digest_file, disk_errors, locked, new_folder, remove_folder, touch

_ELSEWHERE = "set EDGESHIP_HOME to another folder; then run the same command again."
_SOURCE_NAME = ".source.json"
LOCK_WAIT_S = 4 * 3600.0
_log = logging.getLogger("edgeship.builder")


class StepRecord(BaseModel):
    """What `step.json` says of the folder it lies in; written last, so its presence means done.

    tools, wall_s, peak_memory_bytes: of this step and of those it stands on, so that they may be removed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = STEP_FORMAT
    name: str
    key: str
    options: dict[str, Any]
    tools: dict[str, str]
    wall_s: float
    peak_memory_bytes: int
    files: dict[str, FileDigest]


class Source(Protocol):
    """What the first step reads: a checkpoint.

    folder: where it lies. seen: what the system said of its files when they were read to name the steps.
    """

    @property
    def folder(self) -> Path: ...

    @property
    def seen(self) -> Mapping[str, list[int]]: ...

    def require_unchanged(self) -> None:
        """Raises CheckpointInvalid where its files are no longer as they were seen."""
        ...


@dataclass(frozen=True)
class Result:
    """A finished step. `record` tells what it cost when it was made, which may be long ago."""

    folder: Path
    record: StepRecord


def looks_done(folder: Path) -> bool:
    """Whether a step's result is there with all its files at their sizes; contents are not read."""
    record = _read_record(folder)
    return record is not None and all(_size(folder / name) == file.size_bytes for name, file in record.files.items())


def run_all(
    tasks: Sequence[Task],
    steps: Sequence[Step],
    source: Source,
    builds_dir: Path,
    progress: Progress = silent,
    *,
    wait_s: float = LOCK_WAIT_S,
) -> Result:
    """The last step's result.

    A step before the latest finished one is not made again, even if it is gone.
    Raises what a task raises, CacheBusy, NotWritable and DiskShort; a failure leaves no result behind.
    """
    garbage.use(builds_dir, [step.folder.name for step in steps])
    result, first = None, 0
    for index in reversed(range(len(steps))):
        result = find(steps[index], progress)
        if result is not None:
            touch(result.folder)
            first = index + 1
            break
    for step in steps[:first]:
        _log.info("step %s, key %s: done before", step.name, step.key)
    for task, step in zip(tasks[first:], steps[first:], strict=True):
        result = run(task, step, result, source, builds_dir, progress, wait_s=wait_s)
    assert result is not None, "a build has at least one step"
    return result


def find(step: Step, progress: Progress = silent) -> Result | None:
    """The step's result, every byte checked; None where it is not there or damaged."""
    record = _read_record(step.folder)
    if record is None or record.key != step.key:
        return None
    for name, file in record.files.items():
        if not _is_intact(step.folder / name, file):
            progress(f"{step.name}: the stored result is damaged ({name}), so it is made again", None)
            return None
    return Result(step.folder, record)


def run(
    task: Task,
    step: Step,
    before: Result | None,
    source: Source,
    builds_dir: Path,
    progress: Progress = silent,
    *,
    wait_s: float = LOCK_WAIT_S,
) -> Result:
    """The step's result, made now unless another process has just made it.

    before: the step before; the first stands on the source.
    """
    lock = builds_dir / "locks" / f"{step.key[:32]}.lock"
    with disk_errors(builds_dir, _ELSEWHERE), locked(lock, wait_s, progress, what=step.name):
        found = find(step)
        if found is not None:
            return found
        if step.folder.exists():
            remove_folder(step.folder)  # damaged, and room is needed for the new one
        partial = builds_dir / f"{PARTIAL}{step.folder.name}"
        if _read_source(partial) != source.seen:
            shutil.rmtree(partial, ignore_errors=True)  # what lies there may be of what the files held in between
        goes_on = _was_cut_short if task.resumable else None
        with new_folder(step.folder, at=partial, goes_on=goes_on) as temporary:
            write_object(temporary / _SOURCE_NAME, {"seen": source.seen})
            record = _make(task, step, before, source, temporary, builds_dir, progress)
        return Result(step.folder, record)


def _was_cut_short(error: BaseException) -> bool:
    """True for Ctrl-C and want of memory: the work itself was in order, and the next run goes on with it."""
    return isinstance(error, KeyboardInterrupt | MemoryShort)


def _read_source(partial: Path) -> Any:
    """What a killed run noted of the source that it read; None where it noted nothing."""
    complaint = Complaint(BuilderFailed, "Run the same command again.")
    try:
        return json_file.read_optional(partial / _SOURCE_NAME, complaint).get("seen")
    except BuilderFailed:
        return None


def _make(
    task: Task,
    step: Step,
    before: Result | None,
    source: Source,
    folder: Path,
    builds_dir: Path,
    progress: Progress,
) -> StepRecord:
    log = builds_dir / "logs" / f"{step.key[:32]}.log"
    log.parent.mkdir(exist_ok=True)
    progress(f"{step.name}: {step.detail}", None)
    _log.info("step %s, key %s: begun", step.name, step.key)
    started = time.perf_counter()
    peak = task.make(Job(folder, before.folder if before else source.folder, log, progress))
    source.require_unchanged()
    (folder / _SOURCE_NAME).unlink()
    wall_s = time.perf_counter() - started
    _log.info("step %s, key %s: made in %.1f s, peak memory %d bytes", step.name, step.key, wall_s, peak)
    record = StepRecord(
        name=step.name,
        key=step.key,
        options=dict(task.options),
        tools=(before.record.tools if before else {}) | dict(task.tools),
        wall_s=round(wall_s + (before.record.wall_s if before else 0.0), 3),
        peak_memory_bytes=max(peak, before.record.peak_memory_bytes if before else 0),
        files={
            path.relative_to(folder).as_posix(): digest_file(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        },
    )
    write_object(folder / STEP_NAME, record.model_dump(mode="json"))
    log.unlink(missing_ok=True)
    return record


def _read_record(folder: Path) -> StepRecord | None:
    try:
        return StepRecord.model_validate_json(foreign.read_bytes(folder / STEP_NAME, most_bytes=MOST_BYTES))
    except (OSError, ValidationError):
        return None


def _is_intact(path: Path, expected: FileDigest) -> bool:
    try:
        return path.stat().st_size == expected.size_bytes and digest_file(path) == expected
    except OSError:
        return False


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
