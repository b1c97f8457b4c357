"""The tensors of a quantized checkpoint, those of each packed matrix put together under the name of a plain weight."""

from __future__ import annotations

from collections.abc import Mapping

from edgeship.checkpoint import packed_codes, packed_integers
from edgeship.checkpoint.packed import AGAIN, Packed, Tensor, wrong
from edgeship.checkpoint.quantized import Packing
from edgeship.checkpoint.safetensors_file import FLOATS, StoredTensor, read_bits
from edgeship.errors import CheckpointInvalid

Parts = dict[str, StoredTensor]

_STATES = ("weight.quant_state.bitsandbytes__nf4", "weight.quant_state.bitsandbytes__fp4")
_BESIDE = frozenset(
    {
        *("qweight", "qzeros", "scales", "g_idx", "biases", "SCB", "weight_format", "weight_scale_inv"),
        *("weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx", "weight_global_scale"),
        *("weight.absmax", "weight.quant_map", "weight.nested_absmax", "weight.nested_quant_map", *_STATES),
    }
)
"""What the names of a packed matrix's tensors end with, after the name of the module."""
_OF_ACTIVATIONS = frozenset(
    {"input_scale", "input_scale_ub", "input_zero_point", "activation_scale", "output_scale", "k_scale", "v_scale"}
)
"""Scales for what a model computes, which is not quantized so here: left out."""


def unpack(tensors: Mapping[str, StoredTensor], packing: Packing) -> dict[str, Tensor]:
    """All tensors by name, each packed matrix as one; little is read.

    Raises CheckpointInvalid that names the tensor for one that is missing or not as its form asks for, and for a form
    of a matrix that cannot be read.
    """
    if packing.method == "MXFP4":
        return _with_experts(tensors)
    modules: dict[str, Parts] = {}
    for name, tensor in tensors.items():
        module, end = _split(name)
        if end in _BESIDE:
            modules.setdefault(module, {})[end] = tensor
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        module, end = _split(name)
        if module in modules and end in _BESIDE | {"weight"}:
            weight = f"{module}.weight"
            if weight not in found:
                parts = modules[module] | ({"weight": tensors[weight]} if weight in tensors else {})
                found[weight] = _open(weight, parts, packing)
        elif end not in _OF_ACTIVATIONS:
            if end == "weight" and tensor.dtype not in FLOATS:
                wrong(tensor, f"is stored as {tensor.dtype}, and the scales that belong to it are missing")
            found[name] = tensor
    return found


