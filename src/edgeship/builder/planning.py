"""What a build will do: its steps, each with a key made of all that decides its result, and nothing else."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeship.builder.predict import Prediction
from edgeship.errors import DependencyMissing
from edgeship.progress import Progress
from edgeship.recipe import Recipe
from edgeship.system.shell import our_install

if TYPE_CHECKING:
    from edgeship.checkpoint import Checkpoint

STEP_FORMAT = 3
"""Raised when this code makes something else from the same options."""


@dataclass(frozen=True)
class Job:
    """What a task gets when it runs.

    folder: empty, or what a killed run of a resumable task left there; the task fills it.
    source: the result of the task before, or the checkpoint's folder.
    log: where a child process writes what it says; kept when the task fails.
    """

    folder: Path
    source: Path
    log: Path
    progress: Progress


@dataclass(frozen=True)
class Task:
    """One thing that a builder does: what decides its result, and how to do it.

    options: plain values that decide the result; no paths, threads or host names.
    tools: versions of the packages that make it.
    make: fills `job.folder`; returns the peak memory of its child process in bytes, or 0 where it has none.
    resumable: it goes on with what a killed run left in `job.folder`.
    """

    name: str
    detail: str
    options: Mapping[str, Any]
    tools: Mapping[str, str]
    make: Callable[[Job], int]
    resumable: bool = False


@dataclass(frozen=True)
class Step:
    """A task in its place: where its result lies, and whether it is there already."""

    name: str
    key: str
    done: bool
    folder: Path
    detail: str
    needs: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What is to be built, the steps in the order in which they run, and what they will cost.

    recipe: with its builder and method chosen. tasks: one for each step. notes: what the user should know.
    """

    checkpoint: Checkpoint
    recipe: Recipe
    tasks: tuple[Task, ...]
    steps: tuple[Step, ...]
    prediction: Prediction
    notes: tuple[str, ...] = ()


def make_steps(
    tasks: Sequence[Task], digest: str, builds_dir: Path, is_done: Callable[[Path], bool]
) -> tuple[Step, ...]:
    """Each task as a step on top of the one before; the first stands on the checkpoint's digest."""
    steps: list[Step] = []
    source, needs = digest, tuple[str, ...]()
    for task in tasks:
        key = step_key(task.name, task.options, source, task.tools)
        folder = builds_dir / key[:32]
        steps.append(Step(task.name, key, is_done(folder), folder, task.detail, needs))
        source, needs = key, (task.name,)
    return tuple(steps)


def step_key(name: str, options: Mapping[str, Any], source: str, tools: Mapping[str, str]) -> str:
    """SHA-256 over all that decides a step's result. Raises TypeError for what is not plain JSON."""
    parts = {
        "format": STEP_FORMAT,
        "name": name,
        "options": _plain(options),
        "source": source,
        "tools": _plain(tools),
    }
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> object:
    """The value itself, once it is certain that JSON writes it in one way only."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    raise TypeError(f"a step's key cannot hold {value!r}: only plain JSON values keep their meaning")


def tool_versions(*packages: str, extra: str | None = None) -> dict[str, str]:
    """Versions of installed packages. Raises DependencyMissing that names every absent one, and the extra with them."""
    versions, missing = {}, []
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        raise DependencyMissing(
            f"a build needs {', '.join(missing)}, which this environment lacks",
            hint=f"Run: {our_install(extra)}",
        )
    return versions
