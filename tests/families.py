"""Small random checkpoints of every family, made by transformers, and what transformers itself makes of them.

Sizes are odd on purpose: fewer key heads than query heads, heads that do not divide the width, MLPs and widths that are
no multiple of a block. Norms and biases are far from neutral, windows and frequencies change within a short prompt.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeship import builder
from edgeship.builder.architecture import read_architecture
from edgeship.checkpoint import open_checkpoint
from edgeship.recipe import Recipe
from edgeship.settings import Settings
from tests import checkpoints
from tests.onnx_decoder import OnnxDecoder

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

EXPERTS = (".experts.gate_up_proj", ".experts.down_proj")
"""What transformers calls the matrices of all experts of a layer, which are one parameter."""
LENGTHS = (1, 7, 20, 50)
GREEDY_FROM, GREEDY_TOKENS = 20, 64
CLEAR = 1e-4
"""Of the logits' range: how far ahead each greedy token must be, so that float32's noise cannot change it."""


@dataclass(frozen=True)
class Case:
    """One checkpoint.

    config: a configuration class of transformers. fields: of it, beside SIZES.
    seed: of weights and prompt; chosen so that no greedy token is a near-tie or ends the text.
    quiet: embeddings are so much smaller, and the last norm so much larger, where the model multiplies embeddings by a
    number: else each token would say itself again.
    calm: so much smaller are the norms of queries and keys, where nothing else divides what attention compares.
    peculiar: changes of `fields` that make another model of the same weights.
    older: whether versions of transformers before 5 knew the family, and wrote all that decides it.
    amplifies: how much further than others the logits may move where weights or activations are rounded. Random states
    that are normalised by themselves blow small differences up; what is computed must be as exact all the same.
    brief: FP32 alone is compared.
    lengths: of prompts. greedy_from: of those from which GREEDY_TOKENS are generated.
    """

    name: str
    config: str
    fields: Mapping[str, Any]
    seed: int = 0
    dtype: str = "float32"
    quiet: float = 1.0
    calm: float = 1.0
    peculiar: tuple[Mapping[str, Any], ...] = ()
    older: bool = True
    amplifies: float = 1.0
    brief: bool = False
    lengths: tuple[int, ...] = LENGTHS
    greedy_from: tuple[int, ...] = (GREEDY_FROM,)

    @property
    def architecture(self) -> str:
        """What config.json calls it."""
        return self.config.removesuffix("Config").removesuffix("Text") + "ForCausalLM"

    @property
    def prompt(self) -> Integers:
        """[longest] token ids; shorter prompts are its beginning."""
        rng = np.random.default_rng(self.seed)
        return rng.integers(3, self.fields.get("vocab_size", SIZES["vocab_size"]), max(self.lengths))


SIZES: Mapping[str, Any] = {
    "hidden_size": 96,
    "intermediate_size": 150,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 391,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def _rope(kind: str = "default", theta: float = 10_000.0, **parameters: Any) -> dict[str, Any]:
    return {"rope_type": kind, "rope_theta": theta, **parameters}


def _longrope(pairs: int) -> dict[str, Any]:
    """Factors of LongRoPE for so many rotated pairs: near one for short prompts, growing for long ones."""
    short, long = np.linspace(1.0, 1.6, pairs), np.linspace(1.0, 9.0, pairs) ** 1.2
    return _rope("longrope", short_factor=short.round(3).tolist(), long_factor=long.round(3).tolist())


_PLAIN_ROPE = {"rope_parameters": _rope()}
# A sequence that crosses from the short factors to the long ones is another thing in every runtime, since keys made
# with the short ones stay in its cache: so what is generated lies before the switch or after it.
_SWITCH = 96
_BOTH_SIDES: dict[str, Any] = {"lengths": (*LENGTHS, _SWITCH, _SWITCH + 1, 110), "greedy_from": (GREEDY_FROM, 110)}
_GEMMA3_ROPE = {
    "full_attention": _rope("linear", 1_000_000.0, factor=8.0),
    "sliding_attention": _rope(theta=10_000.0),
}
_GEMMA4_ROPE = {
    "full_attention": _rope("proportional", 1_000_000.0, partial_rotary_factor=0.25),
    "sliding_attention": _rope(theta=10_000.0),
}

_GATED_DELTA: dict[str, Any] = {
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 24,
    "linear_value_head_dim": 20,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}

_EXPERTS: dict[str, Any] = {"moe_intermediate_size": 64, "num_experts": 7, "num_experts_per_tok": 3}

_MAMBA: dict[str, Any] = {"mamba_n_heads": 6, "mamba_d_state": 20, "mamba_d_conv": 4, "mamba_chunk_size": 16}
_GRANITE_EXPERTS: dict[str, Any] = {
    "intermediate_size": 64,
    "shared_intermediate_size": 118,
    "num_local_experts": 6,
    "num_experts_per_tok": 3,
    **_MAMBA,
}

_WHOLE: tuple[Case, ...] = (
    Case("llama2", "LlamaConfig", {"rms_norm_eps": 0.05}, seed=4, peculiar=({"rms_norm_eps": 1e-5},)),
    Case(
        "llama3",
        "LlamaConfig",
        {
            "head_dim": 32,
            "rope_parameters": _rope(
                "llama3",
                500_000.0,
                factor=8.0,
                low_freq_factor=1.0,
                high_freq_factor=4.0,
                original_max_position_embeddings=64,
            ),
        },
        seed=1,
        peculiar=({"rope_parameters": _rope(theta=500_000.0)},),
    ),
    Case("llama-biases", "LlamaConfig", {"attention_bias": True, "mlp_bias": True, "hidden_act": "gelu"}),
    Case("llama-linear-rope", "LlamaConfig", {"rope_parameters": _rope("linear", factor=4.0)}, peculiar=(_PLAIN_ROPE,)),
    Case(
        "smollm2",
        "LlamaConfig",
        {"num_attention_heads": 3, "num_key_value_heads": 1, "tie_word_embeddings": True},
        seed=1,
    ),
    Case(
        "mistral",
        "MistralConfig",
        {
            "hidden_size": 80,
            "intermediate_size": 118,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 32,
            "sliding_window": 12,
        },
        seed=1,
        peculiar=({"sliding_window": None}, {"sliding_window": 13}),
    ),
    Case(
        "qwen3.5",
        "Qwen3_5TextConfig",
        {
            "head_dim": 32,
            "num_hidden_layers": 4,
            "rope_parameters": _rope(partial_rotary_factor=0.5),
            "layer_types": ["linear_attention", "full_attention", "linear_attention", "linear_attention"],
            **_GATED_DELTA,
        },
        peculiar=({"rope_parameters": _rope(partial_rotary_factor=1.0)},),
        seed=1,
        older=False,
    ),
    Case(
        "qwen3.5-tied",
        "Qwen3_5TextConfig",
        {
            "hidden_size": 80,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 64,
            "num_hidden_layers": 5,
            "tie_word_embeddings": True,
            "rope_parameters": _rope(),
            **_GATED_DELTA,
            "linear_conv_kernel_dim": 3,
            "linear_num_key_heads": 3,
            "linear_num_value_heads": 3,
        },
        seed=1,
        amplifies=10.0,
        older=False,
    ),
    Case(
        "qwen3.5-biases",
        "Qwen3_5TextConfig",
        {
            "attention_bias": True,
            "head_dim": 64,
            "rope_parameters": _rope(
                "yarn", factor=4.0, original_max_position_embeddings=32, partial_rotary_factor=0.5
            ),
            "layer_types": ["full_attention", "linear_attention", "full_attention"],
            **_GATED_DELTA,
            "linear_num_value_heads": 6,
        },
        older=False,
    ),
    Case(
        "lfm2",
        "Lfm2Config",
        {
            "num_hidden_layers": 4,
            "layer_types": ["conv", "full_attention", "conv", "full_attention"],
            "conv_L_cache": 4,
            "block_auto_adjust_ff_dim": False,
        },
        seed=16,
        older=False,
    ),
    Case(
        "lfm2-biases",
        "Lfm2Config",
        {
            "hidden_size": 80,
            "num_attention_heads": 5,
            "num_key_value_heads": 5,
            "conv_bias": True,
            "norm_eps": 0.05,
            "full_attn_idxs": [0, 2],
            "tie_word_embeddings": False,
        },
        peculiar=({"norm_eps": 1e-5},),
        older=False,
    ),
    Case(
        "lfm2-tied",
        "Lfm2Config",
        {
            "head_dim": 32,
            "num_key_value_heads": 3,
            "num_hidden_layers": 5,
            "layer_types": ["conv", "conv", "full_attention", "conv", "conv"],
            "tie_word_embeddings": True,
        },
        seed=7,
        older=False,
    ),
    Case(
        "granite4-hybrid",
        "GraniteMoeHybridConfig",
        {
            "num_hidden_layers": 4,
            "layer_types": ["linear_attention", "full_attention", "linear_attention", "linear_attention"],
            "num_local_experts": 0,
            "shared_intermediate_size": 150,
            "embedding_multiplier": 6.0,
            "logits_scaling": 4.0,
            "residual_multiplier": 0.4,
            "attention_multiplier": 0.4,
            "tie_word_embeddings": True,
            **_MAMBA,
        },
        quiet=24.0,
        seed=3,
        amplifies=3.0,
        older=False,
    ),
    Case(
        "granite4-hybrid-groups",
        "GraniteMoeHybridConfig",
        {
            "hidden_size": 80,
            "num_attention_heads": 5,
            "num_key_value_heads": 5,
            "layer_types": ["mamba", "mamba", "attention"],
            "num_local_experts": 0,
            "shared_intermediate_size": 118,
            "position_embedding_type": "rope",
            **_MAMBA,
            "mamba_n_heads": 8,
            "mamba_n_groups": 2,
            "mamba_d_conv": 3,
        },
        amplifies=3.0,
        older=False,
    ),
    Case(
        "granite4-hybrid-biases",
        "GraniteMoeHybridConfig",
        {
            "layer_types": ["attention", "mamba", "attention"],
            "num_local_experts": 0,
            "shared_intermediate_size": 150,
            "position_embedding_type": "rope",
            "attention_bias": True,
            "mamba_proj_bias": True,
            "mamba_conv_bias": False,
            **_MAMBA,
            "mamba_expand": 1,
        },
        seed=5,
        older=False,
    ),
    Case(
        "falcon-h1",
        "FalconH1Config",
        {
            "mamba_d_ssm": None,
            "lm_head_multiplier": 0.5,
            "embedding_multiplier": 5.0,
            "mlp_multipliers": [0.5, 4.0],
            "key_multiplier": 0.4,
            "attention_out_multiplier": 1.7,
            "attention_in_multiplier": 1.3,
            "ssm_multipliers": [0.7, 0.6, 0.4, 0.5, 0.8],
            "ssm_in_multiplier": 1.2,
            "ssm_out_multiplier": 0.1,
            **_MAMBA,
        },
        quiet=5.0,
        peculiar=(
            {"ssm_multipliers": [1.0] * 5},
            {"mlp_multipliers": [1.0, 1.0]},
            {"key_multiplier": 1.0},
            {"attention_out_multiplier": 1.0},
            {"attention_in_multiplier": 1.0},
            {"ssm_in_multiplier": 1.0},
            {"ssm_out_multiplier": 1.0},
        ),
        older=False,
    ),
    Case(
        "falcon-h1-normed",
        "FalconH1Config",
        {
            "hidden_size": 80,
            "num_attention_heads": 5,
            "num_key_value_heads": 1,
            "mamba_d_ssm": 96,
            "mamba_rms_norm": True,
            "mamba_norm_before_gate": False,
            "projectors_bias": True,
            "mlp_bias": True,
            "attention_bias": True,
            "mamba_proj_bias": True,
            **_MAMBA,
            "mamba_n_heads": 8,
            "mamba_n_groups": 2,
        },
        older=False,
    ),
    Case(
        "falcon-h1-tied",
        "FalconH1Config",
        {
            "head_dim": 32,
            "mamba_d_ssm": 72,
            "mamba_rms_norm": True,
            "mamba_norm_before_gate": True,
            "mamba_conv_bias": False,
            "tie_word_embeddings": True,
            **_MAMBA,
        },
        seed=3,
        older=False,
    ),
    Case("qwen2-tied", "Qwen2Config", {"hidden_size": 72, "head_dim": 16, "tie_word_embeddings": True}),
    Case("qwen2-bfloat16", "Qwen2Config", {"vocab_size": 400}, seed=2, dtype="bfloat16"),
    Case(
        "qwen2-yarn",
        "Qwen2Config",
        {"rope_parameters": _rope("yarn", factor=4.0, original_max_position_embeddings=64)},
        peculiar=(_PLAIN_ROPE,),
    ),
    Case(
        "qwen2-window",
        "Qwen2Config",
        {"use_sliding_window": True, "sliding_window": 10, "max_window_layers": 1},
        peculiar=({"use_sliding_window": False}, {"sliding_window": 11}, {"max_window_layers": 0}),
    ),
    Case(
        "qwen3",
        "Qwen3Config",
        {
            "hidden_size": 64,
            "num_attention_heads": 4,
            "head_dim": 32,
            "rms_norm_eps": 0.05,
            "tie_word_embeddings": True,
            "rope_parameters": _rope(theta=1_000_000.0),
        },
        peculiar=(_PLAIN_ROPE, {"rms_norm_eps": 1e-6}),
    ),
    Case(
        "qwen3-moe",
        "Qwen3MoeConfig",
        {"head_dim": 32, "norm_topk_prob": True, **_EXPERTS},
        peculiar=({"norm_topk_prob": False}, {"num_experts_per_tok": 2}),
        seed=1,
    ),
    Case(
        "qwen3-moe-some-layers",
        "Qwen3MoeConfig",
        {
            "hidden_size": 80,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 32,
            "num_hidden_layers": 5,
            "decoder_sparse_step": 2,
            "mlp_only_layers": [3],
            **_EXPERTS,
            "moe_intermediate_size": 48,
            "tie_word_embeddings": True,
        },
        peculiar=({"norm_topk_prob": True},),
    ),
    Case(
        "qwen3-moe-biases",
        "Qwen3MoeConfig",
        {
            "head_dim": 32,
            "attention_bias": True,
            "use_sliding_window": True,
            "sliding_window": 10,
            **_EXPERTS,
            "num_experts": 4,
            "num_experts_per_tok": 1,
            "moe_intermediate_size": 128,
        },
        peculiar=({"sliding_window": 11},),
    ),
    Case(
        "mixtral",
        "MixtralConfig",
        {"intermediate_size": 64, "num_local_experts": 5, "num_experts_per_tok": 2},
        peculiar=({"num_experts_per_tok": 1},),
        seed=2,
    ),
    Case(
        "mixtral-window",
        "MixtralConfig",
        {
            "hidden_size": 80,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 32,
            "intermediate_size": 112,
            "num_local_experts": 4,
            "sliding_window": 12,
        },
        peculiar=({"sliding_window": None},),
        seed=3,
    ),
    Case(
        "mixtral-tied",
        "MixtralConfig",
        {"intermediate_size": 32, "num_local_experts": 3, "num_experts_per_tok": 3, "tie_word_embeddings": True},
    ),
    Case(
        "olmoe",
        "OlmoeConfig",
        {"intermediate_size": 64, "num_experts": 7, "num_experts_per_tok": 3},
        peculiar=({"norm_topk_prob": True},),
        seed=1,
    ),
    Case(
        "olmoe-biases",
        "OlmoeConfig",
        {
            "hidden_size": 80,
            "num_attention_heads": 5,
            "num_key_value_heads": 5,
            "intermediate_size": 48,
            "num_experts": 4,
            "num_experts_per_tok": 1,
            "attention_bias": True,
        },
        seed=3,
    ),
    Case(
        "olmoe-tied",
        "OlmoeConfig",
        {
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "intermediate_size": 96,
            "num_experts": 5,
            "num_experts_per_tok": 2,
            "norm_topk_prob": True,
            "tie_word_embeddings": True,
        },
        peculiar=({"norm_topk_prob": False},),
        seed=1,
    ),
    Case(
        "granite4-moe",
        "GraniteMoeHybridConfig",
        {
            "layer_types": ["full_attention"] * 3,
            "position_embedding_type": "rope",
            "embedding_multiplier": 6.0,
            "logits_scaling": 4.0,
            "residual_multiplier": 0.4,
            "attention_multiplier": 0.4,
            "tie_word_embeddings": True,
            **_GRANITE_EXPERTS,
        },
        quiet=24.0,
        older=False,
        peculiar=({"num_experts_per_tok": 2},),
        seed=1,
    ),
    Case(
        "granite4-moe-hybrid",
        "GraniteMoeHybridConfig",
        {
            "num_hidden_layers": 4,
            "layer_types": ["linear_attention", "full_attention", "linear_attention", "linear_attention"],
            **_GRANITE_EXPERTS,
        },
        amplifies=3.0,
        older=False,
        seed=1,
    ),
    Case(
        "granite4-moe-narrow",
        "GraniteMoeHybridConfig",
        {
            "hidden_size": 80,
            "num_attention_heads": 5,
            "num_key_value_heads": 5,
            "layer_types": ["mamba", "mamba", "attention"],
            **_GRANITE_EXPERTS,
            "mamba_n_heads": 8,
            "intermediate_size": 48,
            "num_local_experts": 4,
            "num_experts_per_tok": 1,
        },
        amplifies=3.0,
        older=False,
        seed=2,
    ),
    Case(
        "lfm2-moe",
        "Lfm2MoeConfig",
        {
            "num_hidden_layers": 4,
            "layer_types": ["conv", "full_attention", "conv", "full_attention"],
            "num_dense_layers": 1,
            "routed_scaling_factor": 1.5,
            **_EXPERTS,
        },
        peculiar=({"norm_topk_prob": False}, {"routed_scaling_factor": 1.0}, {"use_expert_bias": False}),
        older=False,
    ),
    Case(
        "lfm2-moe-plain",
        "Lfm2MoeConfig",
        {
            "hidden_size": 80,
            "num_attention_heads": 5,
            "num_key_value_heads": 5,
            "layer_types": ["full_attention", "conv", "full_attention"],
            "num_dense_layers": 0,
            "use_expert_bias": False,
            "norm_topk_prob": False,
            **_EXPERTS,
            "moe_intermediate_size": 48,
        },
        peculiar=({"norm_topk_prob": True},),
        older=False,
        seed=2,
    ),
    Case(
        "lfm2-moe-tied",
        "Lfm2MoeConfig",
        {
            "num_key_value_heads": 3,
            "num_hidden_layers": 5,
            "layer_types": ["conv", "conv", "full_attention", "conv", "conv"],
            "conv_bias": True,
            "tie_word_embeddings": True,
            **_EXPERTS,
            "num_experts": 4,
            "num_experts_per_tok": 1,
            "norm_topk_prob": True,
        },
        older=False,
        seed=1,
    ),
    Case(
        "gpt-oss",
        "GptOssConfig",
        {
            "head_dim": 32,
            "num_hidden_layers": 4,
            "intermediate_size": 64,
            "num_local_experts": 6,
            "num_experts_per_tok": 3,
            "sliding_window": 12,
            "rope_parameters": _rope("yarn", factor=4.0, original_max_position_embeddings=32, truncate=False),
        },
        peculiar=({"sliding_window": 13}, {"swiglu_alpha": 1.0}, {"swiglu_limit": 1.0}),
        older=False,
    ),
    Case(
        "gpt-oss-narrow",
        "GptOssConfig",
        {
            "hidden_size": 80,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 32,
            "intermediate_size": 80,
            "num_local_experts": 4,
            "num_experts_per_tok": 1,
            "layer_types": ["full_attention", "sliding_attention", "full_attention"],
            "sliding_window": 10,
            "swiglu_limit": 1.5,
            "rope_parameters": _rope(theta=150_000.0),
        },
        peculiar=({"swiglu_limit": 7.0},),
        older=False,
        seed=1,
    ),
    Case(
        "gpt-oss-tied",
        "GptOssConfig",
        {
            "head_dim": 16,
            "intermediate_size": 48,
            "num_local_experts": 3,
            "num_experts_per_tok": 2,
            "attention_bias": False,
            "swiglu_alpha": 1.2,
            "tie_word_embeddings": True,
            "rope_parameters": _rope("linear", factor=4.0),
        },
        older=False,
    ),
    Case("phi3", "Phi3Config", {"sliding_window": None}),
    Case(
        "phi3-window",
        "Phi3Config",
        {"sliding_window": 9},
        seed=2,
        peculiar=({"sliding_window": None}, {"sliding_window": 10}),
    ),
    Case(
        "phi3-longrope",
        "Phi3Config",
        {"original_max_position_embeddings": _SWITCH, "rope_parameters": _longrope(8)},
        seed=2,
        peculiar=(_PLAIN_ROPE,),
        **_BOTH_SIDES,
    ),
    Case(
        "phi4-mini",
        "Phi3Config",
        {
            "hidden_size": 128,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "tie_word_embeddings": True,
            "original_max_position_embeddings": _SWITCH,
            "rope_parameters": _longrope(24) | {"partial_rotary_factor": 0.75},
        },
        peculiar=({"rope_parameters": _rope(partial_rotary_factor=0.75)},),
        **_BOTH_SIDES,
    ),
    Case(
        "gemma2",
        "Gemma2Config",
        {
            "hidden_size": 72,
            "num_attention_heads": 4,
            "head_dim": 32,
            "rms_norm_eps": 0.05,
            "num_hidden_layers": 4,
            "tie_word_embeddings": True,
            "sliding_window": 8,
            "query_pre_attn_scalar": 24,
            "attn_logit_softcapping": 4.0,
            "final_logit_softcapping": 12.0,
        },
        quiet=20.0,
        peculiar=(
            {"rms_norm_eps": 1e-6},
            {"sliding_window": 256},
            {"sliding_window": 9},
            {"query_pre_attn_scalar": 32},
            {"attn_logit_softcapping": None},
            {"final_logit_softcapping": None},
            {"hidden_activation": "silu"},
        ),
    ),
    Case(
        "gemma2-no-caps",
        "Gemma2Config",
        {
            "head_dim": 16,
            "num_hidden_layers": 2,
            "tie_word_embeddings": True,
            "query_pre_attn_scalar": 16,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
        },
        quiet=24.0,
    ),
    Case(
        "gemma3",
        "Gemma3TextConfig",
        {
            "hidden_size": 64,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 32,
            "num_hidden_layers": 4,
            "tie_word_embeddings": True,
            "sliding_window": 8,
            "sliding_window_pattern": 3,
            "query_pre_attn_scalar": 40,
            "attn_logit_softcapping": 3.0,  # has no effect in Gemma 3
            "final_logit_softcapping": 12.0,
            "rope_parameters": _GEMMA3_ROPE,
        },
        quiet=24.0,
        seed=4,
        peculiar=(
            {"sliding_window": 256},
            {"sliding_window": 9},
            {"sliding_window_pattern": 2},
            {"final_logit_softcapping": None},
            {"rope_parameters": _GEMMA3_ROPE | {"full_attention": _rope(theta=1_000_000.0)}},
            {"rope_parameters": _GEMMA3_ROPE | {"sliding_attention": _rope(theta=1_000_000.0)}},
        ),
    ),
    Case(
        "gemma4",
        "Gemma4TextConfig",
        {
            "hidden_size": 72,
            "num_attention_heads": 4,
            "head_dim": 32,
            "global_head_dim": 64,
            "num_hidden_layers": 6,
            "layer_types": ["sliding_attention", "full_attention"] * 3,
            "num_kv_shared_layers": 3,
            "use_double_wide_mlp": True,
            "hidden_size_per_layer_input": 20,
            "vocab_size_per_layer_input": 391,
            "tie_word_embeddings": True,
            "sliding_window": 8,
            "final_logit_softcapping": 12.0,
        },
        quiet=20.0,
        calm=2.0,
        older=False,
        peculiar=(
            {"sliding_window": 9},
            {"final_logit_softcapping": None},
            {
                "rope_parameters": _GEMMA4_ROPE
                | {"full_attention": _rope("proportional", 1e6, partial_rotary_factor=0.5)}
            },
            {"rope_parameters": _GEMMA4_ROPE | {"sliding_attention": _rope(theta=1_000_000.0)}},
        ),
    ),
    Case(
        "gemma4-keys-are-values",
        "Gemma4TextConfig",
        {
            "hidden_size": 64,
            "head_dim": 16,
            "global_head_dim": 32,
            "num_global_key_value_heads": 3,
            "attention_k_eq_v": True,
            "num_hidden_layers": 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "hidden_size_per_layer_input": 0,
            "tie_word_embeddings": True,
            "sliding_window": 12,
        },
        quiet=20.0,
        calm=2.0,
        older=False,
        seed=2,
        peculiar=({"sliding_window": 13},),
    ),
    Case(
        "gemma4-untied",
        "Gemma4TextConfig",
        {
            "head_dim": 16,
            "global_head_dim": 48,
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "attention_bias": True,
            "num_hidden_layers": 5,
            "layer_types": ["sliding_attention", *["sliding_attention", "full_attention"] * 2],
            "num_kv_shared_layers": 2,
            "hidden_size_per_layer_input": 16,
            "vocab_size_per_layer_input": 391,
            "sliding_window": 6,
        },
        calm=2.0,
        older=False,
        peculiar=({"sliding_window": 7},),
    ),
    *(
        Case(
            f"gemma4-unified-{name}",
            "Gemma4UnifiedTextConfig",
            {
                "hidden_size": 64,
                "head_dim": 16,
                "global_head_dim": 32,
                "num_hidden_layers": 4,
                "layer_types": ["sliding_attention", "full_attention"] * 2,
                "tie_word_embeddings": True,
                "sliding_window": 12,
                **fields,
            },
            quiet=20.0,
            calm=2.0,
            older=False,
            seed=seed,
            peculiar=({"sliding_window": 13},),
            brief=True,
        )
        for name, seed, fields in (
            ("keys-are-values", 2, {"num_global_key_value_heads": 3, "attention_k_eq_v": True}),
            ("one-key-head", 0, {"num_attention_heads": 3, "num_key_value_heads": 1}),
            ("shared", 1, {"num_kv_shared_layers": 2, "final_logit_softcapping": 12.0}),
        )
    ),
    Case(
        "smollm3",
        "SmolLM3Config",
        {
            "num_hidden_layers": 4,
            "no_rope_layer_interval": 2,
            "use_sliding_window": True,
            "sliding_window": 9,
            "tie_word_embeddings": True,
        },
        seed=2,
        peculiar=({"no_rope_layer_interval": 4}, {"use_sliding_window": False}, _PLAIN_ROPE),
    ),
    Case(
        "granite",
        "GraniteConfig",
        {
            "embedding_multiplier": 6.0,
            "logits_scaling": 4.0,
            "residual_multiplier": 0.4,
            "attention_multiplier": 0.4,
            "tie_word_embeddings": True,
        },
        quiet=24.0,
        peculiar=(
            {"embedding_multiplier": 1.0},
            {"logits_scaling": 1.0},
            {"residual_multiplier": 1.0},
            {"attention_multiplier": 0.25},
        ),
    ),
    Case("olmo", "OlmoConfig", {"clip_qkv": 1.5}, peculiar=({"clip_qkv": None},)),
    Case("olmo2", "Olmo2Config", {"rope_parameters": _rope(theta=500_000.0)}, seed=1),
    Case(
        "olmo3",
        "Olmo3Config",
        {
            "num_hidden_layers": 4,
            "sliding_window": 8,
            "rope_parameters": {
                "full_attention": _rope("yarn", 500_000.0, factor=8.0, original_max_position_embeddings=32),
                "sliding_attention": _rope(theta=500_000.0),
            },
        },
        peculiar=({"sliding_window": 9},),
    ),
    Case(
        "gemma",
        "GemmaConfig",
        {
            "hidden_size": 72,
            "num_attention_heads": 4,
            "head_dim": 32,
            "tie_word_embeddings": True,
            "hidden_act": "gelu",
        },
        quiet=20.0,
        peculiar=({"hidden_act": "silu"},),
    ),
    Case("seed-oss", "SeedOssConfig", {"head_dim": 32, "attention_bias": True, "attention_out_bias": True}),
    Case("arcee", "ArceeConfig", {"mlp_bias": True}, seed=1, peculiar=({"hidden_act": "gelu"},)),
    Case(
        "exaone4",
        "Exaone4Config",
        {"num_hidden_layers": 4, "sliding_window": 8, "sliding_window_pattern": 2},
        peculiar=({"sliding_window": 9},),
    ),
    Case(
        "exaone4-full",
        "Exaone4Config",
        {"sliding_window": None, "layer_types": ["full_attention"] * 3},
        seed=1,
        older=False,
    ),
    Case(
        "glm",
        "GlmConfig",
        {"head_dim": 32, "attention_bias": True, "rope_parameters": _rope(partial_rotary_factor=0.5)},
        peculiar=({"rope_parameters": _rope(partial_rotary_factor=1.0)},),
    ),
    Case("glm4", "Glm4Config", {"head_dim": 32, "rope_parameters": _rope(partial_rotary_factor=0.5)}, seed=1),
    Case(
        "granite4",
        "GraniteMoeHybridConfig",
        {
            "layer_types": ["full_attention"] * 3,
            "num_local_experts": 0,
            "shared_intermediate_size": 150,
            "position_embedding_type": "rope",
            "mamba_n_heads": 6,
            "embedding_multiplier": 6.0,
            "logits_scaling": 4.0,
            "residual_multiplier": 0.4,
            "attention_multiplier": 0.4,
            "tie_word_embeddings": True,
        },
        quiet=24.0,
        older=False,
        peculiar=({"position_embedding_type": None}, {"attention_multiplier": 0.25}),
    ),
    Case(
        "phi1",
        "PhiConfig",
        {"num_attention_heads": 3, "num_key_value_heads": 1, "num_hidden_layers": 4, "layer_norm_eps": 0.02},
        seed=7,
        peculiar=({"layer_norm_eps": 1e-5},),
    ),
    Case(
        "phi2",
        "PhiConfig",
        {
            "num_attention_heads": 2,
            "hidden_size": 160,
            "rope_parameters": _rope(partial_rotary_factor=0.4),
        },
        seed=33,
        peculiar=({"rope_parameters": _rope(partial_rotary_factor=0.8)}, {"hidden_act": "relu2"}),
    ),
    Case(
        "phi1.5",
        "PhiConfig",
        {"hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 4},
        seed=9,
        brief=True,
    ),
    Case(
        "nemotron",
        "NemotronConfig",
        {"head_dim": 32, "norm_eps": 0.05, "rope_parameters": _rope(partial_rotary_factor=0.5)},
        peculiar=({"norm_eps": 1e-5}, {"rope_parameters": _rope(partial_rotary_factor=1.0)}),
    ),
    Case("nemotron-biases", "NemotronConfig", {"head_dim": 64, "attention_bias": True, "mlp_bias": True}),
    Case(
        "apertus", "ApertusConfig", {"rope_parameters": _rope(theta=12e6)}, seed=4, older=False, peculiar=(_PLAIN_ROPE,)
    ),
    Case(
        "apertus-tied", "ApertusConfig", {"head_dim": 32, "attention_bias": True, "tie_word_embeddings": True}, seed=11
    ),
    Case(
        "mllama",
        "MllamaTextConfig",
        {
            "num_hidden_layers": 5,
            "cross_attention_layers": [1, 3],
            "rope_parameters": _rope(
                "llama3",
                500_000.0,
                factor=8.0,
                low_freq_factor=1.0,
                high_freq_factor=4.0,
                original_max_position_embeddings=32,
            ),
        },
        older=False,  # AutoConfig does not know it by itself
        peculiar=({"rope_parameters": _rope(theta=500_000.0)},),
    ),
    Case(
        "mllama-each-head",
        "MllamaTextConfig",
        {
            "hidden_size": 80,
            "num_attention_heads": 5,
            "num_key_value_heads": 5,
            "intermediate_size": 118,
            "num_hidden_layers": 4,
            "cross_attention_layers": [0],
        },
        older=False,
        brief=True,
    ),
    Case(
        "mllama-one-key-head",
        "MllamaTextConfig",
        {
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "num_hidden_layers": 4,
            "cross_attention_layers": [3, 8],  # as small models made from a large one's config have them
        },
        older=False,
        brief=True,
    ),
    Case("ernie4_5", "Ernie4_5Config", {"head_dim": 16, "use_bias": True}),
    Case("hunyuan", "HunYuanDenseV1Config", {"head_dim": 32}, seed=2),
    Case(
        "ministral3",
        "Ministral3Config",
        {
            "head_dim": 32,
            "rope_parameters": _rope(
                "yarn",
                1_000_000.0,
                factor=16.0,
                original_max_position_embeddings=16,
                mscale=1.0,
                mscale_all_dim=1.0,
                llama_4_scaling_beta=0.4,
            ),
        },
        older=False,
        peculiar=(
            {
                "rope_parameters": _rope(
                    "yarn",
                    1_000_000.0,
                    factor=16.0,
                    original_max_position_embeddings=16,
                    mscale=1.0,
                    mscale_all_dim=1.0,
                    llama_4_scaling_beta=0.1,
                )
            },
        ),
    ),
)
# Families with fewer than three cases have these shapes too, of which FP32 alone is compared.
_SHAPES: Mapping[str, Mapping[str, Any]] = {
    "each-head": {"hidden_size": 80, "num_attention_heads": 5, "num_key_value_heads": 5, "intermediate_size": 118},
    "one-key-head": {"hidden_size": 96, "num_attention_heads": 3, "num_key_value_heads": 1, "num_hidden_layers": 4},
}
_TIED_AS_THEY_ARE = {"gemma2", "gemma3", "olmo2"}
"""Others of random weights would say one token for ever."""
_SEEDS: Mapping[str, int] = {
    "ministral3-one-key-head": 1,
    "hunyuan-one-key-head": 1,
    "ernie4_5-one-key-head": 4,
    "glm4-each-head": 10,
    "glm-one-key-head": 1,
    "exaone4-each-head": 1,
    "arcee-each-head": 1,
    "seed-oss-each-head": 5,
    "seed-oss-one-key-head": 1,
    "gemma3-each-head": 1,
    "nemotron-each-head": 2,
    "apertus-each-head": 1,
    "mistral-each-head": 1,
    "mistral-one-key-head": 1,
    "olmo3-each-head": 9,
    "olmo-one-key-head": 2,
    "olmo2-one-key-head": 1,
    "granite-one-key-head": 1,
    "smollm3-one-key-head": 2,
}
"""Of these, where 0 does not do."""


def _in_other_shapes(whole: Sequence[Case]) -> Iterator[Case]:
    counts = Counter(case.architecture for case in whole)
    for case in {case.architecture: case for case in reversed(whole)}.values():
        for shape, fields in list(_SHAPES.items())[: max(0, 3 - counts[case.architecture])]:
            tied = case.fields.get("tie_word_embeddings", SIZES["tie_word_embeddings"])
            flipped = shape == "each-head" and case.name not in _TIED_AS_THEY_ARE
            others = {"head_dim": 32, "tie_word_embeddings": tied != flipped}
            kept = {key: value for key, value in case.fields.items() if key not in ("layer_types", "no_rope_layers")}
            name = f"{case.name}-{shape}"
            yield replace(
                case,
                name=name,
                fields={**kept, **fields, **others},
                seed=_SEEDS.get(name, 0),
                peculiar=(),
                brief=True,
            )


CASES = (*_WHOLE, *_in_other_shapes(_WHOLE))


def by_architecture() -> dict[str, list[Case]]:
    """All cases of each family."""
    found: dict[str, list[Case]] = {}
    for case in CASES:
        found.setdefault(case.architecture, []).append(case)
    return found


ROUNDED = tuple(
    case
    for case in _WHOLE
    if case in {each.architecture: each for each in reversed(_WHOLE)}.values()
    or case.name in ("llama-biases", "smollm2", "phi3-tied", "qwen2-tied", "granite4-hybrid", "gemma4-untied")
)
"""Cases that are built in other precisions than FP32: the first of each family, and what they leave open."""


def make_checkpoint(case: Case, folder: Path) -> Path:
    """The checkpoint of a case, as transformers saves it, with a tokenizer; returns `folder`."""
    import torch
    import transformers

    model = getattr(transformers, case.architecture)(_config(case))
    rng = np.random.default_rng(case.seed)
    with torch.no_grad():
        for name, parameter in (*model.named_parameters(), *_stored_buffers(model)):
            values = torch.as_tensor(_random(case, name, tuple(parameter.shape), rng))
            if name.endswith("A_log"):
                values -= 3.0  # states that are remembered for some tokens
            elif parameter.ndim <= 1:
                values += parameter.mean()  # what transformers begins with: ones, or zeros for biases and Gemma's norms
            if name.endswith(("q_norm.weight", "k_norm.weight")):
                values /= case.calm
            if name == "model.norm.weight":
                less = 1.0 - parameter.mean()  # Gemma stores norms less one
                values = (values + less) * case.quiet - less
            parameter.copy_(values)
    model.to(getattr(torch, case.dtype)).save_pretrained(folder)
    checkpoints.make_tokenizer(folder)
    return folder


def _stored_buffers(model: Any) -> list[tuple[str, Any]]:
    """Numbers that are no parameters of a model, and saved with them."""
    stored = model.state_dict()
    return [(name, buffer) for name, buffer in model.named_buffers() if name in stored and not name.endswith("eps")]


def _config(case: Case, **changes: Any) -> Any:
    import transformers

    return getattr(transformers, case.config)(**{**SIZES, **case.fields, **changes})


def _random(case: Case, name: str, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Matrices keep the size of what they multiply, and a bit more; a small embedding lets the layers decide."""
    if name.endswith(".D"):
        spread = 2.0  # what Mamba's states are passed by beside them is little
    elif len(shape) <= 1:
        spread = 0.3 if shape else 0.1
    elif "embed_tokens" in name:
        spread = 0.4 / case.quiet
    elif "lm_head" in name:
        spread = 0.4
    elif name.endswith(EXPERTS):
        spread = 1.4 / shape[-1] ** 0.5
    elif name.endswith(("mlp.gate.weight", "router.weight")):
        spread = 3.0 / shape[1] ** 0.5  # so that a token's experts are chosen with a clear lead
    else:
        spread = 1.4 / shape[1] ** 0.5
    return np.asarray(rng.normal(0, spread, shape), np.float32)