def _with_experts(tensors: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    """Those of GPT-OSS, whose experts alone are packed: all of a layer's in one tensor, which keeps its name."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        blocks, scales = (f"{name.rpartition('_')[0]}_{end}" for end in ("blocks", "scales"))
        if name == blocks:
            if scales not in tensors:
                wrong(tensor, f"has no {scales} beside it")
            found[name] = packed_codes.open_mxfp4_stack(name, tensor, tensors[scales])
        elif name != scales or blocks not in tensors:
            found[name] = tensor
    return found


def _split(name: str) -> tuple[str, str]:
    """The name of a module, and what the name of its tensor ends with."""
    module, dot, end = name.rpartition(".weight.")
    if dot:
        return module, f"weight.{end}"
    module, _, end = name.rpartition(".")
    return module, end


def _open(name: str, parts: Parts, packing: Packing) -> Packed:
    """The matrix of this name, all of whose parts are read. Raises CheckpointInvalid for one that its form has not."""
    opened = _by_form(name, parts, packing)
    used = {part.name for part in opened.parts.values()}
    for end, part in parts.items():
        # A shape is told by the others too, and zero points of zero change nothing.
        if part.name not in used and end != "weight_shape" and (end != "weight_zero_point" or read_bits(part).any()):
            what = f"is there beside {next(iter(opened.parts.values())).name}, and {opened.dtype} is read without it"
            raise CheckpointInvalid(f"{part.name} {what}", where=str(part.path), hint=AGAIN)
    return opened


def _by_form(name: str, parts: Parts, packing: Packing) -> Packed:
    """The matrix of this name, by what it is made of."""
    if "qweight" in parts or "qzeros" in parts:
        return _open_words(name, parts, packing)
    if any(end.startswith("weight.") for end in parts):
        return _open_bitsandbytes(name, parts)
    if "weight_packed" in parts or "weight_shape" in parts:
        return _open_compressed(name, parts, packing)
    weight = _needed(name, parts, weight="weight")["weight"]
    if weight.dtype in packed_codes.FP8_TYPES:
        scales = "weight_scale_inv" if "weight_scale_inv" in parts else "weight_scale"
        return packed_codes.open_fp8(name, _needed(name, parts, weight="weight", scales=scales), packing.block)
    if weight.dtype == "I8" and "SCB" in parts:
        needed = _needed(name, parts, weight="weight", scales="SCB")
        return packed_integers.open_row_integers(name, needed | _there(parts, format="weight_format"))
    if weight.dtype == "I8":
        needed = _needed(name, parts, weight="weight", scales="weight_scale")
        return packed_integers.open_compressed(name, needed | _stated(name, parts, packing))
    if weight.dtype == "U32":
        bits, group_size = packing.of_module(name.removesuffix(".weight"))
        needed = _needed(name, parts, weight="weight", scales="scales", biases="biases")
        return packed_codes.open_mlx(name, needed, bits, group_size)
    return wrong(weight, f"is stored as {weight.dtype} beside {', '.join(sorted(parts))}, which is no form known here")


def _open_words(name: str, parts: Parts, packing: Packing) -> Packed:
    order = {"g_idx": "g_idx"} if packing.ordered else {}
    needed = _needed(name, parts, qweight="qweight", qzeros="qzeros", scales="scales", **order)
    needed |= _there(parts, g_idx="g_idx")
    if packing.awq:
        return packed_integers.open_awq(name, needed, packing.group_size)
    return packed_integers.open_gptq(
        name,
        needed,
        packing.bits or 4,
        packing.group_size,
        symmetric=packing.symmetric,
        offset=packing.offset,
    )


def _open_compressed(name: str, parts: Parts, packing: Packing) -> Packed:
    needed = _needed(name, parts, packed="weight_packed", scales="weight_scale")
    if "weight_global_scale" in parts:
        wrong(needed["packed"], "is NVFP4, which is not read")
    if needed["packed"].dtype == "U8":
        return packed_codes.open_mxfp4(name, needed)
    needed |= _needed(name, parts, shape="weight_shape")
    return packed_integers.open_compressed(name, needed | _stated(name, parts, packing))


def _stated(name: str, parts: Parts, packing: Packing) -> Parts:
    """Zero points and order of compressed-tensors' integers: those that are there, and those that the config states."""
    ends = {"zero_points": "weight_zero_point", "g_idx": "weight_g_idx"}
    stated = {
        role: ends[role] for role, said in (("zero_points", packing.asymmetric), ("g_idx", packing.ordered)) if said
    }
    return _there(parts, **ends) | _needed(name, parts, **stated)


def _open_bitsandbytes(name: str, parts: Parts) -> Packed:
    state = next((end for end in _STATES if end in parts), _STATES[0])
    needed = _needed(name, parts, weight="weight", absmax="weight.absmax", quant_map="weight.quant_map", state=state)
    if "weight.nested_absmax" in parts or "weight.nested_quant_map" in parts:
        needed |= _needed(name, parts, nested_absmax="weight.nested_absmax", nested_quant_map="weight.nested_quant_map")
    return packed_codes.open_bitsandbytes(name, needed)


def _needed(name: str, parts: Parts, **ends: str) -> Parts:
    """The parts by their roles. Raises CheckpointInvalid for one that is not there."""
    missing = next((end for end in ends.values() if end not in parts), None)
    if missing is not None:
        first = next(iter(parts.values()))
        raise CheckpointInvalid(
            f"tensor {name.removesuffix('weight')}{missing} is missing, which belongs to {first.name}",
            where=str(first.path),
            hint=AGAIN,
        )
    return {role: parts[end] for role, end in ends.items()}


def _there(parts: Parts, **ends: str) -> Parts:
    """Those of the parts that are there, by their roles."""
    return {role: parts[end] for role, end in ends.items() if end in parts}
