"""Text models inside models that see: built alone, against what transformers makes of a text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edgeship import builder
from edgeship.checkpoint import open_checkpoint
from edgeship.recipe import Recipe
from edgeship.settings import Settings
from tests import checkpoints
from tests.families import SIZES, Floats
from tests.onnx_decoder import OnnxDecoder

pytestmark = pytest.mark.slow
CLOSE = 1e-5
PROMPT = np.random.default_rng(0).integers(3, SIZES["vocab_size"], 40)
_VISION: Mapping[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
_QWEN_VISION: dict[str, Any] = {
    "depth": 1,
    "embed_dim": 32,
    "hidden_size": 32,
    "num_heads": 2,
    "intermediate_size": 48,
}


@dataclass(frozen=True)
class Wrapped:
    """A small model that sees. config, model: classes of transformers. text, vision, more: what their fields say.

    nested: what the text model is of has a part of its own in config.json.
    left_out: a module that the build names. around: a part of the names of the text model's modules.
    """

    name: str
    config: str
    model: str
    text: Mapping[str, Any]
    vision: Mapping[str, Any]
    more: Mapping[str, Any]
    nested: bool = True
    left_out: str = "vision_tower"
    around: str = "language_model"


_ROPE: dict[str, Any] = {"rope_type": "default", "rope_theta": 10_000.0}
CASES = (
    Wrapped(
        "gemma3",
        "Gemma3Config",
        "Gemma3ForConditionalGeneration",
        {"head_dim": 32, "sliding_window": 8, "sliding_window_pattern": 2, "query_pre_attn_scalar": 32},
        _VISION,
        {"mm_tokens_per_image": 4, "tie_word_embeddings": True},
    ),
    Wrapped(
        "gemma4",
        "Gemma4Config",
        "Gemma4ForConditionalGeneration",
        {
            "head_dim": 16,
            "global_head_dim": 32,
            "num_hidden_layers": 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "num_kv_shared_layers": 2,
            "sliding_window": 8,
            "hidden_size_per_layer_input": 16,
            "vocab_size_per_layer_input": SIZES["vocab_size"],
        },
        {**_VISION, "num_key_value_heads": 2, "head_dim": 16},
        {
            "tie_word_embeddings": True,
            "audio_config": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
        },
    ),
    Wrapped(
        "gemma4-unified",
        "Gemma4UnifiedConfig",
        "Gemma4UnifiedForConditionalGeneration",
        {
            "head_dim": 16,
            "global_head_dim": 32,
            "num_global_key_value_heads": 1,
            "attention_k_eq_v": True,
            "num_hidden_layers": 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "sliding_window": 8,
        },
        {"mm_embed_dim": 32, "mm_posemb_size": 8, "patch_size": 4},
        {"tie_word_embeddings": True},
        left_out="embed_vision",
    ),
    Wrapped(
        "mistral3",
        "Mistral3Config",
        "Mistral3ForConditionalGeneration",
        {"model_type": "ministral3", "head_dim": 32},
        {"model_type": "pixtral", **_VISION},
        {"tie_word_embeddings": False},
    ),
    Wrapped(
        "qwen2-vl",
        "Qwen2VLConfig",
        "Qwen2VLForConditionalGeneration",
        {"rope_parameters": _ROPE | {"mrope_section": [2, 3, 3]}},
        _QWEN_VISION | {"hidden_size": 96},
        {"tie_word_embeddings": True},
        left_out="visual",
    ),
    Wrapped(
        "qwen2.5-vl",
        "Qwen2_5_VLConfig",
        "Qwen2_5_VLForConditionalGeneration",
        {"rope_parameters": _ROPE | {"mrope_section": [2, 3, 3]}},
        _QWEN_VISION | {"out_hidden_size": 96},
        {"tie_word_embeddings": False},
        left_out="visual",
    ),
    Wrapped(
        "qwen3-vl",
        "Qwen3VLConfig",
        "Qwen3VLForConditionalGeneration",
        {"head_dim": 32, "rope_parameters": _ROPE | {"mrope_section": [6, 5, 5], "mrope_interleaved": True}},
        _QWEN_VISION | {"out_hidden_size": 96, "deepstack_visual_indexes": [0]},
        {"tie_word_embeddings": True},
        left_out="visual",
    ),
    Wrapped(
        "qwen3-vl-moe",
        "Qwen3VLMoeConfig",
        "Qwen3VLMoeForConditionalGeneration",
        {
            "head_dim": 32,
            "rope_parameters": _ROPE | {"mrope_section": [6, 5, 5], "mrope_interleaved": True},
            "moe_intermediate_size": 40,
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "mlp_only_layers": [1],
        },
        _QWEN_VISION | {"out_hidden_size": 96, "deepstack_visual_indexes": [0]},
        {"tie_word_embeddings": False},
        left_out="visual",
    ),
    Wrapped(
        "qwen3.5",
        "Qwen3_5Config",
        "Qwen3_5ForConditionalGeneration",
        {
            "head_dim": 32,
            "rope_parameters": _ROPE
            | {"partial_rotary_factor": 0.5, "mrope_section": [3, 3, 2], "mrope_interleaved": True},
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
            "linear_key_head_dim": 24,
            "linear_value_head_dim": 20,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
        },
        _QWEN_VISION | {"out_hidden_size": 96},
        {"tie_word_embeddings": True},
        left_out="visual",
    ),
    Wrapped(
        "lfm2-vl",
        "Lfm2VlConfig",
        "Lfm2VlForConditionalGeneration",
        {"model_type": "lfm2", "layer_types": ["conv", "full_attention", "conv"], "block_auto_adjust_ff_dim": False},
        {**_VISION, "model_type": "siglip2_vision_model", "num_patches": 16},
        {"tie_word_embeddings": True},
    ),
    Wrapped(
        "mllama",
        "MllamaConfig",
        "MllamaForConditionalGeneration",
        {"num_hidden_layers": 4, "cross_attention_layers": [1]},
        {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_global_layers": 1,
            "attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
            "vision_output_dim": 64,
            "intermediate_layers_indices": [0],
        },
        {},
        left_out="cross-attention layers 1 (13 tensors, ",
    ),
    Wrapped(
        "phi4-multimodal",
        "Phi4MultimodalConfig",
        "Phi4MultimodalForCausalLM",
        {},
        {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "crop_size": 28}
        | {"image_size": 28, "patch_size": 14},
        {
            "audio_config": {"hidden_size": 32, "intermediate_size": 48, "num_blocks": 1, "num_attention_heads": 2}
            | {"ext_pw_out_channel": 32, "depthwise_separable_out_channel": 32, "nemo_conv_channels": 32},
            "tie_word_embeddings": True,
        },
        nested=False,
        left_out="embed_tokens_extend",
        around="layers",
    ),
)


def made(case: Wrapped, folder: Path) -> Floats:
    """A checkpoint as transformers saves it; what it says to PROMPT, float32 [vocabulary]."""
    import torch
    import transformers

    text = {**SIZES, **case.text}
    inner = {"text_config": text} if case.nested else text
    config = getattr(transformers, case.config)(**{"vision_config": dict(case.vision), **inner, **case.more})
    model = getattr(transformers, case.model)(config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = 0.02 if parameter.ndim == 1 else 1.4 / parameter.shape[-1] ** 0.5
            parameter.add_(torch.randn(parameter.shape, generator=generator) * spread * ("embed" not in name))
        logits = model(torch.from_numpy(PROMPT)[None]).logits[0, -1].numpy().copy()
    model.save_pretrained(folder)
    checkpoints.make_tokenizer(folder)
    found: Floats = logits
    return found


def built(folder: Path, settings: Settings, adapter: Path | None = None) -> Floats:
    recipe = Recipe.model_validate({"precision": "fp32", "builder": "stream"})
    build = builder.build(open_checkpoint(str(folder), adapter=adapter), recipe, settings)
    found: Floats = OnnxDecoder(build.folder).logits(PROMPT)
    return found


def distance(found: Floats, expected: Floats) -> float:
    return float(np.abs(found - expected).max() / np.ptp(expected))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_text_part_is_what_transformers_computes(case: Wrapped, tmp_path: Path, settings: Settings) -> None:
    expected = made(case, tmp_path / "checkpoint")
    checkpoint = open_checkpoint(str(tmp_path / "checkpoint"))
    note = next(note for note in checkpoint.notes if "the text model alone" in note)
    assert "% of the weights)" in note
    assert case.left_out in note
    assert distance(built(tmp_path / "checkpoint", settings), expected) < CLOSE


def test_experts_that_are_stored_with_inputs_first_are_the_same(tmp_path: Path, settings: Settings) -> None:
    """As on the Hub; transformers 5 saves them with outputs first, and reads both."""
    expected = made(next(case for case in CASES if case.name == "qwen3-vl-moe"), tmp_path / "checkpoint")
    path = tmp_path / "checkpoint/model.safetensors"
    turned = {
        name: np.ascontiguousarray(values.swapaxes(1, 2)) if ".experts." in name else values
        for name, values in load_file(path).items()
    }
    save_file(turned, path, {"format": "pt"})
    assert distance(built(tmp_path / "checkpoint", settings), expected) < CLOSE


TARGETS = ("q_proj", "qkv_proj", "in_proj_qkv", "in_proj", "out_proj", "down_proj", "w2")


def test_adapters_that_lie_beside_their_base_are_left_out_of_a_text(tmp_path: Path, settings: Settings) -> None:
    case = next(case for case in CASES if case.name == "phi4-multimodal")
    expected = made(case, tmp_path / "checkpoint")
    as_remote_code_saved(tmp_path / "checkpoint")
    [note] = [note for note in open_checkpoint(str(tmp_path / "checkpoint")).notes if "the text model alone" in note]
    assert "LoRA for vision (6 tensors, " in note
    assert "qkv_proj.base_layer.weight is read as model.layers.0" in note
    assert distance(built(tmp_path / "checkpoint", settings), expected) < CLOSE


def as_remote_code_saved(folder: Path) -> None:
    """Rewrites a checkpoint of Phi-4-multimodal as its own code does, and as it is on the Hub."""
    weights = load_file(folder / "model.safetensors")
    named = {name.replace("qkv_proj.", "qkv_proj.base_layer."): value for name, value in weights.items()}
    for layer in range(SIZES["num_hidden_layers"]):
        module = f"model.layers.{layer}.self_attn.qkv_proj"
        for adapter, rank in (("vision", 4), ("speech", 6)):
            named[f"{module}.lora_A.{adapter}.weight"] = np.ones((rank, 96), np.float32)
            named[f"{module}.lora_B.{adapter}.weight"] = np.ones((160, rank), np.float32)
    save_file(named, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"architectures": ["Phi4MMForCausalLM"], "model_type": "phi4mm"}
    checkpoints.write_json(folder / "config.json", config)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_adapter_trained_on_the_whole_changes_the_text_part(
    case: Wrapped, tmp_path: Path, settings: Settings
) -> None:
    import peft
    import torch
    import transformers

    made(case, tmp_path / "checkpoint")
    model = getattr(transformers, case.model).from_pretrained(tmp_path / "checkpoint", dtype=torch.float32).eval()
    torch.manual_seed(3)
    there = [target for target in TARGETS if any(name.endswith(f".{target}") for name, _ in model.named_modules())]
    # As people train whom only texts concern: a pattern that leaves what sees alone.
    pattern = rf".*{case.around}.*\.({'|'.join(there)})"
    trained = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=pattern, init_lora_weights=False))
    with torch.no_grad():
        expected = trained(torch.from_numpy(PROMPT)[None]).logits[0, -1].numpy().copy()
    trained.save_pretrained(tmp_path / "adapter")

    assert distance(built(tmp_path / "checkpoint", settings), expected) > 0.01
    found = built(tmp_path / "checkpoint", settings, adapter=tmp_path / "adapter")
    assert distance(found, expected) < CLOSE
