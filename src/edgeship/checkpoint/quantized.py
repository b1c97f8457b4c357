"""Forms in which others keep quantized weights: told by name, since none of them can be built from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeship.checkpoint.safetensors_file import FLOATS, StoredTensor
from edgeship.system.fields import shown

_BEFORE = "Give the checkpoint as it was before it was quantized."
_UNDO = {
    "bitsandbytes": "Give the checkpoint as it was before it was loaded in 4 or 8 bits, with the adapter as --adapter "
    "where one was trained on it; or undo it: model.dequantize() of transformers, then model.save_pretrained.",
    "MLX": "Give the checkpoint that it was made from, or undo it: mlx_lm.convert --dequantize.",
    "FP8": "Give it in bfloat16: most makers publish it so too.",
}
_NAMES = {
    "bitsandbytes": "bitsandbytes",
    "gptq": "GPTQ",
    "awq": "AWQ",
    "compressed-tensors": "compressed-tensors",
    "fp8": "FP8",
    "fbgemm_fp8": "FP8",
    "mxfp4": "MXFP4",
    "hqq": "HQQ",
}
# What the names of tensors end with, by form; the first whose ends are all there counts.
_ENDS: tuple[tuple[str, frozenset[str]], ...] = (
    ("bitsandbytes", frozenset({"absmax", "quant_map"})),
    ("bitsandbytes", frozenset({"SCB"})),
    ("compressed-tensors", frozenset({"weight_packed"})),
    ("GPTQ", frozenset({"qweight", "qzeros", "g_idx"})),
    ("AWQ", frozenset({"qweight", "qzeros"})),
    ("MLX", frozenset({"scales", "biases"})),
    ("HQQ", frozenset({"W_q"})),
    ("FP8", frozenset({"weight_scale_inv"})),
)
_FLOATS_OF_8_BITS = ("F8_E4M3", "F8_E5M2")
# What the names of quantized copies end with on the Hub.
_COPY = re.compile(
    r"(?i)[-_](unsloth-)?((bnb|mlx|gptq|awq|fp8|hqq)([-_]?(int)?[2348](bits?)?)?|(int)?[2348]-?bits?|w4a16|w8a8|fp8)"
)


@dataclass(frozen=True)
class Quantized:
    """A form of quantized weights.

    form: its name, with the bits where they are stated. shown_by: what says so. hint: what to give instead.
    """

    form: str
    shown_by: str
    hint: str


def find_form(config: Mapping[str, Any], tensors: Mapping[str, StoredTensor]) -> Quantized | None:
    """The form that config.json states, or that the tensors show where it is silent; None for plain weights."""
    stated, seen = _stated(config), _seen(tensors)
    if stated is None:
        return None if seen is None else Quantized(seen, "its tensors show", _UNDO.get(seen, _BEFORE))
    key, method, bits = stated
    form = (_NAMES.get(method, method) if method else seen) or "a method that it does not name"
    hint = _UNDO.get(form, _BEFORE)
    if seen is None and tensors and all(tensor.dtype in FLOATS for tensor in tensors.values()):
        hint = f"Where the weights are plain numbers again, take {key} out of config.json. Else: {hint}"
    said = f"config.json says: {key} {shown(config[key])}"
    return Quantized(f"{form} with {bits} bits" if bits else form, said, hint)


def plain_copy(hub_id: str) -> str:
    """What a quantized copy on the Hub is presumably made of; the same where its name says nothing."""
    before, name = hub_id, _COPY.sub("", hub_id)
    while name != before:
        before, name = name, _COPY.sub("", name)
    return name


def _stated(config: Mapping[str, Any]) -> tuple[str, str | None, object] | None:
    """The field of config.json that states a form, its method and bits, which may be None; None where none does."""
    mlx = config.get("quantization")
    if isinstance(mlx, Mapping) and "group_size" in mlx:
        return "quantization", "MLX", mlx.get("bits")
    for key in ("quantization_config", "compression_config"):
        said = config.get(key)
        if isinstance(said, Mapping) and said:
            method = said.get("quant_method")
            bits = said.get("bits") or (4 if said.get("load_in_4bit") else 8 if said.get("load_in_8bit") else None)
            return key, None if method is None else str(method), bits
    return None


def _seen(tensors: Mapping[str, StoredTensor]) -> str | None:
    ends = {name.rpartition(".")[2] for name in tensors}
    found = next((form for form, needed in _ENDS if needed <= ends), None)
    if found is None and any(".quant_state.bitsandbytes__" in name for name in tensors):
        return "bitsandbytes"
    if found is None and any(tensor.dtype in _FLOATS_OF_8_BITS for tensor in tensors.values()):
        return "FP8"
    if found is None and {"gate_up_proj_blocks", "gate_up_proj_scales"} <= ends:
        return "MXFP4"
    return found
