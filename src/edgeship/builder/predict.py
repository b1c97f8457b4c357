"""What a build will cost and what its result will need: sizes from the model's shape, memory from measurements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeship.builder.architecture import kept_bytes
from edgeship.builder.calibrate import gram_parts
from edgeship.builder.calibration_texts import BUDGET_TOKENS
from edgeship.builder.genai_options import has_zero_points, shares_embedding
from edgeship.builder.layout import Matrix
from edgeship.builder.sensitivities import OUTPUT_ELEMENTS, tokens_wanted
from edgeship.builder.walk import MIXED_POSITIONS
from edgeship.errors import DiskShort, MemoryShort
from edgeship.recipe import Precision, Recipe
from edgeship.system.machine import Machine, usable_cores

if TYPE_CHECKING:
    from edgeship.builder.architecture import Architecture
    from edgeship.builder.layout import Layout
    from edgeship.checkpoint import Checkpoint

CONTEXT_TOKENS = 2048
"""The context for which running memory is stated."""

GRAPH_BYTES = 6_000
GRAPH_BYTES_PER_LAYER = 6_500
TOKENIZER_BYTES_PER_ENTRY = 60
RUNTIME_BYTES = 240_000_000

# ONNX Runtime holds cosines and sines, and while it makes them as much again.
ROTARY_BYTES_PER_PAIR = 16

# Peak of the builder's process, onnxruntime-genai 0.18 on 100 M and 494 M parameters: PyTorch and the libraries, then
# so much a parameter. INT4 with zero points takes a path that keeps more.
BUILDER_BYTES = 440_000_000
BUILDER_BYTES_PER_PARAMETER = {Precision.FP32: 6.5, Precision.FP16: 6.5, Precision.INT8: 12.5, Precision.INT4: 10.5}
ZERO_POINT_BYTES_PER_PARAMETER = 3.0
K_QUANT_BYTES_PER_PARAMETER = 9.0

# Peak of the streaming builder's process, whatever the model's size.
STREAMING_BYTES = 250_000_000
STREAMED_GRAPH_BYTES_PER_LAYER = 5_000

# AMD EPYC with AVX-512, 494 M parameters in bf16; the streaming builder's time is that of all cores together.
BUILDER_S, BUILDER_S_PER_PARAMETER = 10.0, 80e-9
STREAMING_S = 3.0
STREAMING_S_PER_PARAMETER = {Precision.FP32: 8e-9, Precision.FP16: 8e-9, Precision.INT8: 12e-9, Precision.INT4: 14e-9}

# Calibration opens one layer at a time in FP32, which ONNX Runtime copies to pack it. The factor of a Gram matrix takes
# so much for each of its elements. Time is that of all cores together for a parameter and a token that go through a
# layer, and mostly of one for a parameter that is rounded with feedback, by each input whose errors are handed on.
LAYER_BYTES_PER_PARAMETER = 5.0
FACTOR_BYTES_PER_ELEMENT = 36
OBSERVED_S_PER_TOKEN, FEEDBACK_S_PER_INPUT = 20e-12, 0.16e-9
# Experts are read a piece at a time, once for so many positions as go together: there are these, what is made of them,
# and what an expert makes on its way. A graph without its experts runs twice.
EXPERTS_BYTES, EXPERTS_BYTES_PER_NUMBER, EXPERTS_S_PER_PARAMETER = 40_000_000, 16, 20e-9
# For a budget of bits some rows of the output layer at a time are opened with 8 bits and with 4, which ONNX Runtime
# copies; then there are logits, and what is computed of them.
COMPARED_BYTES_PER_PARAMETER, COMPARED_BYTES_PER_LOGIT = 3.5, 24


@dataclass(frozen=True)
class Prediction:
    """Costs of one build.

    size_bytes: model.onnx and its data.
    disk_bytes: everything that the build writes, the results of its earlier steps included.
    run_memory_bytes: one engine with a context of CONTEXT_TOKENS.
    time_s: on a machine as fast as the one that the rates here were measured on; 0 where nothing is known.
    """

    size_bytes: int
    build_peak_memory_bytes: int
    disk_bytes: int
    run_memory_bytes: int
    time_s: float = 0.0


def predict(checkpoint: Checkpoint, recipe: Recipe) -> Prediction:
    """What onnxruntime-genai's builder will need for this checkpoint and make of it."""
    size = model_bytes(checkpoint, recipe)
    full_size = model_bytes(checkpoint, recipe.model_copy(update={"precision": Precision.FP32}))
    half = recipe.precision is Precision.FP16
    written = [size]
    if half:
        written.append(full_size)
    if checkpoint.adapter is not None or checkpoint.quantized is not None:
        written.append(4 * checkpoint.parameters)
    # FP16 weights become FP32 when the model is opened.
    weights = full_size if half else size
    return Prediction(
        size_bytes=size,
        build_peak_memory_bytes=BUILDER_BYTES + int(builder_bytes_per_parameter(recipe) * checkpoint.parameters),
        disk_bytes=sum(written) + len(written) * TOKENIZER_BYTES_PER_ENTRY * checkpoint.vocab_size,
        run_memory_bytes=weights + cache_bytes(checkpoint) + RUNTIME_BYTES,
        time_s=BUILDER_S + BUILDER_S_PER_PARAMETER * checkpoint.parameters,
    )


