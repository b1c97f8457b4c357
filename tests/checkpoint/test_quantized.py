"""Which form of quantized weights a checkpoint is in, whether it is read, and what is said of one that is not."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship import builder
from edgeship.builder.weights import open_weights
from edgeship.checkpoint import open_checkpoint
from edgeship.checkpoint.inspection import inspection
from edgeship.errors import CheckpointInvalid, UsageError
from edgeship.measure.choice.choose import Thresholds
from edgeship.preflight import Shipment, choose_reference, preflight
from edgeship.recipe import Precision, Recipe
from edgeship.settings import Settings
from tests import checkpoints, packings
from tests.packings import AUTO_ROUND, AWQ, GPTQ, MLX, PACKED, ROUND, stated

PROJECTION = "model.layers.0.self_attn.q_proj"
READ: list[tuple[packings.Writer, dict[str, Any], str]] = [
    (packings.gptq, stated(**GPTQ), "GPTQ with 4 bits in groups of 32"),
    (packings.awq, stated(**AWQ), "AWQ with 4 bits in groups of 32"),
    (packings.gptq, AUTO_ROUND, "AutoRound with 4 bits in groups of 32"),
    (packings.awq, stated(**ROUND | {"packing_format": "auto_round:auto_awq"}), "AutoRound with 4 bits in groups"),
    (packings.compressed, stated(**PACKED), "compressed-tensors with 4 bits in groups of 32"),
    (packings.compressed, {}, "compressed-tensors with 4 bits in groups of 32"),
    (packings.int8, {}, "compressed-tensors with 8 bits, a scale for each row"),
    (partial(packings.fp8, block=(16, 16)), stated(quant_method="fp8", weight_block_size=[16, 16]), "FP8 with 8 bits"),
    (partial(packings.fp8, shape=(1,)), {}, "FP8 with 8 bits, a scale for each matrix"),
    (packings.nf4, {}, r"bitsandbytes with 4 bits \(nf4\) in groups of 64"),
    (packings.llm_int8, stated(quant_method="bitsandbytes", load_in_8bit=True), "bitsandbytes with 8 bits"),
    (packings.mlx, MLX, "MLX with 4 bits in groups of 32"),
    (packings.mlx, MLX | stated(group_size=32, bits=4), "MLX with 4 bits in groups of 32"),
    (packings.mxfp4, stated(quant_method="compressed-tensors"), r"compressed-tensors with 4 bits \(mxfp4\)"),
]
UNREAD: list[tuple[packings.Writer, dict[str, Any], str]] = [
    (packings.gptq, {}, "GPTQ, without bits in config.json"),
    (packings.gptq, stated(**GPTQ | {"bits": 3}), "GPTQ with 3 bits, and 4 and 8 are read"),
    (packings.gptq, stated(**GPTQ | {"checkpoint_format": "marlin"}), "GPTQ with 4 bits, packed for marlin"),
    (packings.gptq, stated(**GPTQ | {"is_marlin_format": True}), "packed for marlin"),
    (packings.gptq, stated(quant_method="bitsandbytes"), "bitsandbytes, but its tensors show GPTQ"),
    (packings.awq, stated(**AWQ | {"version": "gemv"}), "AWQ with 4 bits, packed for gemv"),
    (packings.awq, stated(**AWQ | {"checkpoint_format": "llm-awq"}), "packed for llm-awq"),
    (packings.gptq, stated(**ROUND | {"packing_format": "auto_round:fp8_static"}), "packed as auto_round:fp8_static"),
    (packings.gptq, stated(**ROUND, extra_config={"lm_head": {"bits": 2}}), "with other bits for some modules"),
    (packings.awq, stated(**AWQ | {"zero_point": False}), "without zero points"),
    (packings.compressed, stated(**PACKED | {"format": "marlin-24"}), "packed as marlin-24"),
    (packings.compressed, stated(**PACKED, sparsity_config={"format": "sparse-24-bitmask"}), "sparse-24-bitmask"),
    (packings.compressed, stated(**PACKED, transform_config={"config_groups": {"u": {}}}), "with transforms"),
    (packings.fp8, stated(quant_method="modelopt", quant_algo="NVFP4"), "ModelOpt, with NVFP4"),
    (packings.mlx, {"quantization": {"group_size": 32, "bits": 3}}, "MLX with 3 bits"),
    (packings.mlx, {"quantization": {"group_size": 32, "bits": 4, "mode": "mxfp4"}}, "of the mode mxfp4"),
    (packings.mlx, {"quantization": {"group_size": 32, "bits": 4, "lm_head": {"bits": 6}}}, "MLX with 4 bits, and 4"),
    (packings.nf4, stated(quant_method="somethingnew"), "somethingnew, which is not read"),
]


def quantized(folder: Path, writer: packings.Writer, config: dict[str, Any]) -> Path:
    packings.quantize(folder, writer, config)
    return folder


@pytest.mark.parametrize(("writer", "config", "form"), READ, ids=lambda value: value if isinstance(value, str) else "")
def test_a_form_is_told(writer: packings.Writer, config: dict[str, Any], form: str, tiny: Path) -> None:
    opened = open_checkpoint(str(quantized(tiny, writer, config)))
    assert opened.quantized is not None
    assert re.match(form, opened.quantized.form)
    told = inspection(opened)
    assert told["quantization"] == opened.quantized.form
    assert told["quantization_read"]
    assert any("quantized before" in note for note in opened.notes)
    assert opened.parameters == open_checkpoint(f"{tiny}-plain").parameters


@pytest.mark.parametrize(
    ("writer", "config", "form"), UNREAD, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_form_that_is_not_read_is_refused_by_name(
    writer: packings.Writer, config: dict[str, Any], form: str, tiny: Path, settings: Settings
) -> None:
    opened = open_checkpoint(str(quantized(tiny, writer, config)))
    assert not inspection(opened)["quantization_read"]
    with pytest.raises(CheckpointInvalid, match=f"cannot be built from: .*{form}.*, as ") as caught:
        builder.plan(opened, Recipe(precision=Precision.INT4), settings)
    assert "Give the checkpoint as it was before" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "config",
    [
        stated(quant_method="bitsandbytes", load_in_4bit=True),
        stated(**GPTQ),
        stated(quant_method="hqq"),
        stated(bits=2),
        {"quantization": {"group_size": 64, "bits": 4}},
    ],
)
def test_plain_weights_under_a_config_of_quantized_ones_are_refused(
    config: dict[str, Any], tiny: Path, settings: Settings
) -> None:
    checkpoints.write_json(tiny / "config.json", checkpoints.qwen2_config(**config))
    with pytest.raises(CheckpointInvalid, match=r"as config\.json says") as caught:
        builder.plan(open_checkpoint(str(tiny)), Recipe(precision=Precision.INT4), settings)
    assert "out of config.json" in (caught.value.hint or "")


def test_a_field_of_the_wrong_type_is_named(tiny: Path) -> None:
    quantized(tiny, packings.gptq, stated(**GPTQ | {"bits": "four"}))
    with pytest.raises(CheckpointInvalid, match=r"quantization_config\.bits 'four'"):
        open_checkpoint(str(tiny))


def test_plain_weights_have_no_form(tiny: Path) -> None:
    opened = open_checkpoint(str(tiny))
    assert opened.quantized is None
    assert inspection(opened)["quantization"] is None


def test_of_a_quantized_copy_on_the_hub_the_original_is_presumed(tiny: Path, settings: Settings) -> None:
    quantized(tiny, packings.nf4, stated(quant_method="hqq"))
    opened = replace(open_checkpoint(str(tiny)), source="unsloth/Tiny-bnb-4bit")
    with pytest.raises(CheckpointInvalid) as caught:
        builder.plan(opened, Recipe(precision=Precision.INT4), settings)
    assert (caught.value.hint or "").endswith("Presumably that is unsloth/Tiny.")


def test_the_reference_is_the_dequantized_checkpoint(tiny: Path, settings: Settings, tmp_path: Path) -> None:
    opened, recipe = open_checkpoint(str(quantized(tiny, packings.nf4, {}))), Recipe(precision=Precision.INT4)
    assert choose_reference(opened) == "fp32"
    with pytest.raises(UsageError, match=r"transformers cannot be the reference .*, which are quantized"):
        preflight(Shipment(opened, "tiny", (recipe,), Thresholds(), "transformers"), settings, tmp_path)


def test_wrapped_names_are_read_by_the_usual_ones(tiny: Path) -> None:
    def wrap(tensors: dict[str, Any]) -> None:
        for name in list(tensors):
            tensors[f"_orig_mod.module.{name}"] = tensors.pop(name)

    plain = packings.quantize(tiny, packings.gptq, stated(**GPTQ), change=wrap)
    opened, wanted = open_weights(open_checkpoint(str(tiny))), open_weights(open_checkpoint(str(plain)))
    assert opened.shapes == wanted.shapes
    name = f"{PROJECTION}.weight"
    np.testing.assert_array_equal(opened.read(name), wanted.read(name))


def test_tied_tables_that_are_packed_each_must_be_equal(tiny: Path) -> None:
    def also_the_head(tensors: dict[str, Any]) -> None:
        for end in ("weight", "scales", "biases"):
            tensors[f"lm_head.{end}"] = tensors[f"model.embed_tokens.{end}"].copy()

    packings.quantize(tiny, packings.mlx, MLX, tables=True, change=also_the_head)
    assert open_weights(open_checkpoint(str(tiny))).tied
    other = checkpoints.make_checkpoint(tiny.with_name("other"))

    def another_head(tensors: dict[str, Any]) -> None:
        also_the_head(tensors)
        tensors["lm_head.biases"][300] *= 2

    packings.quantize(other, packings.mlx, MLX, tables=True, change=another_head)
    with pytest.raises(CheckpointInvalid, match="tied weights that are not equal"):
        open_weights(open_checkpoint(str(other)))


def entry(index: int, value: int) -> Any:
    def change(values: Any) -> Any:
        values = values.copy()
        values[index] = value
        return values

    return change


DAMAGED: list[tuple[packings.Writer, dict[str, Any], str, Any, str]] = [
    (packings.gptq, stated(**GPTQ), "scales", None, r"q_proj\.scales is missing"),
    (packings.gptq, stated(**GPTQ), "qweight", None, r"q_proj\.qweight is missing"),
    (
        packings.gptq,
        stated(**GPTQ),
        "qweight",
        lambda values: values[:-1],
        r"g_idx has 64 entries, and .* is \[7, 64\]",
    ),
    (packings.gptq, stated(**GPTQ), "qzeros", lambda values: values[:, :-1], r"qzeros is \[2, 7\], not \[2, 8\]"),
    (packings.gptq, stated(**GPTQ), "scales", lambda values: values[:1], r"scales is \[1, 64\], not \[2, 64\]"),
    (packings.gptq, stated(**GPTQ), "scales", lambda values: values.astype(np.int32), "scales is of the type I32"),
    (packings.gptq, stated(**GPTQ), "g_idx", entry(5, 2), "g_idx puts column 5 into group 2, and there are 2"),
    (packings.gptq, stated(**GPTQ), "g_idx", entry(0, -1), "g_idx puts column 0 into group -1"),
    (packings.gptq, stated(**GPTQ | {"group_size": 16}), "g_idx", None, r"scales is \[3, 64\], not \[6, 64\]"),
    (packings.awq, stated(**AWQ), "qzeros", lambda values: values[:, :-1], r"qzeros is \[2, 7\]"),
    (packings.awq, stated(**AWQ), "qweight", lambda values: values[:-1], "no whole groups of 32"),
    (packings.compressed, {}, "weight_shape", lambda values: values // 2, r"weight_packed is \[64, 8\], and "),
    (packings.compressed, {}, "weight_shape", lambda values: -values, "which are no shape"),
    (packings.compressed, {}, "weight_shape", None, "weight_shape is missing"),
    (packings.compressed, {}, "weight_scale", lambda values: values[:-1], r"weight_scale is \[63, 2\], not \[64, 2\]"),
    (
        packings.compressed,
        {},
        "weight_scale",
        lambda values: np.repeat(values, 3, 1)[:, :5],
        "rows of 64 do not divide",
    ),
    (packings.int8, {}, "weight_scale", None, "weight_scale is missing|scales that belong to it are missing"),
    (packings.fp8, {}, "weight_scale_inv", None, "stored as F8_E4M3, and the scales that belong to it are missing"),
    (packings.fp8, {}, "weight_scale_inv", lambda values: values[:5], r"weight_scale_inv is \[5, 1\]"),
    (packings.nf4, {}, "weight.absmax", lambda values: values[1:], r"absmax is \[63\], not \[64\]"),
    (packings.nf4, {}, "weight.absmax", None, "absmax is missing"),
    (packings.nf4, {}, "weight", lambda values: values[:-1], "has 2047 bytes, and .* have 2048"),
    (packings.nf4, {}, "weight.quant_state.bitsandbytes__nf4", lambda values: values[:-1], "is not valid JSON"),
    (packings.llm_int8, {}, "SCB", lambda values: values[1:], r"SCB is \[63\]"),
    (packings.llm_int8, {}, "weight_format", lambda values: values + np.uint8(2), "an order for one kind of GPU"),
    (packings.mlx, MLX, "biases", None, "biases is missing"),
    (packings.mlx, MLX, "scales", lambda values: values[:, :1], r"scales is \[64, 1\], not \[64, 2\]"),
    (
        packings.mlx,
        {"quantization": {"group_size": 48, "bits": 4}},
        "scales",
        lambda values: values,
        r"scales is \[64, 3\], not \[64, 2\]",
    ),
]


@pytest.mark.parametrize(("writer", "config", "end", "value", "fault"), DAMAGED)
def test_what_is_not_as_its_form_asks_for_is_named(
    writer: packings.Writer, config: dict[str, Any], end: str, value: Any, fault: str, tiny: Path
) -> None:
    name = f"{PROJECTION}.{end}"

    def damage(tensors: dict[str, Any]) -> None:
        stored = tensors.pop(name)
        if value is not None:
            tensors[name] = np.array(value(stored))

    packings.quantize(tiny, writer, config, change=damage)
    with pytest.raises(CheckpointInvalid, match=fault):
        open_checkpoint(str(tiny))


_MIXED_UP = np.arange(64, dtype=np.int32)[::-1] // 32
BESIDE: list[tuple[packings.Writer, dict[str, Any], str, Any, str]] = [
    (
        packings.gptq,
        stated(**GPTQ),
        "weight",
        np.ones((64, 64), np.float32),
        r"q_proj\.weight is there beside .*qweight",
    ),
    (packings.compressed, {}, "weight", np.ones((64, 64), np.float32), r"weight is there beside .*weight_packed"),
    (
        packings.fp8,
        {},
        "weight_scale",
        np.ones(1, np.float32),
        r"weight_scale is there beside .*, and float8_e4m3fn is",
    ),
    (packings.fp8, {}, "weight_zero_point", np.ones(1, np.int8), "weight_zero_point is there beside"),
    (packings.fp8, {}, "weight_g_idx", _MIXED_UP, "weight_g_idx is there beside"),
    (packings.llm_int8, {}, "weight_scale", np.ones(64, np.float32), "weight_scale is there beside"),
    (packings.awq, stated(**AWQ), "g_idx", _MIXED_UP.copy(), "g_idx puts columns into groups that lie apart"),
]


@pytest.mark.parametrize(("writer", "config", "end", "values", "fault"), BESIDE)
def test_a_part_that_a_form_does_not_have_is_named(
    writer: packings.Writer, config: dict[str, Any], end: str, values: Any, fault: str, tiny: Path
) -> None:
    packings.quantize(tiny, writer, config, change=lambda tensors: tensors.update({f"{PROJECTION}.{end}": values}))
    with pytest.raises(CheckpointInvalid, match=fault):
        open_checkpoint(str(tiny))


def test_parts_that_change_nothing_may_be_there(tiny: Path) -> None:
    more = {f"{PROJECTION}.weight_zero_point": np.zeros((64, 1), np.int8)}
    packings.quantize(tiny, packings.fp8, {}, change=lambda tensors: tensors.update(more))
    assert open_checkpoint(str(tiny)).quantized is not None
    other = checkpoints.make_checkpoint(tiny.with_name("other"))
    in_order = {f"{PROJECTION}.g_idx": np.arange(64, dtype=np.int32) // 32}
    packings.quantize(other, packings.awq, stated(**AWQ), change=lambda tensors: tensors.update(in_order))
    assert open_checkpoint(str(other)).quantized is not None


def _of_groups(**weights: Any) -> dict[str, Any]:
    group = {"weights": {"num_bits": 4, "group_size": 32, "strategy": "group", **weights}}
    return stated(**PACKED, config_groups={"group_0": group})


LACKING: list[tuple[packings.Writer, dict[str, Any], str]] = [
    (packings.compressed, _of_groups(symmetric=False), "weight_zero_point"),
    (packings.compressed, _of_groups(actorder="group"), "weight_g_idx"),
    (packings.gptq, stated(**GPTQ, desc_act=True), "g_idx"),
]


@pytest.mark.parametrize(("writer", "config", "end"), LACKING)
def test_a_part_that_the_config_speaks_of_must_be_there(
    writer: packings.Writer, config: dict[str, Any], end: str, tiny: Path
) -> None:
    """Without it the numbers would be others."""
    packings.quantize(tiny, writer, config, change=lambda tensors: tensors.pop(f"{PROJECTION}.{end}", None))
    with pytest.raises(CheckpointInvalid, match=rf"\.{end} is missing"):
        open_checkpoint(str(tiny))


@pytest.mark.parametrize("block", ["16x16", [16], [16, 0], [16.0, 16.0], 16])
def test_a_block_that_is_none_is_named(block: Any, tiny: Path) -> None:
    writer = partial(packings.fp8, block=(16, 16))
    packings.quantize(tiny, writer, stated(quant_method="fp8", weight_block_size=block))
    with pytest.raises(
        CheckpointInvalid, match=r"has quantization_config\.weight_block_size .* not a list of two whole"
    ):
        open_checkpoint(str(tiny))
