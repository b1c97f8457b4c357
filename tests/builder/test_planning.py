"""Keys: the same for the same work, another for anything that changes it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship import builder
from edgeship.builder import planning
from edgeship.checkpoint import open_checkpoint
from edgeship.errors import DependencyMissing, RecipeInvalid
from edgeship.recipe import Precision, Recipe
from edgeship.settings import Settings
from edgeship.system.shell import our_install
from tests import checkpoints

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
OPTIONS = st.dictionaries(st.text(), PLAIN, max_size=4)


@given(OPTIONS)
def test_the_order_of_options_does_not_matter(options: dict[str, Any]) -> None:
    backwards = dict(reversed(options.items()))
    assert planning.step_key("s", options, "d", {"a": "1", "b": "2"}) == planning.step_key(
        "s", backwards, "d", {"b": "2", "a": "1"}
    )


@given(OPTIONS, st.text(min_size=1), st.sampled_from(["name", "options", "source", "tools"]))
def test_any_change_changes_the_key(options: dict[str, Any], extra: str, part: str) -> None:
    before: dict[str, Any] = {"name": "s", "options": options, "source": "d", "tools": {"torch": "1"}}
    changed = {
        "name": "s" + extra,
        "options": options | {extra + str(len(options)): [options.get(extra), 0]},
        "source": "d" + extra,
        "tools": {"torch": "1" + extra},
    }
    assert planning.step_key(**before) != planning.step_key(**(before | {part: changed[part]}))


def test_values_of_other_types_are_other_keys() -> None:
    values = (1, True, "1", 1.5, None, [1], {"1": 1})
    assert len({planning.step_key("s", {"v": value}, "d", {}) for value in values}) == len(values)


@pytest.mark.parametrize("value", [Path("x"), {1, 2}, float("nan"), float("inf"), object(), {1: 2}, b"x", Precision])
def test_a_value_without_one_way_to_write_it_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="only plain JSON"):
        planning.step_key("s", {"v": value}, "d", {})


def test_missing_tools_are_named_together() -> None:
    with pytest.raises(DependencyMissing) as caught:
        planning.tool_versions("numpy", "no-such-tool-1", "no-such-tool-2")
    assert "no-such-tool-1, no-such-tool-2" in caught.value.what
    assert our_install() in str(caught.value.hint)


def steps_of(folder: Path, settings: Settings, precision: str, **options: Any) -> dict[str, builder.Step]:
    """onnxruntime-genai's builder has more than one step; test_stream.py has the streaming builder's."""
    adapter = options.pop("adapter", None)
    options.setdefault("builder", "genai")
    checkpoint = open_checkpoint(str(folder), adapter=adapter)
    planned = builder.plan(checkpoint, Recipe(precision=Precision(precision), **options), settings)
    return {step.name: step for step in planned.steps}


def test_fp16_stands_on_the_step_that_fp32_is(tiny: Path, settings: Settings) -> None:
    full, half = steps_of(tiny, settings, "fp32"), steps_of(tiny, settings, "fp16")
    assert list(full) == ["convert"]
    assert list(half) == ["convert", "halve"]
    assert half["convert"] == full["convert"]
    assert half["halve"].needs == ("convert",)
    assert half["halve"].folder.parent == settings.builds_dir
    assert not half["halve"].done


def test_an_adapter_is_merged_once_for_all_precisions(tiny: Path, tiny_adapter: Path, settings: Settings) -> None:
    int4 = steps_of(tiny, settings, "int4", adapter=tiny_adapter)
    int8 = steps_of(tiny, settings, "int8", adapter=tiny_adapter)
    assert list(int4) == ["merge", "convert"]
    assert int4["merge"] == int8["merge"]
    assert int4["convert"].key != int8["convert"].key
    assert int4["convert"].key != steps_of(tiny, settings, "int4")["convert"].key


@pytest.mark.parametrize(
    "change", [{"block_size": 64}, {"symmetric": False}, {"method": "k_quant"}, {"accuracy_level": 1}]
)
def test_every_field_of_the_recipe_counts_where_it_is_used(
    tiny: Path, settings: Settings, change: dict[str, Any]
) -> None:
    plain, changed = steps_of(tiny, settings, "int8"), steps_of(tiny, settings, "int8", **change)
    assert plain["convert"].key != changed["convert"].key
    assert steps_of(tiny, settings, "fp32")["convert"].key == steps_of(tiny, settings, "fp32", **change)["convert"].key


def test_the_same_content_elsewhere_has_the_same_keys(tmp_path: Path, settings: Settings) -> None:
    one = checkpoints.make_checkpoint(tmp_path / "one")
    other = checkpoints.make_checkpoint(tmp_path / "deeper" / "other")
    elsewhere = dataclasses.replace(settings, home=tmp_path / "home", threads=1)
    key = steps_of(one, settings, "int4")["convert"].key
    assert steps_of(other, elsewhere, "int4")["convert"].key == key
    checkpoints.make_checkpoint(tmp_path / "one", seed=5)
    assert steps_of(one, settings, "int4")["convert"].key != key


def test_other_tools_make_another_key(tiny: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    before = steps_of(tiny, settings, "int4")["convert"].key
    monkeypatch.setattr("edgeship.builder.genai.tool_versions", lambda *names, **_: dict.fromkeys(names, "99"))
    assert steps_of(tiny, settings, "int4")["convert"].key != before


def test_planning_changes_nothing(tiny: Path, settings: Settings) -> None:
    steps_of(tiny, settings, "fp16")
    assert not settings.builds_dir.exists()


def test_an_unknown_builder_is_named(tiny: Path, settings: Settings) -> None:
    with pytest.raises(RecipeInvalid, match="'magic'") as caught:
        steps_of(tiny, settings, "int4", builder="magic")
    assert "genai" in str(caught.value.hint)