def predict_streaming(checkpoint: Checkpoint, recipe: Recipe, layout: Layout, architecture: Architecture) -> Prediction:
    """What the streaming builder will need and make."""
    size = layout.size_bytes + GRAPH_BYTES + STREAMED_GRAPH_BYTES_PER_LAYER * architecture.sizes.layers
    # FP16 weights become FP32 when the model is opened.
    weights = 2 * size if recipe.precision is Precision.FP16 else size
    calibration = _calibration(checkpoint, recipe, _layers(layout, architecture))
    # Tables of rotary embeddings are made for the whole context when a model opens, also when the builder runs what it
    # made; but not of frequencies that are chosen in every step, for the tokens that are there.
    rotated_pairs = sum(len(rope.frequencies) for rope in architecture.ropes if rope.long_frequencies is None)
    rotary_bytes = ROTARY_BYTES_PER_PAIR * rotated_pairs * checkpoint.context_tokens
    return Prediction(
        size_bytes=size,
        build_peak_memory_bytes=STREAMING_BYTES + int(calibration.memory_bytes) + rotary_bytes,
        disk_bytes=size + TOKENIZER_BYTES_PER_ENTRY * checkpoint.vocab_size + int(calibration.disk_bytes),
        run_memory_bytes=weights + kept_bytes(architecture, _tokens(checkpoint)) + rotary_bytes + RUNTIME_BYTES,
        time_s=STREAMING_S
        + STREAMING_S_PER_PARAMETER[recipe.precision] * checkpoint.parameters / usable_cores()
        + calibration.time_s,
    )


@dataclass(frozen=True)
class _Calibration:
    """What running the model to calibrate takes, beside the build itself."""

    memory_bytes: float = 0.0
    disk_bytes: float = 0.0
    time_s: float = 0.0


@dataclass(frozen=True)
class _Layer:
    """What a layer's graph holds, and what else reads its tokens.

    matrices: of the graph. experts: elements of all that it leaves out. chosen: of those that work on one token.
    """

    matrices: Sequence[Matrix]
    experts: int
    chosen: int

    @property
    def elements(self) -> int:
        """Of the graph's matrices."""
        return _count(self.matrices)

    def reading_s(self, positions: float) -> float:
        """Until so many positions have gone through."""
        at_work = self.elements + (self.elements + self.chosen if self.experts else 0)
        groups = math.ceil(positions / MIXED_POSITIONS)
        return OBSERVED_S_PER_TOKEN * positions * at_work / usable_cores() + (
            EXPERTS_S_PER_PARAMETER * groups * self.experts
        )

    def mixing_bytes(self, hidden_size: int) -> int:
        """While its experts are read."""
        return EXPERTS_BYTES + EXPERTS_BYTES_PER_NUMBER * MIXED_POSITIONS * hidden_size if self.experts else 0


