"""`build`: plans say what will be done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeship.cli import main


def plan(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["build", *arguments, "--plan", "--json"]) == 0
    values: dict[str, Any] = json.loads(capsys.readouterr().out)
    return values


def test_a_plan_says_why_another_builder_is_taken(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(capsys, str(tiny))["notes"] == []
    found = plan(capsys, str(tiny), "--method", "k_quant", "--block-size", "16")
    assert [step["name"] for step in found["steps"]] == ["convert"]
    assert found["notes"][0] == "k_quant is asked for, so onnxruntime-genai's builder converts it"
    assert main(["build", str(tiny), "--plan", "--method", "k_quant", "--block-size", "16"]) == 0
    said = capsys.readouterr().out
    assert "note: k_quant is asked for" in said
    assert "predicted: " in said


def test_a_template_is_looked_at_before_anything_is_converted(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tiny / "chat_template.jinja"
    path.write_text("{% for m in messages %}[Round {{ loop.index }}] {{ m.content }}\n{% endfor %}", encoding="utf-8")
    [note] = plan(capsys, str(tiny))["notes"]
    assert "states no prompt parts, which only Foundry Local 1 needs" in note
    path.write_text("hello", encoding="utf-8")
    assert main(["build", str(tiny), "--plan"]) == 2
    assert "the chat template leaves out what the user says" in capsys.readouterr().err


def test_a_budget_is_part_of_the_plan(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bits, budget, plain = (
        plan(capsys, str(tiny), *options)["steps"][-1]["key"]
        for options in (["--bits", "4.8"], ["--budget", "0.15"], [])
    )
    assert bits == budget != plain