def as_older_transformers_saved(folder: Path) -> None:
    """Rewrites config.json as versions before 5 did, and most on the Hub are: rope fields apart, defaults left out."""
    import transformers

    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    defaults = transformers.AutoConfig.for_model(config["model_type"]).to_dict()
    kept = {
        key: value
        for key, value in config.items()
        if key in ("architectures", "model_type") or key not in defaults or defaults[key] != value
    }
    kept["torch_dtype"] = kept.pop("dtype", config.get("dtype"))
    for newer in ("rope_parameters", "layer_types", "no_rope_layers", "_sliding_window_pattern"):
        kept.pop(newer, None)
    older, silent = (_older_rope(parameters) for parameters in (config["rope_parameters"], defaults["rope_parameters"]))
    kept |= {key: value for key, value in older.items() if silent.get(key) != value}
    checkpoints.write_json(path, kept)


def _older_rope(parameters: dict[str, Any]) -> dict[str, Any]:
    older: dict[str, Any] = {}
    if "full_attention" in parameters:
        older["rope_local_base_freq"] = parameters["sliding_attention"]["rope_theta"]
        parameters = parameters["full_attention"]
    scaling = dict(parameters)
    older["rope_theta"] = scaling.pop("rope_theta")
    if "partial_rotary_factor" in scaling:
        older["partial_rotary_factor"] = scaling.pop("partial_rotary_factor")
    kind = scaling.pop("rope_type")
    if kind == "longrope":  # whose switch Phi-3 keeps outside
        scaling.pop("original_max_position_embeddings", None)
    return older if kind == "default" else older | {"rope_scaling": {"type": kind, "rope_type": kind, **scaling}}


