"""What is logged over the whole road, at the most that can be logged: what was done, and nothing of what was said."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from edgeship.cli import main

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parent.parent / "examples" / "triage"
LOGGED = ("--log-level", "debug")
LINE = re.compile(r"^\d{4}-\d\d-\d\d [\d:,]{12} (?:DEBUG|INFO|WARNING|ERROR) (edgeship\.\w+): (.*)$", re.MULTILINE)


def test_no_prompt_and_no_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases, case = tmp_path / "eval.jsonl", (EXAMPLE / "eval.jsonl").read_text(encoding="utf-8").splitlines()[0]
    cases.write_text(case + "\n", encoding="utf-8")
    question = json.loads(case)["messages"][0]["content"]
    order = json.loads(json.loads(case)["expected"])["order"]
    ship = ["ship", str(EXAMPLE / "checkpoint"), "--eval", str(cases), "--precision", "int4", "--ask", question]
    ship += ["--gate-effort", "off"]
    assert main([*LOGGED, *ship, "--json"]) == 0
    shipped = capsys.readouterr()
    assert main([*LOGGED, "model", "run", json.loads(shipped.out)["package"], question]) == 0
    ran = capsys.readouterr()
    assert order in question
    assert order in ran.out
    lines = LINE.findall(shipped.err) + LINE.findall(ran.err)
    assert {room for room, _ in lines} >= {f"edgeship.{room}" for room in ("builder", "engine", "store", "system")}
    assert not [message for _, message in lines if order in message]
