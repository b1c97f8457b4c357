"""What builds leave behind goes, oldest use first, and never under a process that uses it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgeship import builder
from edgeship.builder import steps
from edgeship.builder.garbage import collect, keep_limit, use
from edgeship.checkpoint import open_checkpoint
from edgeship.recipe import Precision, Recipe
from edgeship.settings import Settings
from edgeship.system import storage

# Uses the step argv[2] of the builds in argv[1], says so and waits for its end.
USER = """
import sys
from pathlib import Path
from edgeship.builder.garbage import use
use(Path(sys.argv[1]), [sys.argv[2]])
print("used", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def builds(tmp_path: Path) -> Path:
    """Finished steps "a" to "c", used one after another; partial work of "d" and a log."""
    root = tmp_path / "builds"
    for age, name in enumerate(("c", "b", "a", ".tmp-d")):
        (root / name).mkdir(parents=True)
        (root / name / "data").write_bytes(bytes(1000))
        if not name.startswith("."):
            (root / name / "step.json").write_bytes(b"{}")
        os.utime(root / name, (0, 10_000 - age))
    (root / "logs").mkdir()
    (root / "logs" / "d.log").write_bytes(b"why")
    return root


def left(builds: Path) -> set[str]:
    return {path.name for path in builds.iterdir()} - {"locks", "logs"}


def user(builds: Path, step: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", USER, str(builds), step]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "used\n"
    return process


def test_everything_goes_and_is_named(builds: Path) -> None:
    said = collect(builds, dry_run=True)
    assert left(builds) == {"a", "b", "c", ".tmp-d"}
    assert collect(builds) == said
    assert sorted((item.kind, item.path.name, item.size_bytes) for item in said) == [
        ("log", "d.log", 3),
        ("partial work", ".tmp-d", 1000),
        ("step", "a", 1002),
        ("step", "b", 1002),
        ("step", "c", 1002),
    ]
    assert left(builds) == set()
    assert list((builds / "logs").iterdir()) == []
    assert collect(builds) == []


def test_the_limit_takes_what_was_used_longest_ago(builds: Path) -> None:
    storage.touch(builds / "a")
    assert [item.path.name for item in keep_limit(builds, 2500)] == [".tmp-d", "b"]
    assert left(builds) == {"a", "c"}
    assert (builds / "logs" / "d.log").is_file()
    assert keep_limit(builds, 2500) == []


@pytest.mark.parametrize("step", ["a", "d"])
def test_what_a_running_process_uses_stays_until_it_ends(builds: Path, step: str) -> None:
    process = user(builds, step)
    collect(builds)
    assert left(builds) == {"a" if step == "a" else ".tmp-d"}
    process.kill()
    process.communicate()
    collect(builds)
    assert left(builds) == set()
    assert list((builds / "locks" / "users").iterdir()) == []


def test_this_process_keeps_its_own(builds: Path) -> None:
    use(builds, ["b"])
    use(builds, ["b"])
    assert len(list((builds / "locks" / "users").iterdir())) == 1
    keep_limit(builds, 1)
    assert left(builds) == {"b"}


def test_no_builds_are_no_garbage(tmp_path: Path) -> None:
    assert collect(tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


def test_a_build_keeps_the_limit_and_itself(builds: Path, tiny: Path, settings: Settings) -> None:
    builds.rename(settings.builds_dir)
    tight = replace(settings, builds_limit_bytes=1)
    made = builder.build(open_checkpoint(str(tiny)), Recipe(precision=Precision.INT8), tight)
    assert left(settings.builds_dir) == {made.folder.name}
    assert steps.looks_done(made.folder)