@dataclass(frozen=True)
class Greedy:
    """What follows a prompt. clear: the smallest lead of a token over the next best, as a part of the logits' range."""

    tokens: tuple[int, ...]
    clear: float


@dataclass(frozen=True)
class Reference:
    """What transformers computes in float32, by the prompt's length. logits: [vocabulary] after the prompt."""

    logits: Mapping[int, Floats]
    greedy: Mapping[int, Greedy] = field(default_factory=dict)


class Original:
    """A checkpoint in transformers: float32, plain attention, every token anew, so that nothing depends on a cache."""

    def __init__(self, folder: Path, config: Any = None) -> None:
        import torch
        import transformers

        torch.set_num_threads(1)  # these models are too small to share
        stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.model = (
            getattr(transformers, stored["architectures"][0])
            .from_pretrained(folder, config=config, dtype=torch.float32, attn_implementation="eager")
            .eval()
        )

    def logits(self, tokens: Integers) -> Floats:
        """[vocabulary] after the last of `tokens` [n]."""
        import torch

        with torch.inference_mode():
            found = self.model(torch.from_numpy(tokens)[None], use_cache=False).logits[0, -1]
        result: Floats = found.numpy().copy()
        return result

    def store(self, stored: Callable[[str, Floats], Floats]) -> None:
        """Puts what `stored` makes of a matrix's name and values in the place of each matrix, or of all experts'."""
        import torch

        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if parameter.ndim == 2 or name.endswith(EXPERTS):
                    parameter.copy_(torch.from_numpy(stored(name, parameter.numpy().copy())))

    def greedy(self, tokens: Integers, count: int) -> Greedy:
        """The `count` likeliest tokens after `tokens` [n], one by one."""
        found: list[int] = []
        clear = float("inf")
        for _ in range(count):
            logits = self.logits(np.append(tokens, found).astype(np.int64))
            second, first = np.sort(logits)[-2:]
            clear = min(clear, float((first - second) / np.ptp(logits)))
            found.append(int(logits.argmax()))
        return Greedy(tuple(found), clear)


