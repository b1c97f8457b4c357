"""Recipes from values and from TOML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.errors import RecipeInvalid
from edgeship.recipe import BLOCK_SIZES, Precision, Recipe, make_recipe, named_recipe
from edgeship.recipe.file import read_recipe_file

RECIPES = st.builds(
    Recipe,
    precision=st.sampled_from(Precision),
    block_size=st.sampled_from(BLOCK_SIZES),
    symmetric=st.booleans(),
    method=st.sampled_from(["rtn", "k_quant"]),
    accuracy_level=st.sampled_from([1, 4]),
)


@given(RECIPES, RECIPES)
def test_keys_are_equal_exactly_where_builds_are(one: Recipe, other: Recipe) -> None:
    used = ["precision"]
    if one.precision.quantized:
        used += ["block_size", "symmetric", "method", "accuracy_level"]
    same = all(getattr(one, name) == getattr(other, name) for name in used)
    assert (one.to_key() == other.to_key()) is same


@given(RECIPES)
def test_a_recipe_survives_its_own_values(recipe: Recipe) -> None:
    assert make_recipe(recipe.model_dump(mode="json"), where="x") == recipe


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({}, ["precision"]),
        ({"precision": "int3"}, ["precision", "'int3'"]),
        ({"precision": "int4", "block_size": 48}, ["block_size", "48"]),
        ({"precision": "int4", "blocksize": 32}, ["blocksize"]),
        ({"precision": "int4", "provider": "CUDAExecutionProvider"}, ["provider", "CUDA"]),
        ({"precision": "int3", "accuracy_level": 2, "method": "gptq"}, ["precision", "accuracy_level", "method"]),
    ],
)
def test_every_fault_is_named(values: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(RecipeInvalid) as caught:
        make_recipe(values, where="recipe.toml")
    assert all(word in caught.value.what for word in named)
    assert caught.value.where == "recipe.toml"
    assert "block_size" in str(caught.value.hint)


def write(tmp_path: Path, text: str, name: str = "recipe.toml") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("recipe.toml", 'precision = "fp32"\r\n'),
        ("flow.json", '{"passes": {"m": {"type": "ModelBuilder", "precision": "fp32"}}}'),
    ],
)
def test_a_recipe_file_may_begin_with_a_byte_order_mark(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_bytes(f"\ufeff{text}".encode())
    assert read_recipe_file(path).recipe.precision == Precision.FP32


def test_a_toml_file_may_name_the_checkpoint_too(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'checkpoint = "org/model@main"\nadapter = "lora"\noutput = "out"\nprecision = "int4"\nblock_size = 64\n',
    )
    found = read_recipe_file(path)
    assert found.recipe == Recipe(precision=Precision.INT4, block_size=64)
    assert (found.checkpoint, found.adapter, found.output) == ("org/model@main", Path("lora"), Path("out"))
    assert found.notes == ()


def test_json_is_read_as_an_olive_workflow(tmp_path: Path) -> None:
    builder = '{"type": "ModelBuilder", "precision": "int8"}'
    text = f'{{"input_model": {{"type": "HfModel", "model_path": "m"}}, "passes": {{"b": {builder}}}}}'
    found = read_recipe_file(write(tmp_path, text, "workflow.JSON"))
    assert (found.recipe.precision, found.checkpoint) == (Precision.INT8, "m")


WORKFLOW = """# As Olive's documentation has it.
$schema: https://example.org/schema.json
input_model:
  type: HfModel
  model_path: m
  torch_dtype: auto
  attention_implementation: eager
passes:
  builder: {type: ModelBuilder, precision: int4, int4_block_size: 32}
