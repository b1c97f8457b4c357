"""Options that commands share: groups become options, and options become recipes."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
import typer.main

from edgeship.cli import main, options
from edgeship.cli.app import app
from edgeship.cli.options import ForceResources, Json, RecipeOptions, grouped, read_variables
from edgeship.errors import UsageError
from edgeship.recipe import RECIPES, Recipe


@dataclass(frozen=True)
class Pair:
    first: ForceResources = False
    second: int = 2


def test_a_group_of_options_is_taken_apart_and_put_together() -> None:
    @grouped
    def command(*, name: str, pair: Pair, as_json: Json = False) -> int:
        """What it does."""
        assert (name, pair, as_json) == ("x", Pair(True, 3), False)
        return 7

    parameters = inspect.signature(command).parameters
    assert {name: parameter.default for name, parameter in parameters.items()} == {
        "name": inspect.Parameter.empty,
        "first": False,
        "second": 2,
        "as_json": False,
    }
    assert parameters["first"].annotation == ForceResources
    assert command.__doc__ == "What it does."
    assert command(name="x", first=True, second=3, as_json=False) == 7


def test_commands_that_ask_a_target_say_the_same_of_it() -> None:
    root: Any = typer.main.get_command(app)
    told = {
        command: {
            parameter.name: parameter.help
            for parameter in root.commands[command].params
            if parameter.name in ("target", "model", "api_key_env")
        }
        for command in ("validate", "eval", "bench")
    }
    assert set(told["validate"]) == {"target", "model", "api_key_env"}
    assert told["validate"] == told["eval"] == told["bench"]


def test_the_command_line_knows_every_recipe_and_method() -> None:
    assert [name.value for name in options.RecipeName] == list(RECIPES)
    for method in get_args(options.MethodName):
        assert Recipe(precision="int4", method=method).method == method  # type: ignore[arg-type]


def test_options_become_fields_of_a_recipe() -> None:
    options = RecipeOptions(32, True, "search", 4.5, calibrate=Path("texts.jsonl"), builder="stream")
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
    assert RecipeOptions(no_calibrate=True).changes() == {"calibrate": False}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--bits", "5", "--budget", "0.2"], "--bits and --budget"),
        (["--budget", "0.5"], "bits"),
        (["--precision", "int3"], "int3"),
        (["--builder", "magic"], "magic"),
        (["--calibrate", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--calibrate", __file__, "--no-calibrate"], "--calibrate and --no-calibrate"),
        (["--no-calibrate", "--method", "feedback"], "calibrate is false"),
    ],
)
@pytest.mark.parametrize("command", ["build", "ship"])
def test_options_that_cannot_be_honoured(
    command: str, arguments: list[str], named: str, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(tiny), *arguments]) == 2
    assert named in capsys.readouterr().err


def test_variables_of_a_template_are_json_or_a_text() -> None:
    given = ["a=true", 'b="true"', "c=low", "d=", 'e={"f": [1]}', "g=NaN", "h=x=y"]
    expected = {"a": True, "b": "true", "c": "low", "d": "", "e": {"f": [1]}, "g": "NaN", "h": "x=y"}
    assert (read_variables(given), read_variables(None)) == (expected, {})
    with pytest.raises(UsageError, match="'x' has no value"):
        read_variables(["x"])
    with pytest.raises(UsageError, match="says 'x' twice"):
        read_variables(["x=1", "y=1", "x=2"])


@pytest.mark.parametrize(
    "arguments",
    [
        *(
            ["cache", "ls", "--cache-dir", ""],
            ["cache", "cd", ""],
            ["cache", "add", ""],
            ["inspect", "x", "--adapter", ""],
        ),
        *(["build", "x", "--output", ""], ["build", "--config", ""], ["ship", "x", "--eval", ""]),
        *(["ship", "x", "--report", ""], ["foundry", "ls", "--foundry-cache-dir", ""], ["foundry", "export", "x", ""]),
    ],
)
def test_an_empty_path_is_not_the_working_folder(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "it is empty" in capsys.readouterr().err