def refer(case: Case, folder: Path) -> Reference:
    """transformers on all prompts of a case."""
    original = Original(folder)
    return Reference(
        {length: original.logits(case.prompt[:length]) for length in case.lengths},
        {length: original.greedy(case.prompt[:length], GREEDY_TOKENS) for length in case.greedy_from},
    )


def changed(case: Case, folder: Path, change: Mapping[str, Any]) -> Floats:
    """Logits [vocabulary] after the longest prompt where the same weights are read with another configuration."""
    config = _config(case, **json.loads(json.dumps(change)))
    return Original(folder, config).logits(case.prompt)


def neutralised(case: Case, folder: Path) -> dict[str, Floats]:
    """Logits [vocabulary] after the longest prompt, for each kind of norm and bias with all of its kind neutral."""
    import torch

    original = Original(folder)
    kinds: dict[str, list[Any]] = {}
    for name, value in original.model.named_parameters():
        if value.ndim == 1 and "cross_attn" not in name:  # what looks at pictures shows in no text
            kinds.setdefault(".".join(part for part in name.split(".")[-3:] if not part.isdigit()), []).append(value)
    found = {}
    with torch.no_grad():
        for kind, values in kinds.items():
            kept = [value.clone() for value in values]
            for value in values:
                value.fill_(value.mean().round())
            found[kind] = original.logits(case.prompt)
            for value, before in zip(values, kept, strict=True):
                value.copy_(before)
    return found


