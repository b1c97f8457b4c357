"""The example, shipped on an emulated aarch64: `make test-aarch64`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import emulated

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "triage"
CASES = 12


@dataclass(frozen=True)
class Shipped:
    """What a ship chose, the package's files, and every candidate's answers."""

    chosen: str
    files: dict[str, bytes]
    answers: dict[str, list[tuple[str, str]]]


@pytest.fixture(scope="module")
def python(request: pytest.FixtureRequest) -> Path:
    if not request.config.getoption("--aarch64"):
        pytest.skip("`make test-aarch64` runs it")
    try:
        return emulated.interpreter(Path(sys.prefix) / "aarch64")
    except emulated.CannotEmulate as reason:
        pytest.skip(str(reason))


def ship(python: Path, folder: Path) -> Shipped:
    """The example with its first cases; one thread, since emulated ones that wait for each other take the processor."""
    cases = (EXAMPLE / "eval.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[:CASES]
    folder.mkdir()
    (folder / "eval.jsonl").write_text("".join(cases), encoding="utf-8")
    command = [str(python), "-m", "edgeship", "ship", str(EXAMPLE / "checkpoint"), "--json", "--name", "triage"]
    command += ["--eval", str(folder / "eval.jsonl"), "--threads", "1", "--reference", "fp32", "--gate-effort", "off"]
    environment = os.environ | {"EDGESHIP_HOME": str(folder), "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(done.stdout)
    report: dict[str, Any] = json.loads(Path(result["report"]["json"]).read_text(encoding="utf-8"))
    return Shipped(
        chosen=result["chosen"],
        files={path.name: path.read_bytes() for path in Path(result["folder"]).iterdir()},
        answers={item["label"]: answers(item["measurement"]["evaluation"]) for item in report["candidates"]},
    )


def answers(evaluation: dict[str, Any]) -> list[tuple[str, str]]:
    return [(case["id"], case["answer"]) for case in evaluation["records"]]


def test_an_emulated_aarch64_ships_the_same(python: Path, tmp_path: Path) -> None:
    machine = subprocess.run(
        [python, "-c", "import platform; print(platform.machine())"], capture_output=True, text=True, check=True
    )
    assert machine.stdout == "aarch64\n"
    there, here = ship(python, tmp_path / "there"), ship(Path(sys.executable), tmp_path / "here")
    assert there.chosen == here.chosen
    assert there.answers == here.answers
    assert len(there.answers["int4"]) == CASES
    assert sorted(there.files) == sorted(here.files)
    assert [name for name, content in there.files.items() if content != here.files[name]] == []
