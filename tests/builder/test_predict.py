"""Predictions and the check before the work."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgeship import builder
from edgeship.builder import predict
from edgeship.builder.architecture import read_architecture
from edgeship.builder.layout import Layout, Matrix, Part, Stack, lay_out
from edgeship.builder.mixture import Mixture
from edgeship.builder.quantize import Scheme
from edgeship.checkpoint import Checkpoint, open_checkpoint
from edgeship.errors import DiskShort, MemoryShort
from edgeship.recipe import Precision, Recipe
from edgeship.settings import Settings
from edgeship.system.machine import Machine
from tests import checkpoints

MACHINE = Machine(2, 2, 8_000_000_000, 6_000_000_000, "cpu", "Linux x86_64")


@pytest.fixture
def qwen_half_billion(tiny: Path) -> Checkpoint:
    """A checkpoint that claims the shape of Qwen2.5-0.5B, without tensors."""
    return dataclasses.replace(
        open_checkpoint(str(tiny)),
        parameters=494_032_768,
        vocab_size=151_936,
        hidden_size=896,
        layers=24,
        kv_heads=2,
        head_size=64,
        context_tokens=32_768,
        tensors={},
    )


@pytest.mark.parametrize(
    ("precision", "block_size", "measured"),
    [("fp32", 32, 1_976e6), ("int4", 32, 317e6), ("int4", 64, 275e6), ("int4", 128, 260e6), ("int8", 32, 1_059e6)],
)
def test_sizes_are_those_measured_on_half_a_billion_parameters(
    qwen_half_billion: Checkpoint, precision: str, block_size: int, measured: float
) -> None:
    recipe = Recipe.model_validate({"precision": precision, "block_size": block_size})
    assert predict.model_bytes(qwen_half_billion, recipe) == pytest.approx(measured, rel=0.1)


def test_memory_is_that_measured_on_half_a_billion_parameters(qwen_half_billion: Checkpoint) -> None:
    found = predict.predict(qwen_half_billion, Recipe(precision=Precision.INT4))
    assert found.build_peak_memory_bytes == pytest.approx(5.47e9, rel=0.1)


def test_fp16_is_half_of_fp32_and_int4_the_smallest(qwen_half_billion: Checkpoint) -> None:
    sizes = {precision: predict.model_bytes(qwen_half_billion, Recipe(precision=precision)) for precision in Precision}
    assert sizes[Precision.FP16] / sizes[Precision.FP32] == pytest.approx(0.5, abs=0.01)
    assert min(sizes, key=lambda precision: sizes[precision]) is Precision.INT4
    assert max(sizes, key=lambda precision: sizes[precision]) is Precision.FP32


def test_shapes_guessed_from_a_pickle_agree_with_real_ones(tiny: Path) -> None:
    checkpoint = open_checkpoint(str(tiny))
    blind = dataclasses.replace(checkpoint, tensors={}, pickle=True)
    for precision in Precision:
        recipe = Recipe(precision=precision)
        known = predict.model_bytes(checkpoint, recipe)
        assert predict.model_bytes(blind, recipe) == pytest.approx(known, rel=0.05)


def test_fp16_runs_as_fp32_and_writes_both(tiny: Path) -> None:
    checkpoint = open_checkpoint(str(tiny))
    full = predict.predict(checkpoint, Recipe(precision=Precision.FP32))
    half = predict.predict(checkpoint, Recipe(precision=Precision.FP16))
    assert half.run_memory_bytes == full.run_memory_bytes
    assert half.disk_bytes == pytest.approx(full.disk_bytes * 1.5, rel=0.1)


def test_an_adapter_needs_room_for_the_merged_checkpoint(tiny: Path, tiny_adapter: Path) -> None:
    recipe = Recipe(precision=Precision.INT4)
    alone = open_checkpoint(str(tiny))
    merged = open_checkpoint(str(tiny), adapter=tiny_adapter)
    more = predict.predict(merged, recipe).disk_bytes - predict.predict(alone, recipe).disk_bytes
    assert more >= 4 * alone.parameters


def test_an_untied_output_layer_counts_and_its_embedding_stays_fp32(tiny: Path) -> None:
    tied = open_checkpoint(str(tiny))
    table = tied.vocab_size * tied.hidden_size
    untied = dataclasses.replace(tied, tied_embeddings=False, parameters=tied.parameters + table)
    recipe = Recipe(precision=Precision.INT4)
    assert predict.model_bytes(untied, recipe) - predict.model_bytes(tied, recipe) == 4 * table


def test_too_little_memory_is_said_in_numbers() -> None:
    prediction = predict.Prediction(1, 6_000_000_001, 10, 1)
    with pytest.raises(MemoryShort) as caught:
        predict.check_resources(prediction, MACHINE, 10)
    assert "6.00 GB" in caught.value.what
    assert "8.00 GB" in caught.value.what
    assert "--force-resources tries" in str(caught.value.hint)


def test_too_little_disk_is_said_in_numbers() -> None:
    with pytest.raises(DiskShort, match=r"2\.00 GB of disk and 12\.5 MB are free") as caught:
        predict.check_resources(predict.Prediction(1, 1, 2_000_000_000, 1), MACHINE, 12_500_000)
    assert "EDGESHIP_HOME" in str(caught.value.hint)


def test_what_just_fits_is_allowed() -> None:
    predict.check_resources(predict.Prediction(1, 6_000_000_000, 10, 1), MACHINE, 10)


def test_a_build_that_cannot_fit_does_nothing(tiny: Path, settings: Settings) -> None:
    small = dataclasses.replace(settings, memory_bytes=100_000_000)
    with pytest.raises(MemoryShort):
        builder.build(open_checkpoint(str(tiny)), Recipe(precision=Precision.INT4), small)
    assert not settings.builds_dir.exists()


def seven_billion(layers: int) -> Layout:
    """Layers of width 4096 with eight heads of keys and values, and an MLP of 14,336."""
    shapes = {"qkv": (6144, 4096), "output": (4096, 4096), "gate": (14_336, 4096), "up": (14_336, 4096)}
    matrices = [
        Matrix(f"layers.{index}.{name}", (Part(name, 0, rows),), width)
        for index in range(layers)
        for name, (rows, width) in (shapes | {"down": (4096, 14_336)}).items()
    ]
    return lay_out(matrices, dict.fromkeys((matrix.name for matrix in matrices), Scheme(4, 32, symmetric=True)))


def predicted(tiny: Path, recipe: Recipe, layers: int) -> predict.Prediction:
    wide = dataclasses.replace(open_checkpoint(str(tiny)), hidden_size=4096)
    known = read_architecture(wide)
    architecture = dataclasses.replace(known, ropes=(), sizes=dataclasses.replace(known.sizes, layers=layers))
    return predict.predict_streaming(wide, recipe, seven_billion(layers), architecture)


def test_memory_to_calibrate_seven_billion_is_that_measured_on_two_layers(tiny: Path) -> None:
    recipe = Recipe(precision=Precision.INT4)
    found = predicted(tiny, recipe, 2)
    assert found.build_peak_memory_bytes == pytest.approx(1.91e9, rel=0.15)
    whole = predicted(tiny, recipe, 32)
    assert whole.build_peak_memory_bytes == found.build_peak_memory_bytes
    assert whole.time_s == pytest.approx(16 * found.time_s, rel=0.1)


def mixture(layers: int, experts: int) -> Layout:
    """Layers of width 1024 with four heads of keys and values of 64, and experts of 512."""
    dense = {"qkv": (1536, 1024), "output": (1024, 1024)}
    stacks = {"experts.gate_up": (1024, 1024), "experts.down": (1024, 512)}
    matrices = []
    for index in range(layers):
        name = f"layers.{index}."
        matrices += [Matrix(name + of, (Part(of, 0, rows),), width) for of, (rows, width) in dense.items()]
        matrices.append(Matrix(f"{name}router", (Part("router", 0, experts),), 1024, exact=True))
        matrices += [
            Matrix(name + of, tuple(Part(of, 0, rows) for _ in range(experts)), width, stack=Stack(experts, 512))
            for of, (rows, width) in stacks.items()
        ]
    chosen = {matrix.name: Scheme(4, 128, symmetric=True) for matrix in matrices if not matrix.exact}
    return lay_out(matrices, chosen | {matrix.name: "float32" for matrix in matrices if matrix.exact})


def predicted_of_mixture(tiny: Path, recipe: Recipe, layers: int, experts: int) -> predict.Prediction:
    checkpoint = dataclasses.replace(open_checkpoint(str(tiny)), hidden_size=1024, vocab_size=32_000)
    known = read_architecture(checkpoint)
    architecture = dataclasses.replace(
        known,
        ropes=(),
        sizes=dataclasses.replace(known.sizes, layers=layers),
        mixture=Mixture(experts, chosen=4, routing="softmax", normalised=True),
    )
    return predict.predict_streaming(checkpoint, recipe, mixture(layers, experts), architecture)


def test_memory_to_build_a_mixture_is_that_measured_on_three_layers(tiny: Path) -> None:
    recipe = Recipe(precision=Precision.INT4, symmetric=False, tolerance=0.15, bits=6.15, method="feedback")
    assert predicted_of_mixture(tiny, recipe, 3, 32).build_peak_memory_bytes == pytest.approx(0.393e9, rel=0.2)


def test_more_experts_take_more_time_to_read_and_no_more_memory(tiny: Path) -> None:
    recipe = Recipe(precision=Precision.INT4, bits=5.0)
    few, many = (predicted_of_mixture(tiny, recipe, 2, count) for count in (32, 128))
    assert many.build_peak_memory_bytes == pytest.approx(few.build_peak_memory_bytes, rel=0.01)
    assert many.build_peak_memory_bytes < 0.5e9
    assert many.time_s > few.time_s


def test_what_is_not_calibrated_takes_neither_its_memory_nor_its_time(tiny: Path) -> None:
    found, plain = (predicted(tiny, Recipe(precision=Precision.INT4, calibrate=flag), 2) for flag in (True, False))
    searched = predicted(tiny, Recipe(precision=Precision.INT4, method="search", calibration=tiny), 2)
    assert plain.build_peak_memory_bytes < 3e8 < searched.build_peak_memory_bytes < found.build_peak_memory_bytes
    assert plain.time_s < searched.time_s < found.time_s
    assert plain.disk_bytes < searched.disk_bytes


def test_memory_to_run_includes_the_tables_of_rotary_angles(tiny: Path) -> None:
    """They are made for the whole context when a model opens: 0.6 GB more were measured for 4 million positions."""
    config = checkpoints.qwen2_config()
    needs = []
    for positions in (2048, 4_194_304):
        checkpoints.write_json(tiny / "config.json", config | {"max_position_embeddings": positions})
        needs.append(builder.prediction(open_checkpoint(str(tiny)), Recipe(precision=Precision.INT4))[1])
    assert needs[1].run_memory_bytes - needs[0].run_memory_bytes == pytest.approx(0.59e9, rel=0.15)


def test_a_context_that_no_memory_holds_is_told_before_anything_is_built(tmp_path: Path, settings: Settings) -> None:
    config = checkpoints.qwen2_config(max_position_embeddings=2**31 - 1)
    checkpoint = open_checkpoint(str(checkpoints.make_checkpoint(tmp_path / "wide", config=config)))
    small = dataclasses.replace(settings, memory_bytes=8 * 10**9)
    with pytest.raises(MemoryShort, match="the build needs about 275"):
        builder.build(checkpoint, Recipe(precision=Precision.INT4), small)
    assert not settings.builds_dir.exists()
