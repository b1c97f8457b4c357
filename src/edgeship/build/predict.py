"""What a build will cost and what its result will need: sizes from the model's shape, memory from measurements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeship.errors import DiskShort, MemoryShort
from edgeship.machine import Machine
from edgeship.recipe import Precision, Recipe

if TYPE_CHECKING:
    from edgeship.checkpoint import Checkpoint

CONTEXT_TOKENS = 2048
"""The context for which running memory is stated."""

GRAPH_BYTES = 6_000
GRAPH_BYTES_PER_LAYER = 6_500
TOKENIZER_BYTES_PER_ENTRY = 60
BUILDER_BYTES = 700_000_000
BUILDER_BYTES_PER_PARAMETER = 11.0
RUNTIME_BYTES = 150_000_000


@dataclass(frozen=True)
class Prediction:
    """Costs of one build.

    size_bytes: model.onnx and its data.
    disk_bytes: everything that the build writes, the results of its earlier steps included.
    run_memory_bytes: one engine with a context of CONTEXT_TOKENS.
    """

    size_bytes: int
    build_peak_memory_bytes: int
    disk_bytes: int
    run_memory_bytes: int


def predict(checkpoint: Checkpoint, recipe: Recipe) -> Prediction:
    """What onnxruntime-genai's builder will need for this checkpoint and make of it."""
    size = model_bytes(checkpoint, recipe)
    full = recipe.model_copy(update={"precision": Precision.FP32})
    tokenizer = TOKENIZER_BYTES_PER_ENTRY * checkpoint.vocab_size
    disk = size + tokenizer
    if recipe.precision is Precision.FP16:
        disk += model_bytes(checkpoint, full) + tokenizer
    if checkpoint.adapter is not None:
        disk += 4 * checkpoint.parameters + tokenizer
    # FP16 weights become FP32 when the model is opened.
    weights = size if recipe.precision is not Precision.FP16 else model_bytes(checkpoint, full)
    return Prediction(
        size_bytes=size,
        build_peak_memory_bytes=BUILDER_BYTES + int(BUILDER_BYTES_PER_PARAMETER * checkpoint.parameters),
        disk_bytes=disk,
        run_memory_bytes=weights + cache_bytes(checkpoint) + RUNTIME_BYTES,
    )


def model_bytes(checkpoint: Checkpoint, recipe: Recipe) -> int:
    """model.onnx and model.onnx.data as the builder writes them."""
    embedding = checkpoint.vocab_size * checkpoint.hidden_size
    vectors = (2 * checkpoint.layers + 1) * checkpoint.hidden_size
    matrices = checkpoint.parameters - vectors - embedding * (1 if checkpoint.tied_embeddings else 2)
    rotary = checkpoint.context_tokens * checkpoint.head_size
    full_width = vectors + rotary
    graph = GRAPH_BYTES + GRAPH_BYTES_PER_LAYER * checkpoint.layers
    if checkpoint.tied_embeddings:
        # INT8 cannot share the quantized matrix with the lookup, which keeps one in FP32 beside it.
        embedding_bytes = embedding * (4.0 if recipe.precision is Precision.INT8 else 0.0)
    else:
        embedding_bytes = embedding * (4.0 if recipe.precision.quantized else weight_bytes(recipe))
    stored = (matrices + embedding) * weight_bytes(recipe)
    return int(stored + embedding_bytes + 4 * full_width + graph)


def weight_bytes(recipe: Recipe) -> float:
    """Bytes for one weight of a matrix, its share of the block's scale and zero point included."""
    width = recipe.precision.bits / 8
    if not recipe.precision.quantized:
        return width
    zero_point = 0.0 if recipe.symmetric and recipe.method == "rtn" else width
    return width + (4 + zero_point) / recipe.block_size


def cache_bytes(checkpoint: Checkpoint) -> int:
    """Keys and values of CONTEXT_TOKENS tokens, or as many as the model takes, in FP32."""
    tokens = min(CONTEXT_TOKENS, checkpoint.context_tokens)
    return 2 * 4 * checkpoint.layers * checkpoint.kv_heads * checkpoint.head_size * tokens


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
