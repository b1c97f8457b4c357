"""The same checkpoint, recipe and tools give the same bytes: elsewhere, later, under other names, on fewer cores."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgeship.package import manifest

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "triage"
# Where the system lets a process choose its cores, this one takes a single one; then it is the command line.
ON_ONE_CORE = """
import os, sys
from edgeship.cli import main
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
sys.exit(main(sys.argv[1:]))
"""


def build(root: Path, names: dict[str, str], *options: str, start: list[str], seed: str) -> Path:
    """The package that a copy of the example under `root` becomes. names: what the copies are called."""
    words = []
    for kind, name in names.items():
        copy = root / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        source = EXAMPLE / kind
        shutil.copytree(source, copy) if source.is_dir() else shutil.copyfile(source, copy)
        words += [*{"adapter": ["--adapter"], "eval.jsonl": ["--calibrate"]}.get(kind, []), str(copy)]
    environment = os.environ | {
        "EDGESHIP_HOME": str(root / "home"),
        "EDGESHIP_CONFIG": str(root / "config.toml"),
        "PYTHONHASHSEED": seed,
        "TZ": "UTC" if seed == "1" else "Asia/Tokyo",
    }
    output = root / f"called-{seed}"
    command = [sys.executable, *start, "build", *words, "--output", str(output), "--force-resources", *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return output


def assert_the_same(tmp_path: Path, names: dict[str, str], *options: str) -> None:
    first = build(tmp_path / "a", names, *options, start=["-m", "edgeship"], seed="1")
    others = {kind: f"deep/er/other-{Path(name).stem}.2" for kind, name in names.items()}
    second = build(tmp_path / "elsewhere", others, *options, start=["-c", ON_ONE_CORE], seed="2")
    contents = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in (first, second)]
    assert contents[0].keys() == contents[1].keys()
    assert [name for name in contents[0] if contents[0][name] != contents[1][name]] == []
    assert manifest.read(first).digest == manifest.read(second).digest
    everything = b"".join(contents[0].values())
    for trace in (tmp_path.name, names["checkpoint" if "checkpoint" in names else "base"], "called-1"):
        assert trace.encode() not in everything


@pytest.mark.parametrize("recipe", ["fp32", "fp16", "int4-fast"])
def test_a_build_is_the_same_everywhere(recipe: str, tmp_path: Path) -> None:
    assert_the_same(tmp_path, {"checkpoint": "the-checkpoint"}, "--precision", recipe)


@pytest.mark.parametrize(("recipe", "method"), [("int8", "feedback"), ("int4", "feedback"), ("int4-fast", "search")])
def test_a_calibrated_build_is_the_same_on_fewer_cores(recipe: str, method: str, tmp_path: Path) -> None:
    names = {"checkpoint": "the-checkpoint", "eval.jsonl": "texts.jsonl"}
    assert_the_same(tmp_path, names, "--precision", recipe, "--method", method)


@pytest.mark.parametrize("builder", ["stream", "genai"])
def test_a_merged_adapter_is_the_same_on_fewer_cores(builder: str, tmp_path: Path) -> None:
    names = {"base": "the-base", "adapter": "the-adapter"}
    assert_the_same(tmp_path, names, "--precision", "int4", "--builder", builder)
