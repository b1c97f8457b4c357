"""Forms in which others keep quantized weights: which it is, by config.json and the tensors, and whether it is read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from edgeship.checkpoint.packed import Packed, Tensor
from edgeship.checkpoint.packed_codes import Bitsandbytes4
from edgeship.checkpoint.packed_integers import PackedIntegers
from edgeship.checkpoint.safetensors_file import FLOATS, StoredTensor
from edgeship.system.fields import Fields, shown

_BEFORE = "Give the checkpoint as it was before it was quantized."
_NAMES = {
    "bitsandbytes": "bitsandbytes",
    "gptq": "GPTQ",
    "awq": "AWQ",
    "auto-round": "AutoRound",
    "intel/auto-round": "AutoRound",
    "compressed-tensors": "compressed-tensors",
    "fp8": "FP8",
    "fbgemm_fp8": "FP8",
    "modelopt": "ModelOpt",
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
_ALSO_SEEN = {
    "GPTQ": ("GPTQ", "AWQ"),
    "AWQ": ("GPTQ", "AWQ"),
    "AutoRound": ("GPTQ", "AWQ"),
    "compressed-tensors": ("compressed-tensors", "FP8"),
    "ModelOpt": ("FP8",),
}
"""As what the tensors of a form may be seen; only as itself where it is not listed."""
_FLOATS_OF_8_BITS = ("F8_E4M3", "F8_E5M2")
_COMPRESSED = (
    *("dense", "pack-quantized", "int-quantized", "float-quantized", "naive-quantized"),
    *("mxfp4-pack-quantized", "mixed-precision"),
)
# What the names of quantized copies end with on the Hub.
_COPY = re.compile(
    r"(?i)[-_](unsloth-)?((bnb|mlx|gptq|awq|fp8|hqq)([-_]?(int)?[2348](bits?)?)?|(int)?[2348]-?bits?|w4a16|w8a8|fp8)"
)


@dataclass(frozen=True)
class Packing:
    """How a form that is read keeps its weights, as far as the tensors themselves do not say it.

    method: its name. bits, group_size: of most matrices, group_size -1 for whole rows, None where it is not stated.
    awq: words lie as AWQ's do, not as GPTQ's. symmetric: GPTQ's zero points are half of the range. offset: what is
    added to its stored zero points. asymmetric: compressed-tensors' integers have zero points. ordered: columns of a
    group lie apart. block: of FP8, rows and columns that share a scale. modules: MLX's bits and group size of some
    modules.
    """

    method: str
    bits: int | None = None
    group_size: int | None = None
    awq: bool = False
    symmetric: bool = False
    offset: int = 1
    asymmetric: bool = False
    ordered: bool = False
    block: tuple[int, int] | None = None
    modules: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def of_module(self, name: str) -> tuple[int, int]:
        """MLX's bits and group size of one module."""
        return self.modules.get(name, (self.bits or 4, self.group_size or 64))


@dataclass(frozen=True)
class Quantized:
    """A form of quantized weights.

    form: its name, with bits and groups where they are known. shown_by: what says so. packing: how it is read; None
    where it is not, and then hint is what to give instead. bits, group_size: of most of the matrices that were read.
    scattered: those of these that have groups whose columns lie apart, by name.
    """

    form: str
    shown_by: str
    hint: str = ""
    packing: Packing | None = None
    bits: int | None = None
    group_size: int | None = None
    scattered: frozenset[str] = frozenset()

    def of_tensors(self, tensors: Mapping[str, Tensor]) -> Quantized:
        """The same with what the tensors that were read say of it."""
        found = [tensor for tensor in tensors.values() if isinstance(tensor, Packed)]
        kinds = Counter((tensor.dtype, tensor.bits, _groups(tensor)) for tensor in found)
        if not kinds or self.packing is None:
            return self
        (dtype, bits, groups), _ = kinds.most_common(1)[0]
        kind = f" ({dtype})" if dtype in ("nf4", "fp4", "mxfp4") else ""
        group_size = next(tensor.group_size for tensor in found if _groups(tensor) == groups)
        others = ", others in another way" if len(kinds) > 1 else ""
        scattered = frozenset(
            name for name, tensor in tensors.items() if isinstance(tensor, PackedIntegers) and tensor.groups is not None
        )
        return replace(
            self,
            form=f"{self.packing.method} with {bits} bits{kind}{groups}{others}",
            bits=bits,
            group_size=group_size,
            scattered=scattered,
        )