@dataclass(frozen=True)
class Made:
    """A case's checkpoint, what transformers says to it, and where its builds go."""

    case: Case
    folder: Path
    reference: Reference
    settings: Settings

    @property
    def has_experts(self) -> bool:
        """Whether some layers are mixtures of experts."""
        return read_architecture(open_checkpoint(str(self.folder))).mixture is not None

    def built(self, adapter: Path | None = None, **recipe: Any) -> Path:
        """The streaming builder's work."""
        checkpoint = open_checkpoint(str(self.folder), adapter=adapter)
        return builder.build(checkpoint, Recipe.model_validate({"builder": "stream", **recipe}), self.settings).folder


def make(case: Case, home: Path) -> Made:
    """A case in a folder of its own."""
    folder = make_checkpoint(case, home / "checkpoint")
    settings = Settings(home=home, cache_dir=home / "models", config_file=home / "config.toml")
    return Made(case, folder, refer(case, folder), settings)


def distance(found: Floats, expected: Floats) -> float:
    """The largest difference of two logits, as a part of the range of those expected."""
    return float(np.abs(found - expected).max() / np.ptp(expected))


def train_adapter(case: Case, checkpoint: Path, folder: Path) -> Original:
    """A random LoRA on every linear module and on all experts, saved in `folder` as peft does; the model with it."""
    import peft
    import torch

    original = Original(checkpoint)
    torch.manual_seed(case.seed)
    # Of MLPs peft would mean the experts beside them as well, which are parameters and no modules; and some of Mamba's
    # modules it refuses to train.
    linear = [name for name, module in original.model.named_modules() if isinstance(module, torch.nn.Linear)]
    mixing = [name for name in linear if {"self_attn", "conv", "mamba"} & set(name.split("."))]
    has_experts = read_architecture(open_checkpoint(str(checkpoint))).mixture is not None
    of_mixtures = (*EXPERTS, *(f"{name}_bias" for name in EXPERTS), ".gate.weight", ".router.weight")
    config = peft.LoraConfig(
        r=3,
        lora_alpha=5,
        target_modules=mixing if has_experts else "all-linear",
        exclude_modules=r".*mamba.*(out_proj|conv1d)",
        target_parameters=[name for name, _ in original.model.named_parameters() if name.endswith(of_mixtures)],
        rank_pattern={"down_proj": 2} if has_experts else {},
        init_lora_weights=False,
    )
    peft.get_peft_model(original.model, config).save_pretrained(folder)
    return original


def with_adapter(made: Made, folder: Path) -> tuple[Floats, Floats]:
    """Logits [vocabulary] after the longest prompt with an adapter of `train_adapter`: ours, and peft's.

    folder: where the adapter goes.
    """
    original = train_adapter(made.case, made.folder, folder)
    decoder = OnnxDecoder(made.built(folder, precision="fp32"))
    return decoder.logits(made.case.prompt), original.logits(made.case.prompt)
