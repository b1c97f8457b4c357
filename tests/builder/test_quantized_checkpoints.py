"""Quantized checkpoints are built: as their numbers say, and without being quantized twice where that can be."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edgeship import builder as build
from edgeship.builder import data_file, onnx_model, packaging, weights
from edgeship.builder.layout import Layout, Matrix, Placed
from edgeship.builder.quantize import Blocks, Scheme, dequantize, unpack
from edgeship.builder.stream import design, kept
from edgeship.checkpoint import open_checkpoint
from edgeship.package import manifest as manifests
from edgeship.recipe import Precision, Recipe
from edgeship.settings import Settings
from tests import checkpoints, packings
from tests.packings import AUTO_ROUND, AWQ, GPTQ, MLX, PACKED, ROUND, stated

TOKENS = tuple(range(5, 45))
INT4 = Recipe(precision=Precision.INT4, symmetric=False, accuracy_level=1, method="search")
KEPT: dict[str, tuple[packings.Writer, dict[str, Any]]] = {
    "gptq": (packings.gptq, stated(**GPTQ)),
    "gptq of groups of 16": (partial(packings.gptq, group=16), stated(**GPTQ | {"group_size": 16})),
    "gptq, a scale a row": (partial(packings.gptq, group=-1, sym=True), stated(**GPTQ | {"group_size": -1})),
    "gptq, symmetric": (partial(packings.gptq, sym=True), stated(**GPTQ | {"sym": True})),
    "gptq v2": (partial(packings.gptq, version=2), stated(**GPTQ, checkpoint_format="gptq_v2")),
    "awq": (packings.awq, stated(**AWQ)),
    "auto-round": (packings.gptq, AUTO_ROUND),
    "auto-round v2": (partial(packings.gptq, version=2), stated(**ROUND, packing_format="auto_round:gptqmodel")),
    "gptq, act-order": (partial(packings.gptq, act_order=True), stated(**GPTQ, desc_act=True)),
    "packed": (packings.compressed, stated(**PACKED)),
    "packed, act-order": (partial(packings.compressed, act_order=True), stated(**PACKED)),
    "packed, zero points": (partial(packings.compressed, symmetric=False, dtype=np.float32), stated(**PACKED)),
}
ROUNDED: dict[str, tuple[packings.Writer, dict[str, Any]]] = {
    "gptq of 8 bits": (partial(packings.gptq, bits=8), stated(**GPTQ | {"bits": 8})),
    "int8": (packings.int8, stated(quant_method="compressed-tensors", format="int-quantized")),
    "fp8": (partial(packings.fp8, block=(128, 128)), stated(quant_method="fp8", weight_block_size=[128, 128])),
    "nf4": (partial(packings.nf4, nested=True), {}),
    "llm.int8": (packings.llm_int8, {}),
    "mlx": (packings.mlx, MLX),
    "mxfp4": (packings.mxfp4, stated(quant_method="compressed-tensors")),
}
OWN_ORDERS: tuple[packings.Writer, dict[str, Any]] = (
    partial(packings.gptq, act_order=True, own_order=True),
    stated(**GPTQ, desc_act=True),
)
FORMS = KEPT | ROUNDED | {"gptq, orders": OWN_ORDERS}


def write(folder: Path, recipe: Recipe) -> tuple[Layout, bytes]:
    """The layout of a build, and its data file."""
    _, read, layout = design(open_checkpoint(str(folder)), recipe)
    path = folder / "model.onnx.data"
    data_file.write(layout, read, path)
    data_file.finish(layout, path)
    return layout, path.read_bytes()


def stored(placed: Placed, data: bytes) -> Blocks:
    arrays = [
        np.frombuffer(data, blob.dtype, count=blob.nbytes // np.dtype(blob.dtype).itemsize, offset=blob.offset)
        for blob in placed.blobs
    ]
    packed, scales, *zero_points = [array.reshape(blob.shape) for array, blob in zip(arrays, placed.blobs, strict=True)]
    return Blocks(packed, scales, zero_points[0] if zero_points else None)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_plain_builds_have_the_numbers(form: str, precision: Precision, tiny: Path) -> None:
    plain = packings.quantize(tiny, *FORMS[form])
    recipe = Recipe(precision=precision)
    assert write(tiny, recipe)[1] == write(plain, recipe)[1]


@pytest.mark.parametrize("form", ["gptq", "awq", "packed", "nf4", "mlx"])
def test_int8_is_made_of_the_numbers(form: str, tiny: Path) -> None:
    plain = packings.quantize(tiny, *FORMS[form], tables=form == "mlx")
    recipe = Recipe(precision=Precision.INT8, block_size=32, method="search")
    assert write(tiny, recipe)[1] == write(plain, recipe)[1]


@pytest.mark.parametrize("form", KEPT)
def test_int4_keeps_the_integers(form: str, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_file, "CHUNK_ELEMENTS", 700)  # pieces begin within a word
    plain = load_file(packings.quantize(tiny, *KEPT[form]) / "model.safetensors")
    layout, data = write(tiny, INT4)
    assert len(kept(layout)) == 7 * checkpoints.LAYERS - 2 * checkpoints.LAYERS
    for placed in layout:
        matrix, scheme = placed.weight, placed.storage
        if isinstance(matrix, Matrix) and isinstance(scheme, Scheme) and scheme.method == "kept":
            numbers = dequantize(stored(placed, data), scheme, matrix.width)
            expected = np.concatenate([plain[part.tensor][part.start : part.stop] for part in matrix.parts])
            assert (scheme.order is not None) == ("act-order" in form)
            if scheme.order is not None:
                expected = expected[:, np.frombuffer(scheme.order, np.int32)]
            np.testing.assert_allclose(numbers, expected, rtol=0 if "zero points" not in form else 5e-4, atol=0)


def test_integers_scales_and_zero_points_are_gptqs_own(tiny: Path) -> None:
    packings.quantize(tiny, *KEPT["gptq v2"])
    tensors = load_file(tiny / "model.safetensors")
    layout, data = write(tiny, INT4)
    placed = layout.weights["layers.1.qkv"]
    blocks, names = stored(placed, data), [f"model.layers.1.self_attn.{name}_proj" for name in "qkv"]
    words = [tensors[f"{name}.qweight"].view(np.uint32) for name in names]
    integers = np.hstack([np.stack([(part >> (4 * at)) & 15 for at in range(8)], 1).reshape(64, -1) for part in words])
    np.testing.assert_array_equal(unpack(blocks.packed, 4).reshape(-1, 64), integers.T)
    np.testing.assert_array_equal(blocks.scales, np.hstack([tensors[f"{name}.scales"] for name in names]).T)
    words = [tensors[f"{name}.qzeros"].view(np.uint32) for name in names]
    zeros = np.hstack([np.stack([(part >> (4 * at)) & 15 for at in range(8)], 2).reshape(2, -1) for part in words])
    assert blocks.zero_points is not None
    np.testing.assert_array_equal(unpack(blocks.zero_points, 4), zeros.T)


def test_parts_of_different_groups_become_the_smaller_blocks(tiny: Path) -> None:
    def writer(rng: np.random.Generator, rows: int, width: int) -> packings.Written:
        return packings.compressed(rng, rows, width, group=32 if rows == 64 else 16, symmetric=rows == 64)

    plain = load_file(packings.quantize(tiny, writer, stated(**PACKED)) / "model.safetensors")
    layout, data = write(tiny, INT4)
    placed = layout.weights["layers.0.qkv"]
    assert placed.storage == Scheme(4, 16, False, "kept")
    numbers = dequantize(stored(placed, data), placed.storage, 64)
    expected = np.concatenate([plain[f"model.layers.0.self_attn.{name}_proj.weight"] for name in "qkv"])
    np.testing.assert_array_equal(numbers, expected)


def test_a_matrix_whose_parts_have_orders_of_their_own_is_rounded(tiny: Path) -> None:
    plain = packings.quantize(tiny, *OWN_ORDERS)
    layout = write(tiny, INT4)[0]
    assert {name.rpartition(".")[2] for name in kept(layout)} == {"output", "gate", "up", "down"}
    queries = [
        placed.blobs for placed in (layout.weights["layers.1.qkv"], write(plain, INT4)[0].weights["layers.1.qkv"])
    ]
    assert [blob.shape for blob in queries[0]] == [blob.shape for blob in queries[1]]


def test_groups_of_several_sizes_are_rounded(tiny: Path) -> None:
    def uneven(tensors: dict[str, packings.Array]) -> None:
        for name, index in tensors.items():
            if name.endswith("g_idx"):
                index[:] = np.arange(len(index)) % 32 % 2

    packings.quantize(tiny, packings.gptq, stated(**GPTQ, desc_act=True), change=uneven)
    assert {name.rpartition(".")[2] for name in kept(write(tiny, INT4)[0])} == {"qkv", "output", "gate", "up"}


@pytest.mark.parametrize("form", ["gptq of 8 bits", "int8", "llm.int8"])
def test_int8_keeps_integers_of_8_bits(form: str, tiny: Path) -> None:
    plain = load_file(packings.quantize(tiny, *FORMS[form]) / "model.safetensors")
    layout, data = write(tiny, Recipe(precision=Precision.INT8, block_size=32, method="search"))
    placed = layout.weights["layers.0.down"]
    assert isinstance(placed.storage, Scheme)
    assert placed.storage.method == "kept"
    numbers = dequantize(stored(placed, data), placed.storage, 96)
    np.testing.assert_allclose(numbers, plain["model.layers.0.mlp.down_proj.weight"], rtol=6e-4, atol=2e-6)


@pytest.mark.parametrize("form", ROUNDED)
def test_what_int4_cannot_keep_is_rounded_as_the_numbers_are(form: str, tiny: Path) -> None:
    plain = packings.quantize(tiny, *ROUNDED[form])
    layout, data = write(tiny, INT4)
    assert not kept(layout)
    assert data == write(plain, INT4)[1]


def test_what_an_adapter_changes_is_not_kept(tiny: Path, tiny_adapter: Path) -> None:
    packings.quantize(tiny, *KEPT["gptq"])
    opened = open_checkpoint(str(tiny), adapter=tiny_adapter)
    _, _, layout = design(opened, INT4)
    assert {name.rpartition(".")[2] for name in kept(layout)} == {"output", "gate", "up"}
    assert "the adapter is merged into the dequantized weights" in opened.notes


def test_an_adapter_is_merged_into_the_numbers(tiny: Path, tiny_adapter: Path) -> None:
    plain = packings.quantize(tiny, *ROUNDED["nf4"])
    both = [open_checkpoint(str(folder), adapter=tiny_adapter) for folder in (tiny, plain)]
    name = "model.layers.1.mlp.down_proj.weight"
    merged = [weights.open_weights(opened).read(name) for opened in both]
    np.testing.assert_array_equal(merged[0], merged[1])
    assert np.abs(merged[0] - load_file(plain / "model.safetensors")[name]).max() > 0.01


def test_a_merged_checkpoint_is_plain(tiny: Path, tmp_path: Path) -> None:
    plain = packings.quantize(tiny, *KEPT["awq"])
    (tmp_path / "merged").mkdir()
    weights.merge(open_checkpoint(str(tiny)), tmp_path / "merged")
    opened = open_checkpoint(str(tmp_path / "merged"))
    assert opened.quantized is None
    found, wanted = (load_file(folder / "model.safetensors") for folder in (tmp_path / "merged", plain))
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize(
    ("form", "precision", "note"),
    [
        ("gptq", Precision.INT4, "10 of 11 matrices keep the integers that they have"),
        ("gptq", Precision.INT8, "dequantized and rounded once more"),
        ("gptq, act-order", Precision.INT4, "10 of 11 matrices keep the integers that they have"),
        (
            "gptq, orders",
            Precision.INT4,
            "6 tensors are rounded once more, since act-order left the columns of a group",
        ),
        ("nf4", Precision.INT4, "dequantized and rounded once more"),
    ],
)
def test_the_plan_says_what_becomes_of_the_integers(
    form: str, precision: Precision, note: str, tiny: Path, settings: Settings
) -> None:
    packings.quantize(tiny, *FORMS[form])
    planned = build.plan(open_checkpoint(str(tiny)), Recipe(precision=precision), settings)
    assert note in "; ".join(planned.notes)
    assert "quantized before" in "; ".join(planned.notes)


def test_the_other_builder_gets_plain_numbers(tiny: Path, settings: Settings) -> None:
    packings.quantize(tiny, *KEPT["gptq"])
    planned = build.plan(open_checkpoint(str(tiny)), Recipe(precision=Precision.FP32, builder="genai"), settings)
    assert [step.name for step in planned.steps] == ["merge", "convert"]


# --- real builds -----------------------------------------------------------------------------------------------------


def make(folder: Path, settings: Settings, recipe: Recipe, adapter: Path | None = None) -> build.Build:
    return build.build(open_checkpoint(str(folder), adapter=adapter), recipe, settings)


def logits(made: build.Build) -> Any:
    return onnx_model.Runner(made.folder, 2).run(TOKENS, ["logits"])[0][0]


@pytest.mark.slow
@pytest.mark.parametrize("form", KEPT)
def test_an_int4_package_answers_as_the_dequantized_checkpoint(form: str, tiny: Path, settings: Settings) -> None:
    # The table is rounded: of numbers that 4 bits hold exactly nothing is lost by that.
    rng = np.random.default_rng(5)
    table = (rng.integers(-8, 8, (checkpoints.VOCAB, checkpoints.HIDDEN)) / 64).astype(np.float32)
    table[:, 0::16], table[:, 1::16] = -8 / 64, 7 / 64
    changed = load_file(tiny / "model.safetensors") | {"model.embed_tokens.weight": table}
    save_file(changed, tiny / "model.safetensors", {"format": "pt"})
    plain = packings.quantize(tiny, *KEPT[form])
    made = make(tiny, settings, INT4.model_copy(update={"block_size": 16}))
    wanted = logits(make(plain, settings, Recipe(precision=Precision.FP32)))
    # Scales of float32 are rounded to float16, as all are that a package holds.
    assert np.abs(logits(made) - wanted).max() < (1e-4 if form != "packed, zero points" else 1e-3) * np.ptp(wanted)


@pytest.mark.slow
@pytest.mark.parametrize("form", ROUNDED)
def test_an_fp32_package_is_that_of_the_dequantized_checkpoint(
    form: str, tiny: Path, tiny_adapter: Path, settings: Settings
) -> None:
    plain = packings.quantize(tiny, *ROUNDED[form], tables=form == "mlx")
    recipe = Recipe(precision=Precision.FP32)
    made, wanted = (logits(make(folder, settings, recipe, tiny_adapter)) for folder in (tiny, plain))
    np.testing.assert_array_equal(made, wanted)


@pytest.mark.slow
def test_the_default_recipe_builds_and_the_package_tells(tiny: Path, settings: Settings, tmp_path: Path) -> None:
    packings.quantize(tiny, *KEPT["gptq"])
    opened = open_checkpoint(str(tiny))
    made = build.build(opened, Recipe(precision=Precision.INT4, symmetric=False, tolerance=0.15, bits=8.0), settings)
    package = packaging.write_package(made, opened, tmp_path / "package")
    told = manifests.read(package.folder).manifest.checkpoint["quantized"]
    assert told == {"form": "GPTQ with 4 bits in groups of 32", "bits": 4, "group_size": 32}
    card = (package.folder / packaging.CARD).read_text(encoding="utf-8")
    assert "Quantized before Edgeship got it, and what that lost is lost here too: GPTQ with 4 bits" in card
