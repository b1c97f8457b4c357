"""Checkpoints in the forms in which others quantize, to be damaged: config.json, the headers of the weights, and those
tensors that say where the rest belongs, which lie as JSON beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests import checkpoints, packings
from tests.packings import AUTO_ROUND, AWQ, GPTQ, MLX, PACKED, Array, stated

SMALL = "small.json"
"""The numbers of tensors by name, or what one of bytes says: they take the place of those in the weights."""
_IN_WORDS = ("g_idx", "weight_shape", "weight_zero_point", "SCB", "absmax", "quant_map", "weight_scale", "scales")
_GROUP = {"num_bits": 4, "type": "int", "symmetric": True, "group_size": 32, "strategy": "group"}
_FORMS: Mapping[str, tuple[packings.Writer, dict[str, Any]]] = {
    "gptq": (partial(packings.gptq, act_order=True), stated(**GPTQ, desc_act=True, checkpoint_format="gptq")),
    "awq": (packings.awq, stated(**AWQ, modules_to_not_convert=["lm_head"])),
    "auto-round": (packings.gptq, AUTO_ROUND),
    "compressed": (
        partial(packings.compressed, symmetric=False, act_order=True),
        stated(**PACKED, config_groups={"group_0": {"targets": ["Linear"], "weights": _GROUP}}, ignore=["lm_head"]),
    ),
    "int8": (
        partial(packings.int8, symmetric=False),
        stated(quant_method="compressed-tensors", format="int-quantized"),
    ),
    "fp8": (partial(packings.fp8, block=(128, 128)), stated(quant_method="fp8", weight_block_size=[128, 128])),
    "nf4": (partial(packings.nf4, nested=True), stated(quant_method="bitsandbytes", load_in_4bit=True)),
    "llm-int8": (packings.llm_int8, stated(quant_method="bitsandbytes", load_in_8bit=True)),
    "mlx": (packings.mlx, {**MLX, "quantization": {**MLX["quantization"], "model.embed_tokens": {"bits": 8}}}),
    "mxfp4": (packings.mxfp4, stated(**PACKED | {"format": "mxfp4-pack-quantized"})),
}


def _make(writer: packings.Writer, config: dict[str, Any], folder: Path) -> None:
    checkpoints.make_checkpoint(folder / "packed")
    packings.quantize(folder / "packed", writer, config, change=partial(_take_small, folder))
    for path in (folder / "packed-plain").iterdir():
        path.unlink()
    (folder / "packed-plain").rmdir()


def _take_small(folder: Path, tensors: dict[str, Array]) -> None:
    """Of one matrix, what says how the others belong together."""
    name = "model.layers.0.mlp.down_proj."
    small: dict[str, Any] = {}
    for tensor, values in tensors.items():
        if tensor.startswith(name) and "quant_state" in tensor:
            small[tensor] = json.loads(values.tobytes())
        elif tensor.startswith(name) and tensor.endswith(_IN_WORDS):
            small[tensor] = values.astype(float if values.dtype.kind not in "iu" else int).tolist()
    checkpoints.write_json(folder / "packed" / SMALL, small)


def _make_experts(folder: Path) -> None:
    """GPT-OSS, whose experts alone are packed, all of a layer's in one tensor."""
    from safetensors.numpy import save_file

    experts, inner, hidden = 3, 32, checkpoints.HIDDEN
    config = checkpoints.qwen2_config(
        architectures=["GptOssForCausalLM"],
        model_type="gpt_oss",
        head_dim=checkpoints.HEAD_SIZE,
        num_local_experts=experts,
        num_experts_per_tok=2,
        sliding_window=64,
        layer_types=["sliding_attention", "full_attention"],
        **stated(quant_method="mxfp4", modules_to_not_convert=["lm_head"]),
    )
    checkpoints.make_checkpoint(folder / "packed", config=config)
    rng = np.random.default_rng(3)
    tensors = {name: values for name, values in checkpoints.qwen2_weights().items() if ".mlp." not in name}
    for layer in range(checkpoints.LAYERS):
        within = f"model.layers.{layer}."
        tensors[f"{within}self_attn.sinks"] = np.zeros(checkpoints.HIDDEN // checkpoints.HEAD_SIZE, np.float32)
        tensors[f"{within}mlp.router.weight"] = np.ones((experts, hidden), np.float32)
        tensors[f"{within}mlp.router.bias"] = np.ones(experts, np.float32)
        for name, rows, width in (("gate_up_proj", 2 * inner, hidden), ("down_proj", hidden, inner)):
            parts, _ = packings.mxfp4(rng, experts * rows, width)
            name = f"{within}mlp.experts.{name}"
            tensors[f"{name}_blocks"] = parts["weight_packed"].reshape(experts, rows, width // 32, 16)
            tensors[f"{name}_scales"] = parts["weight_scale"].reshape(experts, rows, width // 32)
            tensors[f"{name}_bias"] = np.zeros((experts, rows), np.float32)
    save_file(tensors, folder / "packed" / "model.safetensors", {"format": "pt"})
    checkpoints.write_json(folder / "packed" / SMALL, {})


def put_back(folder: Path) -> None:
    """Writes what SMALL says into the weights, as far as it can be: what is damaged there is read as tensors are."""
    from safetensors.numpy import load_file, save_file

    path, weights = folder / SMALL, folder / "model.safetensors"
    if not all(each.is_file() and each.stat().st_size < 1 << 24 for each in (path, weights)):
        return
    try:
        small, tensors = json.loads(path.read_bytes()), load_file(weights)
        for name, values in small.items():
            if "quant_state" in name:
                tensors[name] = np.frombuffer(json.dumps(values).encode(), np.uint8)
            elif name in tensors:
                tensors[name] = np.asarray(values).astype(tensors[name].dtype)
    except Exception:  # no tensors can be made of it; safetensors has errors of its own
        return
    save_file(tensors, weights, {"format": "pt"})


MAKERS: Mapping[str, Callable[[Path], None]] = {
    "experts": _make_experts,
    **{name: partial(_make, *form) for name, form in _FORMS.items()},
}
FILES = ("packed/config.json", "packed/config.json", "packed/model.safetensors", f"packed/{SMALL}")
