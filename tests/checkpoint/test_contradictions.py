from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeship.checkpoint import open_checkpoint
from edgeship.errors import CheckpointInvalid
from tests import checkpoints

YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
FULL, SLIDING = "full_attention", "sliding_attention"
GEMMA = {"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text"}
SMOLLM = {"architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3"}
DEFAULT = {"rope_type": "default", "rope_theta": 10_000.0}


def open_with(folder: Path, **changes: Any) -> None:
    open_checkpoint(str(checkpoints.make_checkpoint(folder / "tiny", config=checkpoints.qwen2_config(**changes))))


@pytest.mark.parametrize("family", [("Qwen2ForCausalLM", "qwen2"), ("LlamaForCausalLM", "llama")])
def test_yarn_as_model_cards_tell_it_beside_what_transformers_5_wrote(tmp_path: Path, family: tuple[str, str]) -> None:
    with pytest.raises(CheckpointInvalid) as caught:
        open_with(
            tmp_path,
            architectures=[family[0]],
            model_type=family[1],
            rope_scaling=YARN,
            rope_parameters=DEFAULT,
        )
    assert "rope_scaling.rope_type 'yarn' and rope_parameters.rope_type 'default'" in caught.value.what
    assert caught.value.hint
    meant = json.loads("{" + caught.value.hint.partition("write ")[2] + "}")["rope_parameters"]
    # What is to be written is read as it is meant.
    assert meant == YARN | DEFAULT | {"rope_type": "yarn"} or meant.pop("type", None) is None
    open_with(tmp_path, rope_parameters=meant)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rope_scaling": {"rope_type": "default"}, "rope_parameters": YARN}, "rope_scaling.rope_type 'default' and"),
        (
            {"rope_scaling": YARN, "rope_parameters": YARN | {"factor": 2.0}},
            "factor 4.0 and rope_parameters.factor 2.0",
        ),
        ({"rope_parameters": {"rope_theta": 1e6}}, "rope_theta 10000 and rope_parameters.rope_theta 1e+06"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0, "rope_theta": 5.0}}, "rope_scaling.rope_theta 5"),
        (
            {"rope_parameters": {"full_attention": {"rope_theta": 1e6}, "sliding_attention": DEFAULT}},
            "rope_theta 10000 and rope_parameters.full_attention.rope_theta 1e+06",
        ),
        (
            {"original_max_position_embeddings": 64, "rope_scaling": YARN},
            "original_max_position_embeddings 64 and rope_scaling.original_max_position_embeddings 128",
        ),
        (
            {"rope_scaling": {"type": "linear", "rope_type": "yarn"}},
            "rope_scaling.rope_type 'yarn' and rope_scaling.typ",
        ),
        ({"torch_dtype": "bfloat16"}, "dtype 'float32' and torch_dtype 'bfloat16'"),
        ({"model_type": "qwen3"}, "architectures 'Qwen2ForCausalLM' and model_type 'qwen3'"),
        ({"model_type": "unheard-of"}, "architectures 'Qwen2ForCausalLM' and model_type 'unheard-of'"),
        (
            GEMMA | {"layer_types": [FULL, SLIDING], "sliding_window_pattern": 2},
            "layer_types[0] 'full_attention' and sliding_window_pattern 2, which makes it 'sliding_attention'",
        ),
        (
            {"layer_types": [FULL, FULL], "max_window_layers": 1, "use_sliding_window": True, "sliding_window": 8},
            "layer_types[1] 'full_attention' and max_window_layers 1, which makes it 'sliding_attention'",
        ),
        (
            SMOLLM | {"no_rope_layers": [1, 1], "no_rope_layer_interval": 2},
            "no_rope_layers[1] 1 and no_rope_layer_interval 2, which makes it 0",
        ),
    ],
)
def test_what_is_said_twice_and_otherwise_is_refused_with_both(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(CheckpointInvalid) as caught:
        open_with(tmp_path, **changes)
    assert said in caught.value.what
    assert caught.value.hint


@pytest.mark.parametrize(
    "changes",
    [
        {"text_config": checkpoints.qwen2_config(), "model_type": "of-a-wrapper"},
        {"rope_scaling": YARN, "rope_parameters": YARN | DEFAULT | {"rope_type": "yarn"}},
        {"rope_scaling": None, "rope_parameters": DEFAULT},
        {"rope_scaling": {}, "rope_parameters": DEFAULT},
        {"rope_scaling": {"type": "default", "rope_type": "default"}, "rope_parameters": DEFAULT},
        {"rope_scaling": {"type": "su"}, "rope_parameters": {"rope_type": "longrope"}},
        {"rope_scaling": YARN | {"rope_type": "yarn"}},
        {"torch_dtype": "float32"},
        {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]},
        GEMMA | {"layer_types": [SLIDING, FULL], "sliding_window_pattern": 2, "sliding_window": 8},
        GEMMA | {"layer_types": [FULL, FULL], "sliding_window_pattern": 2, "sliding_window": None},
        GEMMA | {"layer_types": [FULL, SLIDING], "max_window_layers": 2, "use_sliding_window": True},
        {"layer_types": [FULL, FULL], "max_window_layers": 1, "use_sliding_window": False, "sliding_window": 8},
        {"layer_types": [FULL, SLIDING], "max_window_layers": 1, "use_sliding_window": True},
        SMOLLM | {"no_rope_layers": [1, 0], "no_rope_layer_interval": 2},
        GEMMA | {"sliding_window_pattern": 2},
        {"rope_parameters": {"full_attention": DEFAULT, "sliding_attention": {"rope_theta": 1e6}}},
    ],
)
def test_what_is_said_twice_alike_is_read(tmp_path: Path, changes: dict[str, Any]) -> None:
    open_with(tmp_path, **changes)