def _groups(tensor: Packed) -> str:
    """What shares a scale, in words."""
    if tensor.group_size is None:
        return ", a scale for each matrix"
    by_row = tensor.group_size == tensor.shape[1] and not isinstance(tensor, Bitsandbytes4)
    return ", a scale for each row" if by_row else f" in groups of {tensor.group_size}"


class _Unread(Exception):
    """Why a form is not read, in a few words."""


def find_form(config: Fields, tensors: Mapping[str, StoredTensor]) -> Quantized | None:
    """The form that config.json states, or that the tensors show where it is silent; None for plain weights.

    Raises the config's error for a field of another type than it must have.
    """
    key, seen = _stated(config), _seen(tensors)
    if key is None and seen is None:
        return None
    said = config.part(key) if key else Fields({}, config.refuse)
    form = _form(said, key, seen)
    shown_by = f"config.json says: {key} {shown(config.values[key])}" if key else "its tensors show"
    try:
        return Quantized(form, shown_by, packing=_packing(said, form, seen))
    except _Unread as reason:
        bits = _bits(said)
        plain = key is not None and tensors and all(tensor.dtype in FLOATS for tensor in tensors.values())
        hint = f"Where the weights are plain numbers again, take {key} out of config.json. Else: {_BEFORE}"
        told = f"{form} with {bits} bits" if bits else form
        return Quantized(f"{told}, {reason}", shown_by, hint if plain else _BEFORE)


def plain_copy(hub_id: str) -> str:
    """What a quantized copy on the Hub is presumably made of; the same where its name says nothing."""
    before, name = hub_id, _COPY.sub("", hub_id)
    while name != before:
        before, name = name, _COPY.sub("", name)
    return name


def _stated(config: Fields) -> str | None:
    """The field of config.json that states a form; None where none does."""
    mlx = config.values.get("quantization")
    if isinstance(mlx, Mapping) and "group_size" in mlx:
        return "quantization"
    keys = ("quantization_config", "compression_config")
    return next((key for key in keys if isinstance(config.values.get(key), Mapping) and config.values[key]), None)


def _form(said: Fields, key: str | None, seen: str | None) -> str:
    if key == "quantization":
        return "MLX"
    method = said.values.get("quant_method")
    return (_NAMES.get(str(method), str(method)) if method else seen) or "a method that it does not name"


def _bits(said: Fields) -> object:
    values = said.values
    return values.get("bits") or (4 if values.get("load_in_4bit") else 8 if values.get("load_in_8bit") else None)


def _packing(said: Fields, form: str, seen: str | None) -> Packing:
    """How this form is read. Raises _Unread."""
    readers = {
        "GPTQ": _gptq,
        "AWQ": _awq,
        "AutoRound": _auto_round,
        "compressed-tensors": _compressed,
        "bitsandbytes": lambda _: Packing("bitsandbytes"),
        "FP8": _fp8,
        "ModelOpt": _modelopt,
        "MLX": _mlx,
        "MXFP4": _mxfp4,
    }
    if form not in readers:
        raise _Unread("which is not read")
    packing = readers[form](said)
    if seen is None:
        raise _Unread("but no tensor is packed so")
    if seen not in _ALSO_SEEN.get(form, (form,)):
        raise _Unread(f"but its tensors show {seen}")
    return packing


def _of_bits(said: Fields, known: tuple[int, ...]) -> int:
    bits = said.count("bits", most=64)
    if bits is None:
        raise _Unread("without bits in config.json")
    if bits not in known:
        raise _Unread(f"and {' and '.join(map(str, known))} are read")
    return bits


def _group_size(said: Fields) -> int | None:
    return -1 if said.values.get("group_size") == -1 else said.count("group_size")


def _gptq(said: Fields) -> Packing:
    bits = _of_bits(said, (4, 8))
    layout = said.text("checkpoint_format") or said.text("format") or "gptq"
    if layout not in ("gptq", "gptq_v2") or said.flag("is_marlin_format"):
        raise _Unread(f"packed for {'marlin' if said.flag('is_marlin_format') else layout}")
    # Where modules have groups of their own, the tensors say of which size.
    group_size = None if said.values.get("dynamic") else _group_size(said)
    return Packing(
        "GPTQ",
        bits,
        group_size,
        symmetric=bool(said.flag("sym")),
        offset=0 if layout == "gptq_v2" else 1,
        ordered=bool(said.flag("desc_act")),
    )