"""


@pytest.mark.parametrize("name", ["workflow.yaml", "workflow.YML"])
def test_yaml_is_read_as_an_olive_workflow(tmp_path: Path, name: str) -> None:
    found = read_recipe_file(write(tmp_path, WORKFLOW, name))
    assert (found.recipe.precision, found.recipe.block_size, found.checkpoint) == (Precision.INT4, 32, "m")
    assert [note.partition(" ")[0] for note in found.notes] == ["input_model.attention_implementation", "$schema"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a: [1", "not valid YAML: line 1"),
        ("a: &x 1\nb: *x", "not valid YAML: line 2 refers to another part"),
        ("a: 2026-11-26", "not valid YAML: it holds what JSON cannot"),
        ("a: .nan", "not valid YAML"),
        ("!!python/object/apply:os.getcwd []", "not valid YAML: line 1: could not determine a constructor"),
        ("[" * 5000, "not valid YAML: line 1: its values nest too deeply"),
        ("- " * 5000, "not valid YAML: line 1: its values nest too deeply"),
        ("[\n" * 30_000, "not valid YAML: line 101: its values nest too deeply"),
        (WORKFLOW + "passes: {}", "not valid YAML: line 10: 'passes' is there twice"),
        ("a: [{b: 1, c: 2, b: 3}]", "not valid YAML: line 1: 'b' is there twice"),
        ("a: !!bool perhaps", "not valid YAML: it holds what JSON cannot"),
        ("a: !!timestamp soon", "not valid YAML: it holds what JSON cannot"),
        ("a: !!int ''", "not valid YAML: it holds what JSON cannot"),
        ("a: .inf", "not valid YAML: it holds a number, or a value with a tag, that JSON has none for"),
        (f"a: {'9' * 5000}", "not valid YAML: it holds a number, or a value with a tag, that JSON has none for"),
        ("a: 1\nb: 'x\0y'", "not valid YAML: line 2: the character U.0000 is none of YAML's"),
        ('a: "\\ud800"', "not valid JSON"),
        ("a: 1\n" * 20_000, "larger than 64 KiB"),
        ("just text", "an Olive workflow is a JSON object"),
        ("passes: {}", "ModelBuilder"),
    ],
)
def test_yaml_that_cannot_be_honoured_is_named(tmp_path: Path, text: str, named: str) -> None:
    path = write(tmp_path, text, "workflow.yaml")
    with pytest.raises(RecipeInvalid, match=named) as caught:
        read_recipe_file(path)
    assert caught.value.where == str(path)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("precision = ", "not valid TOML"),
        ('precision = "int4"\nblock_size = "x"', "block_size"),
        ('precision = "int4"\ncheckpoint = 5', "checkpoint"),
        ('precision = "int4"\nadapter = [1]', "adapter"),
        ('precision = "int4"\noutput = "a\\u0000b"', "output: .*no file can be called that"),
        ('precision = "int4"\nadapter = ""', "adapter: .*no file can be called that"),
        ('precision = "int4"\ncalibration = " "', "calibration: .*no file can be called that"),
        ('precision = "int4"\nsymmetric = "yes"', r"symmetric: .* \(got 'yes'\)"),
        ('precision = "int4"\nbits = "5.5"', r"bits: .* \(got '5.5'\)"),
        ('precision = "int4"\nbits = nan', "bits"),
        ('precision = "int4"\naccuracy_level = true', "accuracy_level: .* true and false are no numbers"),
        ('precision = "int4"\nblock_size = ' + "9" * 5000, "not valid TOML: Exceeds the limit"),
        ('precision = "int4"\nblock_size = ' + "[" * 5000, "not valid TOML: its values nest too deeply"),
        (f'precision = "{"x" * 10_000}"', r"precision: .* \(got 'x+\.\.\.x+'\)"),
        (".".join("a" * 5_000) + " = 1", "a: Extra inputs"),
    ],
)
def test_a_file_that_cannot_be_honoured_is_named(tmp_path: Path, text: str, named: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(RecipeInvalid, match=named) as caught:
        read_recipe_file(path)
    assert caught.value.where == str(path)


def test_a_missing_or_binary_file_is_named(tmp_path: Path) -> None:
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none.toml", binary):
        with pytest.raises(RecipeInvalid, match="cannot be read") as caught:
            read_recipe_file(path)
        assert caught.value.where == str(path)


def test_calibration_texts_that_are_not_there_are_named(tmp_path: Path) -> None:
    recipe = Recipe(precision=Precision.INT4, calibration=tmp_path / "none")
    with pytest.raises(RecipeInvalid, match="the calibration texts cannot be read"):
        recipe.to_key()


def test_a_file_may_name_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    text = 'adapter = "~/lora"\noutput = "~/out"\nprecision = "int4"\ncalibration = "~/texts"\n'
    found = read_recipe_file(write(tmp_path, text))
    assert (found.adapter, found.output, found.recipe.calibration) == tuple(
        tmp_path / name for name in ("lora", "out", "texts")
    )


def test_the_file_on_the_page_of_recipes_is_the_recipe_int4(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "recipes.md"
    _, _, rest = page.read_text(encoding="utf-8").partition("```toml\n")
    found = read_recipe_file(write(tmp_path, rest.partition("```")[0]))
    assert found.recipe.model_copy(update={"name": "int4"}) == named_recipe("int4", {}, where="here")