def _layers(layout: Layout, architecture: Architecture) -> list[_Layer]:
    layers: dict[str, list[Matrix]] = {}
    for name, placed in layout.weights.items():
        if isinstance(placed.weight, Matrix) and name.startswith("layers."):
            layers.setdefault(name.split(".")[1], []).append(placed.weight)
    found, mixture = [], architecture.mixture
    for matrices in layers.values():
        experts = _count([matrix for matrix in matrices if matrix.stack is not None])
        chosen = experts * mixture.chosen // mixture.experts if mixture else 0
        found.append(_Layer([matrix for matrix in matrices if matrix.stack is None], experts, chosen))
    return found


def _calibration(checkpoint: Checkpoint, recipe: Recipe, layers: Sequence[_Layer]) -> _Calibration:
    costs = [_Calibration()]
    if recipe.calibrated:
        costs.append(_walk(checkpoint, recipe, layers))
    if recipe.budgeted:
        costs.append(_comparison(checkpoint, layers))
    return _Calibration(
        max(cost.memory_bytes for cost in costs),
        max(cost.disk_bytes for cost in costs),
        sum(cost.time_s for cost in costs),
    )


def _comparison(checkpoint: Checkpoint, layers: Sequence[_Layer]) -> _Calibration:
    """To try every matrix at 4 bits: each has a way of its own from its layer on, through half of all on average."""
    tokens, largest = tokens_wanted(checkpoint.vocab_size), max(layer.elements for layer in layers)
    tried = [sum(not matrix.exact for matrix in layer.matrices) for layer in layers]
    ways = 2 + sum(tried)
    states = 4 * ways * tokens * checkpoint.hidden_size
    rows = min(checkpoint.vocab_size, OUTPUT_ELEMENTS // checkpoint.hidden_size)
    output = COMPARED_BYTES_PER_PARAMETER * rows * checkpoint.hidden_size + COMPARED_BYTES_PER_LOGIT * tokens * rows
    opened = max(_opened_bytes(layer, checkpoint) for layer in layers)
    time_s = sum(layer.reading_s(tokens * (ways / 2 + 2 * count)) for layer, count in zip(layers, tried, strict=True))
    return _Calibration(states + max(opened, output), 5 * largest, time_s)


def _opened_bytes(layer: _Layer, checkpoint: Checkpoint) -> float:
    return LAYER_BYTES_PER_PARAMETER * layer.elements + layer.mixing_bytes(checkpoint.hidden_size)


def _count(matrices: Sequence[Matrix]) -> int:
    """Their elements."""
    return sum(matrix.rows * matrix.width for matrix in matrices)


def _walk(checkpoint: Checkpoint, recipe: Recipe, layers: Sequence[_Layer]) -> _Calibration:
    """To see the inputs of all matrices, and to round with feedback."""
    states = 4 * BUDGET_TOKENS * checkpoint.hidden_size
    memory = max(_opened_bytes(layer, checkpoint) for layer in layers)
    time_s = sum(layer.reading_s(BUDGET_TOKENS) for layer in layers)
    if recipe.method in (None, "feedback"):
        memory = max(_feedback_bytes(layer, _opened_bytes(layer, checkpoint)) for layer in layers)
        every = [matrix for layer in layers for matrix in layer.matrices]
        time_s += sum(_count([each]) * FEEDBACK_S_PER_INPUT * max(_gram_widths(each)) for each in every)
    return _Calibration(states + memory, 2 * states + 4 * max(layer.elements for layer in layers), time_s)


def _feedback_bytes(layer: _Layer, opened_bytes: float) -> float:
    """What is measured of a layer's inputs while it is opened, or while the largest of it becomes a factor."""
    widths = [width for matrix in layer.matrices for width in _gram_widths(matrix)]
    return sum(4 * width**2 for width in widths) + max(opened_bytes, FACTOR_BYTES_PER_ELEMENT * max(widths) ** 2)


def _gram_widths(matrix: Matrix) -> list[int]:
    return [part.stop - part.start for part in gram_parts(matrix.width)]


def builder_bytes_per_parameter(recipe: Recipe) -> float:
    """What the builder holds at its peak for each parameter."""
    amount = BUILDER_BYTES_PER_PARAMETER[recipe.precision]
    if recipe.precision.quantized and recipe.method == "k_quant":
        return amount + K_QUANT_BYTES_PER_PARAMETER
    if recipe.precision is Precision.INT4 and not recipe.symmetric:
        return amount + ZERO_POINT_BYTES_PER_PARAMETER
    return amount


def model_bytes(checkpoint: Checkpoint, recipe: Recipe) -> int:
    """model.onnx and model.onnx.data as the builder writes them."""
    table = (checkpoint.vocab_size, checkpoint.hidden_size)
    matrices, vectors = _shapes(checkpoint)
    stored = sum(rows * row_bytes(width, recipe) for rows, width in [*matrices, table])
    if not (shares_embedding(checkpoint, recipe) or (checkpoint.tied_embeddings and not recipe.precision.quantized)):
        # The lookup has a table of its own, which is never quantized.
        stored += table[0] * (4 * table[1] if recipe.precision.quantized else row_bytes(table[1], recipe))
    rotary = checkpoint.context_tokens * checkpoint.head_size
    graph = GRAPH_BYTES + GRAPH_BYTES_PER_LAYER * checkpoint.layers
    return stored + 4 * (vectors + rotary) + graph


def _shapes(checkpoint: Checkpoint) -> tuple[list[tuple[int, int]], int]:
    """Rows and width of each matrix but embedding and output layer, and the elements in vectors.

    Pickle files do not tell their shapes: then all matrices count as one of the model's width.
    """
    hidden, table = checkpoint.hidden_size, (checkpoint.vocab_size, checkpoint.hidden_size)
    shapes = [tensor.shape for tensor in checkpoint.tensors.values()]
    if shapes:
        matrices = [(shape[0], shape[1]) for shape in shapes if len(shape) == 2 and shape != table]
        return matrices, sum(shape[0] for shape in shapes if len(shape) == 1)
    vectors = (2 * checkpoint.layers + 1) * hidden
    tables = table[0] * table[1] * (1 if checkpoint.tied_embeddings else 2)
    return [((checkpoint.parameters - vectors - tables) // hidden, hidden)], vectors


def row_bytes(width: int, recipe: Recipe) -> int:
    """Bytes for one row of a matrix: whole blocks, an FP32 scale for each, zero points as narrow as the weights."""
    bits = recipe.precision.bits
    if not recipe.precision.quantized:
        return width * bits // 8
    blocks = -(-width // recipe.block_size)
    zero_points = -(-blocks * bits // 8) if has_zero_points(recipe) else 0
    return blocks * (recipe.block_size * bits // 8 + 4) + zero_points


def cache_bytes(checkpoint: Checkpoint) -> int:
    """Keys and values of CONTEXT_TOKENS tokens, or as many as the model takes, in FP32."""
    return 2 * 4 * checkpoint.layers * checkpoint.kv_heads * checkpoint.head_size * _tokens(checkpoint)


def _tokens(checkpoint: Checkpoint) -> int:
    return min(CONTEXT_TOKENS, checkpoint.context_tokens)


def check_resources(prediction: Prediction, machine: Machine, free_disk_bytes: int) -> None:
    """Raises MemoryShort or DiskShort, naming what is needed and what is there, if the build will not fit."""
    if prediction.build_peak_memory_bytes > machine.memory_available_bytes:
        raise MemoryShort(
            f"the build needs about {_gb(prediction.build_peak_memory_bytes)} of memory and "
            f"{_gb(machine.memory_available_bytes)} of {_gb(machine.memory_total_bytes)} are available",
            hint="Close other programs or use a larger machine; --force-resources tries all the same.",
        )
    if prediction.disk_bytes > free_disk_bytes:
        raise DiskShort(
            f"the build needs about {_gb(prediction.disk_bytes)} of disk and {_gb(free_disk_bytes)} are free",
            hint="Free some space or set EDGESHIP_HOME to a larger disk; --force-resources tries all the same.",
        )


def _gb(amount: int) -> str:
    return f"{amount / 1e9:.2f} GB" if amount >= 1e8 else f"{amount / 1e6:.1f} MB"