def _awq(said: Fields) -> Packing:
    bits = _of_bits(said, (4,))
    versions = [(said.text(key) or "gemm").lower() for key in ("version", "checkpoint_format", "format")]
    if odd := next((version for version in versions if version != "gemm"), None):
        raise _Unread(f"packed for {odd}")
    if said.flag("zero_point") is False:
        raise _Unread("without zero points")
    return Packing("AWQ", bits, _group_size(said), awq=True)


def _auto_round(said: Fields) -> Packing:
    layout, kind = said.text("packing_format") or "auto_round:auto_gptq", said.text("data_type") or "int"
    awq, less_one = layout == "auto_round:auto_awq", layout == "auto_round:auto_gptq"
    if kind != "int" or not (awq or less_one or layout in ("auto_round", "auto_round:gptqmodel")):
        raise _Unread(f"packed as {layout}, of the type {kind}")
    bits, own = _of_bits(said, (4,) if awq else (4, 8)), said.part("extra_config").values.values()
    if any(isinstance(module, Mapping) and module.get("bits", bits) not in (bits, 16, 32) for module in own):
        raise _Unread("with other bits for some modules")
    group_size = None if own else _group_size(said)
    return Packing(
        "AutoRound", bits, group_size, awq=awq, symmetric=bool(said.flag("sym")) and not awq, offset=int(less_one)
    )


def _compressed(said: Fields) -> Packing:
    groups = [said.part("config_groups").part(name) for name in said.part("config_groups").values]
    layouts = [said.text("format"), *(group.text("format") for group in groups)]
    odd = next((layout for layout in layouts if layout and layout not in _COMPRESSED), None)
    sparsity = said.part("sparsity_config").text("format")
    if odd or (sparsity and sparsity != "dense"):
        raise _Unread(f"packed as {odd or sparsity}")
    if said.part("transform_config").values.get("config_groups"):
        raise _Unread("with transforms of what it computes")
    found = [group.part("weights").values for group in groups]
    # Where groups differ, only their tensors tell which are of which.
    return Packing(
        "compressed-tensors",
        asymmetric=bool(found) and all(each.get("symmetric") is False for each in found),
        ordered=bool(found) and all(each.get("actorder") in ("group", "dynamic", True) for each in found),
        block=_block(next(filter(None, (each.get("block_structure") for each in found)), None)),
    )


def _fp8(said: Fields) -> Packing:
    stated = said.values.get("weight_block_size")
    block = _block(stated)
    if stated is not None and block is None:
        raise said.wrong("weight_block_size", stated, "a list of two whole numbers of at least 1")
    return Packing("FP8", block=block)


def _mxfp4(_: Fields) -> Packing:
    return Packing("MXFP4")


def _modelopt(said: Fields) -> Packing:
    algorithm = said.text("quant_algo") or said.part("quantization").text("quant_algo")
    if algorithm != "FP8":
        raise _Unread(f"with {algorithm}")
    return Packing("FP8")


def _block(stated: object) -> tuple[int, int] | None:
    """Rows and columns that share a scale, where the config states them."""
    if not (isinstance(stated, list) and len(stated) == 2 and all(type(size) is int and size > 0 for size in stated)):
        return None
    return stated[0], stated[1]


def _mlx(said: Fields) -> Packing:
    if (mode := said.text("mode") or "affine") != "affine":
        raise _Unread(f"of the mode {mode}")
    bits, group_size = _of_bits(said, (4, 8)), said.required_count("group_size")
    modules = {}
    for name, own in said.values.items():
        if isinstance(own, Mapping):
            part = replace(said, values=own, name=f"{said.name}{name}.")
            if (mode := part.text("mode") or "affine") != "affine":
                raise _Unread(f"of the mode {mode}")
            modules[name] = (_of_bits(part, (4, 8)), part.count("group_size") or group_size)
    return Packing("MLX", bits, group_size, modules=modules)


def _seen(tensors: Mapping[str, StoredTensor]) -> str | None:
    ends = {name.rpartition(".")[2] for name in tensors}
    found = next((form for form, needed in _ENDS if needed <= ends), None)
    if found is None and any(".quant_state.bitsandbytes__" in name for name in tensors):
        return "bitsandbytes"
    if found is None and any(tensor.dtype in _FLOATS_OF_8_BITS for tensor in tensors.values()):
        return "FP8"
    if found is None and {"gate_up_proj_blocks", "gate_up_proj_scales"} <= ends:
        return "MXFP4"
    if found is None and "weight_scale" in ends and any(tensor.dtype == "I8" for tensor in tensors.values()):
        return "compressed-tensors"
    return found
