"""What is told of a model's layers and experts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeship.builder.architecture import read_architecture
from edgeship.builder.description import describe, layer_kinds
from edgeship.checkpoint import open_checkpoint
from tests import checkpoints
from tests.builder import test_mixture
from tests.builder.test_mixture import EXPERTS, HIDDEN

LINEAR = {"key_head_dim": 16, "value_head_dim": 16, "num_key_heads": 2, "num_value_heads": 2, "conv_kernel_dim": 4}
MAMBA = {"mamba_n_heads": 4, "mamba_d_state": 16, "mamba_d_conv": 4, "mamba_n_groups": 1, "mamba_expand": 1}


def test_of_a_mixture_it_is_told_how_many_parameters_work_on_a_token(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(test_mixture.make(tmp_path / "tiny")))
    expert = 3 * HIDDEN * HIDDEN // 2  # a gate, what goes up, and what goes down
    assert describe(checkpoint) == {
        "layer_kinds": {"attention": checkpoints.LAYERS},
        "expert_layers": checkpoints.LAYERS,
        "experts": EXPERTS,
        "experts_per_token": 2,
        "parameters_active": checkpoint.parameters - checkpoints.LAYERS * (EXPERTS - 2) * expert,
    }


@pytest.mark.parametrize(
    ("architecture", "config", "kinds"),
    [
        ("Qwen2ForCausalLM", {}, {"attention": 2}),
        (
            "Qwen2ForCausalLM",
            {"use_sliding_window": True, "sliding_window": 100, "max_window_layers": 1},
            {"full attention": 1, "attention to the last 100 tokens": 1},
        ),
        (
            "Qwen3_5ForCausalLM",
            {
                "layer_types": ["full_attention", "linear_attention", "linear_attention"],
                "num_hidden_layers": 3,
                **{f"linear_{name}": size for name, size in LINEAR.items()},
            },
            {"gated delta rule": 2, "attention": 1},
        ),
        ("FalconH1ForCausalLM", MAMBA, {"attention beside Mamba-2": 2}),
    ],
)
def test_layers_are_counted_by_what_they_mix_tokens_with(
    architecture: str, config: dict[str, Any], kinds: dict[str, int], tiny: Path
) -> None:
    changed = checkpoints.qwen2_config(**{"architectures": [architecture], **config})
    opened = replace(open_checkpoint(str(tiny)), config=changed)
    assert layer_kinds(read_architecture(opened)) == kinds


def test_nothing_is_told_of_what_the_streaming_builder_does_not_make(tiny: Path) -> None:
    opened = open_checkpoint(str(tiny))
    assert describe(opened)
    assert describe(replace(opened, pickle=True)) == {}
    assert describe(replace(opened, config={**opened.config, "architectures": ["StrangeForCausalLM"]})) == {}
