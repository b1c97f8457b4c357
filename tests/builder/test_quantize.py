"""Block-wise integers: what is promised of them, and that ONNX Runtime computes with them what `dequantize` says."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeship.builder import quantize as module
from edgeship.builder.quantize import (
    Blocks,
    Method,
    Scheme,
    dequantize,
    keep,
    pack,
    quantize,
    unpack,
)
from edgeship.checkpoint.packed import Integers

Floats = npt.NDArray[np.float32]

SCHEMES = st.builds(
    Scheme, st.sampled_from((4, 8)), st.sampled_from((16, 32, 64)), st.booleans(), st.sampled_from(("rtn", "search"))
)
EVERY = [Scheme(bits, 32, symmetric) for bits in (4, 8) for symmetric in (True, False)]


def normal(*shape: int, size: float = 0.02, seed: int = 0) -> Floats:
    return (np.random.default_rng(seed).standard_normal(shape) * size).astype(np.float32)


@st.composite
def matrices(draw: st.DrawFn) -> Floats:
    """Matrices with what breaks careless quantizers: zeros, constants, spikes, denormals, huge values."""
    count, width = draw(st.integers(1, 5)), draw(st.integers(1, 150))
    rows = normal(count, width, size=draw(st.sampled_from((1e-2, 1.0, 3e4))), seed=draw(st.integers(0, 2**32 - 1)))
    for row in rows:
        kind = draw(st.sampled_from(("plain", "zero", "constant", "spike", "denormal", "positive", "huge")))
        if kind in ("zero", "constant", "spike"):
            row[:] = draw(st.sampled_from((0.5, -3.0))) if kind == "constant" else 0
        if kind == "spike":
            row[draw(st.integers(0, width - 1))] = draw(st.sampled_from((1.0, -1e5, 1e-30)))
        row *= np.float32({"denormal": 1e-42, "huge": 1e5 / max(float(np.abs(row).max()), 1e-30)}.get(kind, 1.0))
        if kind == "positive":
            np.abs(row, out=row)
    return np.clip(rows, -1e5, 1e5)


def weighted_errors(rows: Floats, blocks: Blocks, scheme: Scheme, importance: Floats) -> npt.NDArray[np.float64]:
    """Of each block, summed in float64."""
    width = rows.shape[1]
    squares = importance * np.square(rows.astype(np.float64) - dequantize(blocks, scheme, width))
    padded = np.pad(squares, ((0, 0), (0, -width % scheme.block_size)))
    sums: npt.NDArray[np.float64] = padded.reshape(len(rows), -1, scheme.block_size).sum(axis=2)
    return sums


def squared_error(rows: Floats, blocks: Blocks, scheme: Scheme, importance: Floats | None = None) -> float:
    weight = np.ones(rows.shape[1], np.float32) if importance is None else importance
    return float(weighted_errors(rows, blocks, scheme, weight).sum())


@given(matrices(), SCHEMES)
def test_whatever_comes_in_finite_blocks_come_out(rows: Floats, scheme: Scheme) -> None:
    blocks = quantize(rows, scheme)
    assert blocks.scales.dtype == np.float16
    assert np.isfinite(blocks.scales).all()
    assert blocks.packed.shape == (
        len(rows), scheme.blocks(rows.shape[1]), scheme.block_size * scheme.bits // 8
    )  # fmt: skip
    assert (blocks.zero_points is None) == scheme.symmetric
    restored = dequantize(blocks, scheme, rows.shape[1])
    assert restored.dtype == np.float32
    assert restored.shape == rows.shape
    assert np.isfinite(restored).all()
    assert not restored[:, ~rows.any(axis=0)].any(), "what was zero stays zero exactly"


@given(matrices(), SCHEMES)
def test_rounding_is_off_by_a_step_at_most(rows: Floats, scheme: Scheme) -> None:
    scheme = Scheme(scheme.bits, scheme.block_size, scheme.symmetric, "rtn")
    blocks = quantize(rows, scheme)
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % scheme.block_size)))
    folded = padded.reshape(*blocks.scales.shape, -1)
    restored = dequantize(blocks, scheme, padded.shape[1]).reshape(folded.shape)
    # A scale may be lost altogether where float16 ends, and rounded down by half of float16's smallest step.
    levels = 1 << scheme.bits
    lost = levels * 2.0**-25
    bound = np.abs(blocks.scales.astype(np.float64))[..., None] * (1.01 + levels * 2.0**-12) + lost
    assert (np.abs(restored.astype(np.float64) - folded) <= bound).all()


@given(matrices(), SCHEMES, st.booleans(), st.integers(0, 9))
def test_search_is_in_no_block_worse_than_rounding(rows: Floats, scheme: Scheme, weighted: bool, seed: int) -> None:
    width = rows.shape[1]
    importance = np.square(normal(width, size=10.0, seed=seed)) if weighted else np.ones(width, np.float32)
    errors = {}
    methods: tuple[Method, ...] = ("rtn", "search")
    for method in methods:
        one = Scheme(scheme.bits, scheme.block_size, scheme.symmetric, method)
        blocks = quantize(rows, one, importance if weighted else None)
        errors[method] = weighted_errors(rows, blocks, one, importance)
    # Below: what float32 can tell apart.
    slack = 1e-4 * errors["rtn"] + 1e-12 * float(np.square(rows.astype(np.float64)).sum())
    assert (errors["search"] <= errors["rtn"] + slack).all()


@settings(max_examples=60)
@given(
    st.integers(1, 12),
    st.integers(1, 300),
    SCHEMES,
    st.booleans(),
    st.integers(0, 99),
    st.sampled_from((64, 512)),
)
def test_rows_give_the_same_bytes_together_and_apart(
    count: int, width: int, scheme: Scheme, weighted: bool, seed: int, chunk: int
) -> None:
    rows = normal(count, width, seed=seed)
    importance = np.square(normal(width, seed=seed)) if weighted else None
    together = quantize(rows, scheme, importance)
    before = module._CHUNK_ELEMENTS
    module._CHUNK_ELEMENTS = chunk
    try:
        chunked = quantize(rows, scheme, importance)
    finally:
        module._CHUNK_ELEMENTS = before
    apart = [quantize(rows[index : index + 1], scheme, importance) for index in range(count)]
    for name in ("packed", "scales") + (() if scheme.symmetric else ("zero_points",)):
        expected = getattr(together, name).tobytes()
        assert getattr(chunked, name).tobytes() == expected
        assert b"".join(getattr(blocks, name).tobytes() for blocks in apart) == expected


def test_a_block_alone_is_computed_as_among_others() -> None:
    """Sums of one column and of many are added in another order unless columns come in lanes."""
    rows, scheme = normal(50, 64), Scheme(4, 64, symmetric=True)
    together = quantize(rows, scheme).scales
    apart = [quantize(rows[index : index + 1], scheme).scales for index in range(50)]
    assert np.array_equal(np.concatenate(apart), together)


@given(st.integers(1, 9), st.integers(1, 33), st.sampled_from((4, 8)), st.integers(0, 99))
def test_unpacking_undoes_packing(count: int, width: int, bits: int, seed: int) -> None:
    integers = np.random.default_rng(seed).integers(0, 1 << bits, (count, width)).astype(np.uint8)
    packed = pack(integers, bits)
    assert packed.shape == (count, -(-width * bits // 8))
    assert np.array_equal(unpack(packed, bits)[:, :width], integers)


@pytest.mark.parametrize("scheme", EVERY)
def test_padding_is_the_zero_point(scheme: Scheme) -> None:
    blocks = quantize(normal(3, 40) + 0.01, scheme)
    zeros = np.full((3, 2), 1 << (scheme.bits - 1))
    if blocks.zero_points is not None:
        zeros = unpack(blocks.zero_points, scheme.bits)[:, :2]
    padding = unpack(blocks.packed, scheme.bits)[:, 1, 8:]
    assert (padding == zeros[:, 1:]).all()


@given(
    st.sampled_from((4, 8)),
    st.sampled_from(((16, 16, 96), (64, 32, 96), (96, 32, 96), (33, 16, 33), (32, 32, 80))),
    st.booleans(),
    st.integers(0, 1 << 32),
)
def test_integers_are_kept_as_they_are(bits: int, sizes: tuple[int, int, int], symmetric: bool, seed: int) -> None:
    (group, block, width), rng = sizes, np.random.default_rng(seed)
    groups = -(-width // group)
    values = rng.integers(0, 1 << bits, (3, width)).astype(np.uint8)
    zeros = None if symmetric else rng.integers(0, 1 << bits, (3, groups)).astype(np.uint8)
    kept = Integers(values, rng.normal(0, 1, (3, groups)).astype(np.float16).astype(np.float32), zeros, group)
    scheme = Scheme(bits, block, symmetric, "kept")
    blocks = keep(kept, scheme)
    of_column = np.arange(width) // group
    levels = values.astype(np.float32) - (1 << (bits - 1) if zeros is None else zeros[:, of_column])
    np.testing.assert_array_equal(dequantize(blocks, scheme, width), levels * kept.scales[:, of_column])
    np.testing.assert_array_equal(unpack(blocks.packed, bits).reshape(3, -1)[:, :width], values)
    assert not dequantize(blocks, scheme, blocks.packed.shape[1] * block)[:, width:].any()


def test_the_extreme_gets_the_last_level_whatever_its_sign() -> None:
    rows = np.zeros((2, 32), np.float32)
    rows[:, :3] = [[1.0, -0.5, 0.25], [-1.0, 0.5, -0.25]]
    scheme = Scheme(4, 32, symmetric=True, method="rtn")
    blocks = quantize(rows, scheme)
    assert blocks.scales[:, 0].tolist() == [-0.125, 0.125]
    assert blocks.packed[:, 0, 0].tolist() == [0xC0, 0xC0]
    assert np.array_equal(dequantize(blocks, scheme, 32), rows)


@pytest.mark.parametrize(("bits", "at_most"), [(4, 0.93), (8, 0.99)])
@pytest.mark.parametrize("block_size", [32, 64, 128])
@pytest.mark.parametrize("symmetric", [True, False])
def test_search_takes_a_tenth_off_the_error(bits: int, at_most: float, block_size: int, symmetric: bool) -> None:
    rows, errors = normal(64, 512), []
    for method in ("rtn", "search"):
        scheme = Scheme(bits, block_size, symmetric, method)
        errors.append(squared_error(rows, quantize(rows, scheme), scheme))
    assert errors[1] < at_most * errors[0]


def test_what_is_important_is_kept_better() -> None:
    rows, scheme = normal(64, 512), Scheme(4, 64, symmetric=True)
    importance = np.exp(normal(512, size=1.5, seed=1))
    plain = squared_error(rows, quantize(rows, scheme), scheme, importance)
    weighted = squared_error(rows, quantize(rows, scheme, importance), scheme, importance)
    assert weighted < 0.8 * plain
    scaled = quantize(rows, scheme, importance * np.float32(2.0**40))
    assert np.array_equal(scaled.packed, quantize(rows, scheme, importance).packed)


def test_columns_without_importance_cost_nothing() -> None:
    rows, scheme = normal(4, 64), Scheme(4, 32, symmetric=True)
    importance = np.zeros(64, np.float32)
    assert np.array_equal(
        quantize(rows, scheme, importance).packed, quantize(rows, Scheme(4, 32, True, "rtn")).packed
    )  # fmt: skip


# --- the operators ---------------------------------------------------------------------------------------------------


def run(nodes: list[Any], tensors: dict[str, Any], feed: dict[str, Any], output: list[Any]) -> Floats:
    kinds = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64}
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info(name, kinds[value.dtype], value.shape) for name, value in feed.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: Floats = session.run(["y"], feed)[0]
    return result


def stored(blocks: Blocks) -> tuple[list[Any], dict[str, Any], list[str]]:
    """The Cast of the scales, the initializers, and the names of the operators' inputs after the first."""
    cast = helper.make_node("Cast", ["scales"], ["wide"], to=TensorProto.FLOAT)
    tensors = {"packed": blocks.packed, "scales": blocks.scales}
    if blocks.zero_points is None:
        return [cast], tensors, ["packed", "wide"]
    return [cast], tensors | {"zeros": blocks.zero_points}, ["packed", "wide", "zeros"]


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("block_size", [16, 32, 128])
@pytest.mark.parametrize("width", [256, 200])
@pytest.mark.parametrize("accuracy_level", [1, 4])
def test_matmul_computes_with_these_numbers(
    bits: int, symmetric: bool, block_size: int, width: int, accuracy_level: int
) -> None:
    scheme = Scheme(bits, block_size, symmetric)
    blocks = quantize(normal(24, width), scheme)
    assert (np.asarray(blocks.scales) < 0).any() == symmetric
    # Level 4 rounds activations to 8 bits, which these survive: whole numbers, with 127 in every block.
    x = np.random.default_rng(1).integers(-127, 128, (3, width)).astype(np.float32)
    x[:, ::16] = 127
    bias = normal(24, size=1.0, seed=2)
    nodes, tensors, names = stored(blocks)
    inputs = ["x", *names, *[""] * (4 - len(names)), "bias"]
    nodes.append(
        helper.make_node(
            "MatMulNBits", inputs, ["y"], domain="com.microsoft", K=width, N=24, bits=bits, block_size=block_size,
            accuracy_level=accuracy_level,
        )
    )  # fmt: skip
    made = run(nodes, tensors | {"bias": bias}, {"x": x}, [3, 24])
    expected = x.astype(np.float64) @ dequantize(blocks, scheme, width).T.astype(np.float64) + bias
    assert np.abs(made - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("width", [256, 200])
def test_gather_finds_exactly_these_numbers(bits: int, symmetric: bool, width: int) -> None:
    scheme = Scheme(bits, 32, symmetric)
    blocks = quantize(normal(24, width), scheme)
    ids = np.array([[0, 23, 7], [7, 1, 2]])
    nodes, tensors, names = stored(blocks)
    tensors["packed"] = blocks.packed.reshape(24, -1)
    nodes.append(
        helper.make_node(
            "GatherBlockQuantized", [names[0], "ids", *names[1:]], ["y"], domain="com.microsoft", bits=bits,
            block_size=32, gather_axis=0, quantize_axis=1,
        )
    )  # fmt: skip
    found = run(nodes, tensors, {"ids": ids}, [2, 3, scheme.blocks(width) * 32])
    assert np.array_equal(found[..., :width], dequantize(blocks, scheme, width)[ids])
    assert not found[..., width:].any()
