"""Forms of quantized weights are told by their names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edgeship import builder
from edgeship.checkpoint import open_checkpoint
from edgeship.checkpoint.inspection import inspection
from edgeship.errors import CheckpointInvalid
from edgeship.recipe import Precision, Recipe
from edgeship.settings import Settings
from tests import checkpoints

PROJECTION = "model.layers.0.self_attn.q_proj"
NIBBLES = np.zeros((8, 1), np.uint8)
WORDS = np.zeros((2, 2), np.int32)
FORMS: dict[str, dict[str, Any]] = {
    "bitsandbytes": {"weight": NIBBLES, "weight.absmax": np.ones(4, np.float32), "weight.quant_map": np.ones(16, "f4")},
    "bitsandbytes of 8 bits": {"weight": np.zeros((64, 64), np.int8), "SCB": np.ones(64, np.float32)},
    "GPTQ": {"qweight": WORDS, "qzeros": WORDS, "scales": np.ones(2, np.float16), "g_idx": np.zeros(4, np.int32)},
    "AWQ": {"qweight": WORDS, "qzeros": WORDS, "scales": np.ones(2, np.float16)},
    "compressed-tensors": {"weight_packed": WORDS, "weight_scale": np.ones(2, np.float16)},
    "MLX": {"weight": WORDS.astype(np.uint32), "scales": np.ones(2, np.float16), "biases": np.ones(2, np.float16)},
    "FP8": {"weight": np.ones((64, 64), ml_dtypes.float8_e4m3fn), "weight_scale_inv": np.ones((1, 1), np.float32)},
}
CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "bitsandbytes with 4 bits"),
    ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "GPTQ with 4 bits"),
    ({"quantization_config": {"quant_method": "compressed-tensors"}}, "compressed-tensors"),
    ({"quantization": {"group_size": 64, "bits": 4}}, "MLX with 4 bits"),
    ({"quantization_config": {"group_size": 64, "bits": 4}, "quantization": {"group_size": 64, "bits": 4}}, "MLX with"),
    ({"quantization_config": {"quant_method": "somethingnew"}}, "somethingnew"),
    ({"quantization_config": {"bits": 2}}, "a method that it does not name with 2 bits"),
]


def store(tiny: Path, parts: dict[str, Any]) -> Path:
    weights = {name: value for name, value in load_file(tiny / "model.safetensors").items() if PROJECTION not in name}
    weights |= {f"{PROJECTION}.{end}": value for end, value in parts.items()}
    save_file(weights, tiny / "model.safetensors", {"format": "pt"})
    return tiny


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_seen_by_its_tensors(form: str, tiny: Path, settings: Settings) -> None:
    opened = open_checkpoint(str(store(tiny, FORMS[form])))
    assert opened.quantized
    assert opened.quantized.form == form.partition(" ")[0]
    assert inspection(opened)["quantization"] == opened.quantized.form
    with pytest.raises(CheckpointInvalid, match=f"already: {opened.quantized.form}, as its tensors") as error:
        builder.plan(opened, Recipe(precision=Precision.INT4), settings)
    assert "Give " in (error.value.hint or "")


@pytest.mark.parametrize(("config", "form"), CONFIGS)
def test_a_form_is_read_from_the_config(config: dict[str, Any], form: str, tiny: Path, settings: Settings) -> None:
    checkpoints.write_json(tiny / "config.json", checkpoints.qwen2_config(**config))
    with pytest.raises(CheckpointInvalid, match=f"{form}.*, as config.json says") as caught:
        builder.plan(open_checkpoint(str(tiny)), Recipe(precision=Precision.INT4), settings)
    assert "out of config.json" in (caught.value.hint or "")


def test_plain_weights_have_no_form(tiny: Path) -> None:
    assert open_checkpoint(str(tiny)).quantized is None


def test_of_a_quantized_copy_on_the_hub_the_original_is_presumed(tiny: Path, settings: Settings) -> None:
    opened = replace(open_checkpoint(str(store(tiny, FORMS["bitsandbytes"]))), source="unsloth/Tiny-bnb-4bit")
    with pytest.raises(CheckpointInvalid) as caught:
        builder.plan(opened, Recipe(precision=Precision.INT4), settings)
    assert (caught.value.hint or "").endswith("Presumably that is unsloth/Tiny.")
