"""Packed matrices are read as the numbers that they stand for, in whatever pieces of rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from edgeship.checkpoint.packed import Packed, read, same
from edgeship.checkpoint.packed_codes import fp8_numbers, mxfp4_numbers
from edgeship.checkpoint.packed_integers import PackedIntegers
from edgeship.checkpoint.quantized import Packing
from edgeship.checkpoint.safetensors_file import read_header
from edgeship.checkpoint.unpacking import unpack
from edgeship.errors import CheckpointInvalid, WeightsDamaged
from tests import packings

ROWS, WIDTH = 48, 96
GPTQ = Packing("GPTQ", 4, 32)
PACKED, CODES = Packing("compressed-tensors"), Packing("bitsandbytes")
FORMS: dict[str, tuple[packings.Writer, Packing]] = {
    "gptq": (packings.gptq, GPTQ),
    "gptq, a scale a row": (partial(packings.gptq, group=-1), Packing("GPTQ", 4, -1)),
    "gptq, groups not stated": (packings.gptq, Packing("GPTQ", 4)),
    "gptq, a short last group": (partial(packings.gptq, group=64), Packing("GPTQ", 4, 64)),
    "gptq, act-order": (partial(packings.gptq, act_order=True), GPTQ),
    "gptq 8": (partial(packings.gptq, bits=8), Packing("GPTQ", 8, 32)),
    "gptq v2": (partial(packings.gptq, version=2), Packing("GPTQ", 4, 32, offset=0)),
    "gptq, symmetric": (partial(packings.gptq, sym=True), Packing("GPTQ", 4, 32, symmetric=True)),
    "awq": (packings.awq, Packing("AWQ", 4, 32, awq=True)),
    "packed": (packings.compressed, PACKED),
    "packed 8": (partial(packings.compressed, bits=8), PACKED),
    "packed, zero points": (partial(packings.compressed, symmetric=False), PACKED),
    "packed, a scale a row": (partial(packings.compressed, group=-1, symmetric=False), PACKED),
    "packed, act-order": (partial(packings.compressed, act_order=True, symmetric=False), PACKED),
    "int8": (packings.int8, PACKED),
    "int8, zero points": (partial(packings.int8, symmetric=False), PACKED),
    "fp8, blocks": (partial(packings.fp8, block=(16, 32)), Packing("FP8", block=(16, 32))),
    "fp8, blocks of 128": (partial(packings.fp8, block=(128, 128)), Packing("FP8")),
    "fp8, one scale": (partial(packings.fp8, shape=(1,), scale_name="weight_scale"), PACKED),
    "fp8, a scalar": (partial(packings.fp8, shape=(1, 1)), Packing("FP8")),
    "fp8, a scale a row": (partial(packings.fp8, scale_name="weight_scale"), PACKED),
    "fp8 e5m2": (partial(packings.fp8, dtype=ml_dtypes.float8_e5m2), Packing("FP8")),
    "nf4": (packings.nf4, CODES),
    "nf4, nested": (partial(packings.nf4, nested=True), CODES),
    "fp4": (partial(packings.nf4, kind="fp4"), CODES),
    "llm.int8": (packings.llm_int8, CODES),
    "mlx": (packings.mlx, Packing("MLX", 4, 32)),
    "mlx 8": (partial(packings.mlx, bits=8), Packing("MLX", 8, 32)),
    "mlx, a module of its own": (
        partial(packings.mlx, bits=8, group=16),
        Packing("MLX", 4, 32, modules={"m": (8, 16)}),
    ),
    "mxfp4": (packings.mxfp4, PACKED),
}


def store(
    folder: Path, writer: packings.Writer, packing: Packing, change: Callable[[dict[str, Any]], object] = lambda _: None
) -> tuple[Packed, Any]:
    tensors, expected = writer(np.random.default_rng(7), ROWS, WIDTH)
    change(tensors)
    save_file({f"m.{end}": tensor for end, tensor in tensors.items()}, folder / "model.safetensors")
    unpacked = unpack(read_header(folder / "model.safetensors"), packing)
    assert list(unpacked) == ["m.weight"]
    matrix = unpacked["m.weight"]
    assert isinstance(matrix, Packed)
    return matrix, expected


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_the_numbers_that_were_written(form: str, tmp_path: Path) -> None:
    matrix, expected = store(tmp_path, *FORMS[form])
    assert matrix.shape == expected.shape
    assert matrix.count == expected.size
    for start, stop in ((0, ROWS), (0, 0), (5, 6), (3, 17), (8, 40), (41, ROWS)):
        np.testing.assert_array_equal(read(matrix, start, stop), expected[start:stop])
    with pytest.raises(IndexError):
        matrix.rows(0, ROWS + 1)


@pytest.mark.parametrize("form", [form for form, (_, packing) in FORMS.items() if packing in (GPTQ, PACKED)])
def test_integers_are_those_that_were_written(form: str, tmp_path: Path) -> None:
    matrix, expected = store(tmp_path, *FORMS[form])
    if not isinstance(matrix, PackedIntegers):
        return
    grid, kept = matrix.grid, matrix.integers(3, 20)
    assert grid is not None
    assert (grid.order is not None) == ("act-order" in form)
    groups = np.arange(WIDTH) // kept.group_size
    if grid.order is not None:
        expected = expected[:, np.frombuffer(grid.order, np.int32)]
    zeros = 1 << (matrix.bits - 1) if kept.zero_points is None else kept.zero_points[:, groups].astype(int)
    np.testing.assert_array_equal((kept.values.astype(int) - zeros) * kept.scales[:, groups], expected[3:20])


def test_rows_of_nf4_may_begin_within_a_byte(tmp_path: Path) -> None:
    tensors, expected = packings.nf4(np.random.default_rng(7), 8, 33, nested=True)
    save_file({f"m.{end}": tensor for end, tensor in tensors.items()}, tmp_path / "model.safetensors")
    matrix = unpack(read_header(tmp_path / "model.safetensors"), CODES)["m.weight"]
    for start, stop in ((0, 8), (1, 2), (3, 8)):
        np.testing.assert_array_equal(read(matrix, start, stop), expected[start:stop])


def test_codes_of_8_bits_are_the_numbers_of_ml_dtypes() -> None:
    for name, dtype in (("F8_E4M3", ml_dtypes.float8_e4m3fn), ("F8_E5M2", ml_dtypes.float8_e5m2)):
        wanted = np.arange(256, dtype=np.uint8).view(dtype).astype(np.float32)
        np.testing.assert_array_equal(fp8_numbers(name), wanted)


@pytest.mark.slow
def test_blocks_of_experts_are_read_as_transformers_reads_them() -> None:
    torch = pytest.importorskip("torch")
    from transformers.integrations import mxfp4

    rng = np.random.default_rng(1)
    blocks, exponents = rng.integers(0, 256, (2, 3, 4, 16)), rng.integers(110, 130, (2, 3, 4))
    found = mxfp4_numbers(blocks.astype(np.uint8), exponents.astype(np.uint8)).reshape(2, 3, -1)
    wanted = mxfp4.convert_moe_packed_tensors(
        torch.tensor(blocks, dtype=torch.uint8), torch.tensor(exponents, dtype=torch.uint8), dtype=torch.float32
    )
    np.testing.assert_array_equal(found, wanted.transpose(1, 2).numpy())


def test_scales_may_be_exponents(tmp_path: Path) -> None:
    writer = partial(packings.fp8, block=(16, 32))

    def as_exponents(tensors: dict[str, Any]) -> None:
        tensors["weight_scale_inv"] = np.full((3, 3), 120, np.uint8)

    matrix, _ = store(tmp_path, writer, Packing("FP8", block=(16, 32)), as_exponents)
    codes = writer(np.random.default_rng(7), ROWS, WIDTH)[0]["weight"].astype(np.float32)
    np.testing.assert_array_equal(matrix.rows(), codes * np.float32(2.0**-7))


def put(end: str, place: tuple[int, ...], value: Any) -> Callable[[dict[str, Any]], object]:
    def change(tensors: dict[str, Any]) -> None:
        tensors[end] = tensors[end].copy()
        tensors[end][place] = value

    return change


@pytest.mark.parametrize(
    ("form", "change", "named"),
    [
        ("gptq", put("scales", (1, 4), np.nan), "m.scales holds nan"),
        ("awq", put("scales", (1, 4), np.inf), "m.scales holds inf"),
        ("packed", put("weight_scale", (4, 1), np.nan), "m.weight_scale holds nan"),
        ("fp8, blocks", put("weight_scale_inv", (0, 0), np.nan), "m.weight_scale_inv holds nan"),
        ("fp8, blocks", put("weight", (4, 9), np.nan), "m.weight holds nan at element 393"),
        ("nf4", put("weight.absmax", (4,), -np.inf), "m.weight.absmax holds -inf"),
        ("mlx", put("biases", (4, 0), np.nan), "m.biases holds nan"),
        ("mxfp4", put("weight_scale", (4, 1), 254), "m.weight holds -?(inf|[0-9.e+]+) at element 4[0-9]{2}"),
        ("llm.int8", put("SCB", (4,), np.nan), "m.SCB holds nan"),
    ],
)
def test_numbers_that_no_weight_has_are_named(form: str, change: Any, named: str, tmp_path: Path) -> None:
    matrix, _ = store(tmp_path, *FORMS[form], change)
    matrix.rows(16, 16)
    with pytest.raises(WeightsDamaged, match=named):
        matrix.rows()


def test_integers_of_gptq_are_symmetric_where_its_config_says_so(tmp_path: Path) -> None:
    matrix, _ = store(tmp_path, packings.gptq, Packing("GPTQ", 4, 32, symmetric=True))
    assert isinstance(matrix, PackedIntegers)
    for reads in (matrix.integers, matrix.rows):
        with pytest.raises(CheckpointInvalid, match=r"m\.qzeros holds other zero points than 8, though sym is true"):
            reads(0, 8)


def test_a_scale_beyond_float16_cannot_be_kept(tmp_path: Path) -> None:
    def enlarge(tensors: dict[str, Any]) -> None:
        tensors["weight_scale"] = np.full((ROWS, 3), 7e4, np.float32)
        tensors["weight_packed"] = np.full_like(tensors["weight_packed"], -0x77777778)

    matrix, _ = store(tmp_path, packings.compressed, PACKED, enlarge)
    assert isinstance(matrix, PackedIntegers)
    assert not matrix.rows().any()
    with pytest.raises(CheckpointInvalid, match=r"m\.weight_scale holds a scale above 65504"):
        matrix.integers(0, 8)


def test_tables_are_the_same_whatever_they_are_kept_in(tmp_path: Path) -> None:
    matrix, expected = store(tmp_path, *FORMS["mlx"])
    save_file({"x": expected, "y": expected + 1}, tmp_path / "plain.safetensors")
    plain = read_header(tmp_path / "plain.safetensors")
    assert same(matrix, matrix)
    assert same(matrix, plain["x"])
    assert not same(plain["y"], matrix)
