"""Which modules an adapter's config names: by peft's rules, with peft itself as the judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edgeship.checkpoint import open_checkpoint
from edgeship.checkpoint.adapter import WEIGHTS_NAME, open_adapter
from edgeship.checkpoint.adapter_modules import read_named
from edgeship.errors import AdapterInvalid
from edgeship.system.fields import Fields
from tests import checkpoints

CONFIGS: list[dict[str, Any]] = [
    {"target_modules": ["q_proj", "mlp.up_proj"]},
    {"target_modules": ["model.layers.1.self_attn.q_proj"]},
    {"target_modules": []},
    {"target_modules": r".*\.1\..*(q|up)_proj"},
    {"target_modules": "q_proj"},
    {"target_modules": ["proj"]},
    {"target_modules": ["q_proj", "lm_head"], "exclude_modules": ["layers.0.self_attn.q_proj"]},
    {"target_modules": ["q_proj", "up_proj"], "exclude_modules": r"model\.layers\.[12]\..*"},
    {"target_modules": ["q_proj", "lm_head"], "layers_to_transform": 1},
    {"target_modules": ["q_proj"], "layers_to_transform": [0, 12]},
    {"target_modules": ["q_proj"], "layers_to_transform": []},
    {"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": "layers"},
    {"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": ["blocks", "h"]},
    {"target_modules": ["up_proj", "1"], "layers_to_transform": [1]},
]
NAMES = [
    "lm_head",
    "model.embed_tokens",
    "layers.1.self_attn.q_proj",
    "model.blocks.1.q_proj",
    "model.layers.1.mlp.experts.0.up_proj",
    "model.layers.0.mlp.experts.1.up_proj",
    *(
        f"model.layers.{layer}.{end}"
        for layer in (0, 1, 2, 12)
        for end in ("self_attn.q_proj", "mlp.up_proj", "x_proj")
    ),
]


def named(config: dict[str, Any]) -> Any:
    return read_named(Fields(config, AdapterInvalid))


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_modules_are_named_as_peft_finds_them(config: dict[str, Any]) -> None:
    from peft import LoraConfig
    from peft.tuners.tuners_utils import check_target_module_exists

    matches, judge = named(config), LoraConfig(**config)
    # What it excludes is an object that counts as true.
    assert {name for name in NAMES if matches(name)} == {
        name
        for name in NAMES
        if (found := check_target_module_exists(judge, name)) and type(found).__name__ != "_ExcludedModule"
    }


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"target_modules": 5}, "has target_modules 5, which is not a text or a list of texts"),
        ({"target_modules": {"q_proj": 1}}, "has target_modules {'q_proj': 1}, which is not"),
        ({"target_modules": ["q_proj", 1]}, "has target_modules .*, which is not a text or a list of texts"),
        ({"exclude_modules": False}, "has exclude_modules False, which is not a text or a list of texts"),
        ({"layers_to_transform": "1"}, "has layers_to_transform '1', which is not a whole number or a list"),
        ({"layers_to_transform": [True]}, r"has layers_to_transform \[True\], which is not a whole number"),
        ({"layers_pattern": 1}, "has layers_pattern 1, which is not a text or a list of texts"),
        ({"layers_pattern": "layers"}, "has layers_pattern and no layers_to_transform"),
        ({"target_modules": ".*q_proj", "layers_to_transform": 1}, "has layers_to_transform, which needs a list"),
        ({"bias": True}, "has bias True, which is not a text"),
        ({"bias": "some"}, "has bias 'some', which is not one of none, all, lora_only"),
    ],
)
def test_what_peft_would_not_take_is_refused(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    folder = checkpoints.make_adapter(tmp_path / "a", **config)
    with pytest.raises(AdapterInvalid, match=said):
        open_adapter(folder)


def test_a_tied_output_layer_is_named_with_the_embedding() -> None:
    assert named({"target_modules": ["embed_tokens"], "ensure_weight_tying": True})("lm_head")
    assert not named({"target_modules": ["q_proj"], "ensure_weight_tying": True})("lm_head")
    assert not named({"target_modules": ["embed_tokens"]})("lm_head")


@pytest.mark.parametrize(
    "config",
    [{}, {"target_modules": "all-linear"}, {"target_modules": "(?!.*vision).*q_proj"}, {"target_modules": "(a+)+["}],
)
def test_what_the_config_does_not_tell_is_not_guessed(config: dict[str, Any]) -> None:
    assert named(config) is None


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": ["q_proj"]},
        {"target_modules": ["q_proj", "down_proj"], "exclude_modules": ["down_proj"]},
        {"target_modules": ["q_proj", "down_proj"], "layers_to_transform": [1]},
        {"target_modules": r".*\.q_proj"},
    ],
)
def test_a_module_that_peft_would_leave_out_is_refused_by_name(tmp_path: Path, config: dict[str, Any]) -> None:
    folder = checkpoints.make_adapter(tmp_path / "a", **config)
    with pytest.raises(AdapterInvalid, match=r"does not name model\.layers\.0\.") as caught:
        open_adapter(folder)
    assert "same training run" in (caught.value.hint or "")


def test_names_under_a_wrapper_count_as_the_adapter_has_them(tmp_path: Path) -> None:
    folder = checkpoints.make_adapter(tmp_path / "a", target_modules=r"model\.language_model\..*_proj")
    wrapped = {
        name.replace("base_model.model.model.", "base_model.model.model.language_model."): array
        for name, array in load_file(folder / WEIGHTS_NAME).items()
    }
    save_file(wrapped, folder / WEIGHTS_NAME)
    assert open_adapter(folder).targets == ("down_proj", "q_proj")


def notes(tiny: Path, adapter: Path) -> tuple[str, ...]:
    return open_checkpoint(str(tiny), adapter=adapter).notes


def test_a_pair_that_the_adapter_lacks_is_noted_by_name(tiny: Path, tiny_adapter: Path) -> None:
    assert notes(tiny, tiny_adapter) == ()
    path = tiny_adapter / WEIGHTS_NAME
    save_file({name: array for name, array in load_file(path).items() if "layers.1.mlp" not in name}, path)
    [note] = notes(tiny, tiny_adapter)
    assert note.startswith("target_modules in adapter_config.json asks for model.layers.1.mlp.down_proj, which")


@pytest.mark.parametrize(
    ("bias", "said"), [("all", "k_proj.bias and 5 more"), ("lora_only", "q_proj.bias and 1 more"), ("none", "")]
)
def test_biases_that_the_adapter_lacks_are_noted_by_name(tiny: Path, tmp_path: Path, bias: str, said: str) -> None:
    adapter = checkpoints.make_adapter(tmp_path / "a", bias=bias)
    expected = f"bias in adapter_config.json asks for model.layers.0.self_attn.{said}, which the adapter lacks"
    assert [note.partition(":")[0] for note in notes(tiny, adapter)] == ([expected] if said else [])


def test_biases_that_the_adapter_holds_are_not(tiny: Path, tmp_path: Path) -> None:
    adapter = checkpoints.make_adapter(tmp_path / "a", bias="all")
    biases = {
        f"base_model.model.{name}": np.ones_like(array)
        for name, array in checkpoints.qwen2_weights().items()
        if name.endswith(".bias")
    }
    save_file(load_file(adapter / WEIGHTS_NAME) | biases, adapter / WEIGHTS_NAME)
    assert notes(tiny, adapter) == ()
