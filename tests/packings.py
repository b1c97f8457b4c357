"""Checkpoints in the forms in which others quantize, written from random integers and codes by shifting bits.

Each writer returns the tensors of a matrix, by what follows the name of the module, and the numbers they stand for.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import load_file, save_file

from tests import checkpoints

Array = np.ndarray[Any, Any]
Written = tuple[dict[str, Array], Array]
GROUP = 32
NF4 = [-1, -0.69, -0.52, -0.39, -0.28, -0.18, -0.09, 0, 0.08, 0.16, 0.25, 0.34, 0.44, 0.56, 0.72, 1]
E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6]
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": False}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True}
PACKED = {"quant_method": "compressed-tensors", "format": "pack-quantized"}
MLX = {"quantization": {"group_size": 32, "bits": 4}}


def stated(**config: Any) -> dict[str, Any]:
    return {"quantization_config": config}


ROUND = {"quant_method": "auto-round", "bits": 4, "group_size": 32, "sym": False, "data_type": "int"}
AUTO_ROUND = stated(**ROUND, packing_format="auto_round:auto_gptq", extra_config={"lm_head": {"bits": 16}})


def pack_words(values: Array, bits: int, axis: int) -> Array:
    """Integers along an axis in words of 32 bits, the first in the lowest bits; zeros fill the last word."""
    each = 32 // bits
    moved = np.moveaxis(values, axis, 0).astype(np.uint64)
    moved = np.concatenate((moved, np.zeros((-len(moved) % each, *moved.shape[1:]), np.uint64)))
    words = np.zeros((len(moved) // each, *moved.shape[1:]), np.uint64)
    for place in range(each):
        words |= moved[place::each] << np.uint64(place * bits)
    return np.ascontiguousarray(np.moveaxis(words.astype(np.uint32).view(np.int32), 0, axis))


def scales_of(rng: np.random.Generator, *shape: int, dtype: Any = np.float16) -> Array:
    return rng.uniform(0.004, 0.02, shape).astype(dtype)


def gptq(
    rng: np.random.Generator,
    rows: int,
    width: int,
    *,
    bits: int = 4,
    group: int = GROUP,
    sym: bool = False,
    act_order: bool = False,
    own_order: bool = False,
    version: int = 1,
) -> Written:
    """act_order: columns of a group lie apart, in the same way for all matrices as wide. own_order: not in the same."""
    size = width if group == -1 else group
    groups, half = -(-width // size), 1 << (bits - 1)
    integers = rng.integers(0, 2 * half, (rows, width))
    zeros = np.full((rows, groups), half) if sym else rng.integers(0, 2 * half, (rows, groups))
    scales = scales_of(rng, rows, groups)
    index = np.arange(width) // size
    if act_order:
        index = (rng if own_order else np.random.default_rng(width)).permutation(index)
    ones = np.array([0, 0x01010101, 0x11111111], np.uint32)[0 if version == 2 else 1 if bits == 8 else 2]
    tensors: dict[str, Array] = {
        "qweight": pack_words(integers.T, bits, 0),
        "qzeros": (pack_words(zeros.T, bits, 1).view(np.uint32) - ones).view(np.int32),
        "scales": np.ascontiguousarray(scales.T),
        "g_idx": index.astype(np.int32),
    }
    return tensors, ((integers - zeros[:, index]) * scales[:, index].astype(np.float32)).astype(np.float32)


def awq(rng: np.random.Generator, rows: int, width: int, *, group: int = GROUP) -> Written:
    integers, zeros = rng.integers(0, 16, (width, rows)), rng.integers(0, 16, (width // group, rows))
    scales = scales_of(rng, width // group, rows)

    def pack(values: Array) -> Array:
        words = np.zeros((len(values), rows // 8), np.uint64)
        for place, column in enumerate((0, 2, 4, 6, 1, 3, 5, 7)):
            words |= values[:, column::8].astype(np.uint64) << np.uint64(4 * place)
        return words.astype(np.uint32).view(np.int32)

    spread = np.repeat(scales.astype(np.float32), group, 0)
    expected = (integers - np.repeat(zeros, group, 0)) * spread
    plain = np.ascontiguousarray(expected.T, dtype=np.float32)
    return {"qweight": pack(integers), "qzeros": pack(zeros), "scales": scales}, plain


def compressed(
    rng: np.random.Generator,
    rows: int,
    width: int,
    *,
    bits: int = 4,
    group: int = GROUP,
    symmetric: bool = True,
    act_order: bool = False,
    dtype: Any = ml_dtypes.bfloat16,
) -> Written:
    size, half = width if group == -1 else group, 1 << (bits - 1)
    integers = rng.integers(-half, half, (rows, width))
    zeros = np.zeros((rows, width // size), int) if symmetric else rng.integers(-half, half, (rows, width // size))
    scales = scales_of(rng, rows, width // size, dtype=dtype)
    index = np.arange(width) // size
    tensors: dict[str, Array] = {
        "weight_packed": pack_words(integers + half, bits, 1),
        "weight_scale": scales,
        "weight_shape": np.array([rows, width], np.int64),
    }
    if not symmetric:
        tensors["weight_zero_point"] = pack_words(zeros + half, bits, 0)
    if act_order:
        index = np.random.default_rng(width).permutation(index)
        tensors["weight_g_idx"] = index.astype(np.int32)
    return tensors, ((integers - zeros[:, index]) * scales.astype(np.float32)[:, index]).astype(np.float32)


def int8(rng: np.random.Generator, rows: int, width: int, *, symmetric: bool = True) -> Written:
    integers = rng.integers(-127, 128, (rows, width)).astype(np.int8)
    scales = (scales_of(rng, rows, 1) / 16).astype(ml_dtypes.bfloat16)
    tensors: dict[str, Array] = {"weight": integers, "weight_scale": scales, "input_scale": np.ones(1, np.float32)}
    zeros = np.zeros((rows, 1), np.int8)
    if not symmetric:
        zeros = tensors["weight_zero_point"] = rng.integers(-20, 20, (rows, 1)).astype(np.int8)
    return tensors, ((integers.astype(int) - zeros) * scales.astype(np.float32)).astype(np.float32)


def fp8(
    rng: np.random.Generator,
    rows: int,
    width: int,
    *,
    block: tuple[int, int] | None = None,
    scale_name: str = "weight_scale_inv",
    shape: tuple[int, ...] = (),
    dtype: Any = ml_dtypes.float8_e4m3fn,
) -> Written:
    codes = rng.normal(0, 30, (rows, width)).astype(dtype)
    tensors: dict[str, Array] = {"weight": codes, "input_scale": np.ones((), np.float32)}
    if block is None:
        scales = np.full(shape or (rows, 1), 1.0, np.float32) * rng.uniform(5e-4, 2e-3, shape or (rows, 1))
        spread = np.broadcast_to(scales.reshape(-1, 1) if scales.size > 1 else scales.reshape(1, 1), (rows, width))
    else:
        scales = rng.uniform(5e-4, 2e-3, (-(-rows // block[0]), -(-width // block[1])))
        spread = np.repeat(np.repeat(scales, block[0], 0), block[1], 1)[:rows, :width]
    tensors[scale_name] = scales.astype(np.float32)
    return tensors, codes.astype(np.float32) * spread.astype(np.float32)


def nf4(rng: np.random.Generator, rows: int, width: int, *, nested: bool = False, kind: str = "nf4") -> Written:
    block, count = 64, rows * width
    codes, blocks = rng.integers(0, 16, count), -(-count // block)
    table = np.array(NF4, np.float32)
    state: dict[str, Any] = {"quant_type": kind, "blocksize": block, "dtype": "bfloat16", "shape": [rows, width]}
    tensors: dict[str, Array] = {
        "weight": ((codes[0::2] << 4) | codes[1::2]).astype(np.uint8)[:, None],
        "weight.quant_map": table,
    }
    absmax = rng.uniform(0.05, 0.2, blocks).astype(np.float32)
    if nested:
        small = rng.integers(0, 256, blocks).astype(np.uint8)
        small_table, large = np.linspace(-1, 1, 256).astype(np.float32), rng.uniform(0.05, 0.1, -(-blocks // 4))
        state |= {"nested_blocksize": 4, "nested_dtype": "float32", "nested_offset": 0.125}
        tensors |= {
            "weight.absmax": small,
            "weight.nested_absmax": large.astype(np.float32),
            "weight.nested_quant_map": small_table,
        }
        absmax = small_table[small] * np.repeat(large.astype(np.float32), 4)[:blocks] + np.float32(0.125)
    else:
        tensors["weight.absmax"] = absmax
    name = f"weight.quant_state.bitsandbytes__{kind}"
    tensors[name] = np.frombuffer(json.dumps(state).encode(), np.uint8)
    return tensors, (table[codes] * np.repeat(absmax, block)[:count]).reshape(rows, width)


def llm_int8(rng: np.random.Generator, rows: int, width: int) -> Written:
    integers = rng.integers(-127, 128, (rows, width)).astype(np.int8)
    largest = rng.uniform(0.05, 0.2, rows).astype(np.float32)
    tensors: dict[str, Array] = {"weight": integers, "SCB": largest, "weight_format": np.zeros((), np.uint8)}
    return tensors, integers.astype(np.float32) * (largest / np.float32(127))[:, None]


def mlx(rng: np.random.Generator, rows: int, width: int, *, bits: int = 4, group: int = GROUP) -> Written:
    integers = rng.integers(0, 1 << bits, (rows, width))
    scales = (scales_of(rng, rows, width // group) / (1 << (bits - 4))).astype(np.float16)
    biases = rng.uniform(-0.15, -0.05, scales.shape).astype(np.float16)
    tensors: dict[str, Array] = {
        "weight": pack_words(integers, bits, 1).view(np.uint32),
        "scales": scales,
        "biases": biases,
    }
    spread = [np.repeat(part.astype(np.float32), group, 1) for part in (scales, biases)]
    return tensors, (integers.astype(np.float32) * spread[0] + spread[1]).astype(np.float32)


def mxfp4(rng: np.random.Generator, rows: int, width: int) -> Written:
    codes, exponents = rng.integers(0, 16, (rows, width)), rng.integers(119, 123, (rows, width // 32)).astype(np.uint8)
    packed = (codes[:, 0::2] | (codes[:, 1::2] << 4)).astype(np.uint8)
    spread = np.repeat(np.exp2(exponents.astype(np.float32) - 127), 32, 1)
    return {"weight_packed": packed, "weight_scale": exponents}, np.array(E2M1, np.float32)[codes] * spread


Writer = Callable[[np.random.Generator, int, int], Written]


def quantize(
    folder: Path,
    writer: Writer,
    config: dict[str, Any],
    *,
    tables: bool = False,
    change: Callable[[dict[str, Array]], object] = lambda _: None,
) -> Path:
    """Makes the matrices of a tiny checkpoint's layers packed ones. tables: the embedding, too. change: of the tensors.

    Beside the folder, one whose name ends with "-plain" is the same with the numbers that they stand for.
    """
    plain_folder = folder.with_name(f"{folder.name}-plain")
    checkpoints.make_checkpoint(plain_folder, config=json.loads((folder / "config.json").read_text(encoding="utf-8")))
    rng = np.random.default_rng(3)
    packed: dict[str, Array] = {}
    plain = load_file(folder / "model.safetensors")
    for name, values in sorted(plain.items()):
        module = name.removesuffix(".weight")
        if values.ndim == 2 and (tables or "layers" in name):
            tensors, plain[name] = writer(rng, *values.shape)
            packed |= {f"{module}.{end}": tensor for end, tensor in tensors.items()}
        else:
            packed[name] = values
    change(packed)
    save_file(packed, folder / "model.safetensors", {"format": "pt"})
    save_file(plain, plain_folder / "model.safetensors", {"format": "pt"})
    stated = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    checkpoints.write_json(folder / "config.json", stated | config)
    return plain_folder
