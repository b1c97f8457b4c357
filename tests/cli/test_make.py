"""`build`, `ship` and `olive-config`: options become recipes, and plans say what will be done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeship.cli import main, make, options
from edgeship.cli.make import RecipeOptions
from edgeship.errors import UsageError
from edgeship.recipe import RECIPES, Recipe


def test_the_parser_knows_every_recipe_and_method() -> None:
    assert [name.value for name in options.RecipeName] == list(RECIPES)
    for method in options.MethodName:
        assert Recipe(precision="int4", method=method.value).method == method.value  # type: ignore[arg-type]


def test_options_become_fields_of_a_recipe() -> None:
    options = RecipeOptions(32, True, "search", 4.5, None, Path("texts.jsonl"), "stream")
    assert options.changes() == {
        "block_size": 32,
        "symmetric": False,
        "method": "search",
        "bits": 4.5,
        "calibration": Path("texts.jsonl"),
        "builder": "stream",
    }
    assert RecipeOptions().changes() == {}
    assert RecipeOptions(budget=0.15).changes() == {"bits": pytest.approx(4.8)}
    with pytest.raises(UsageError, match="--bits and --budget"):
        RecipeOptions(bits=5.0, budget=0.2).changes()


def test_a_candidate_takes_the_options_that_mean_something_to_it() -> None:
    options = RecipeOptions(block_size=32, bits=5.0, calibrate=Path("texts"), builder="genai")
    found = {name: make._candidate(name, options) for name in RECIPES}
    assert found["fp16"] == Recipe(name="fp16", precision="fp16", builder="genai")  # type: ignore[arg-type]
    assert (found["int8"].block_size, found["int8"].bits, found["int8"].calibration) == (32, None, Path("texts"))
    assert (found["int4"].bits, found["int4-best"].bits) == (5.0, 5.0)
    assert [recipe.label for recipe in found.values()] == list(RECIPES)
    assert {recipe.builder for recipe in found.values()} == {"genai"}


def plan(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["build", *arguments, "--plan", "--json"]) == 0
    values: dict[str, Any] = json.loads(capsys.readouterr().out)
    return values


def test_a_plan_says_why_another_builder_is_taken(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(capsys, str(tiny))["notes"] == []
    found = plan(capsys, str(tiny), "--method", "k_quant", "--block-size", "16")
    assert [step["name"] for step in found["steps"]] == ["convert"]
    assert found["notes"] == ["k_quant is asked for, so onnxruntime-genai's builder converts it"]
    assert main(["build", str(tiny), "--plan", "--method", "k_quant", "--block-size", "16"]) == 0
    said = capsys.readouterr().out
    assert "note: k_quant is asked for" in said
    assert "predicted: " in said


def test_a_budget_is_part_of_the_plan(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bits, budget, plain = (
        plan(capsys, str(tiny), *options)["steps"][-1]["key"]
        for options in (["--bits", "4.8"], ["--budget", "0.15"], [])
    )
    assert bits == budget != plain


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--bits", "5", "--budget", "0.2"], "--bits and --budget"),
        (["--budget", "0.5"], "bits"),
        (["--precision", "int3"], "int3"),
        (["--builder", "magic"], "magic"),
        (["--calibrate", "nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
@pytest.mark.parametrize("command", ["build", "ship"])
def test_options_that_cannot_be_honoured(
    command: str, arguments: list[str], named: str, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(tiny), *arguments]) == 2
    assert named in capsys.readouterr().err


def test_ship_takes_a_candidate_once(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ship", str(tiny), "-p", "int4", "-p", "int4"]) == 2
    assert "twice" in capsys.readouterr().err


def test_inspect_describes_what_cannot_be_built(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tiny), "--json"]) == 0
    needs = json.loads(capsys.readouterr().out)["precisions"]
    assert [(need["precision"], need["builder"]) for need in needs] == [
        (name, "stream") for name in ("fp32", "fp16", "int8", "int4")
    ]
    config = json.loads((tiny / "config.json").read_bytes()) | {"architectures": ["StrangeForCausalLM"]}
    (tiny / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert main(["inspect", str(tiny)]) == 0
    shown = capsys.readouterr()
    assert "StrangeForCausalLM" in shown.out
    assert "cannot be built: no builder here knows the architecture StrangeForCausalLM" in shown.err
    assert "PRECISION" not in shown.out


def test_olive_config_is_what_build_reads(
    tiny: Path, tmp_path: Path, tiny_adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "workflow.json"
    arguments = ["olive-config", str(tiny), "--adapter", str(tiny_adapter), "-p", "int4-balanced"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert main([*arguments, "--output", str(written), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"workflow": str(written)}
    assert json.loads(printed) == json.loads(written.read_bytes())
    assert json.loads(printed)["input_model"]["adapter_path"] == str(tiny_adapter)
    by_config = plan(capsys, "--config", str(written))["steps"][-1]["key"]
    by_options = plan(capsys, str(tiny), "--adapter", str(tiny_adapter), "-p", "int4-balanced")["steps"][-1]["key"]
    assert by_config == by_options
    assert main(["olive-config", str(tiny), "--output", str(tmp_path / "none" / "x.json")]) == 7
    assert main(["olive-config", str(tiny), "-p", "fp16"]) == 2
    assert "fp16" in capsys.readouterr().err
