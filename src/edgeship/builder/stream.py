"""The default builder: a checkpoint becomes ONNX one tensor at a time, without PyTorch, in a child process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgeship.builder import beside, calibration_texts, predict
from edgeship.builder.allocation import allocate, keepable
from edgeship.builder.architecture import read_architecture
from edgeship.builder.layout import Layout, Matrix, lay_out
from edgeship.builder.listing import list_weights
from edgeship.builder.planning import Job, Task, tool_versions
from edgeship.builder.processes import ONE_NUMPY_THREAD, WORKER
from edgeship.builder.quantize import Scheme
from edgeship.builder.weights import open_weights
from edgeship.checkpoint import require_readable_weights
from edgeship.errors import BuilderFailed, PickleRefused, PrecisionUnsupported
from edgeship.recipe import Recipe
from edgeship.system import child

if TYPE_CHECKING:
    from edgeship.builder.architecture import Architecture
    from edgeship.builder.weights import Weights
    from edgeship.checkpoint import Checkpoint

FORMAT = 6
"""Raised when this builder makes something else of the same recipe."""
CALIBRATE = "calibrate"
NOT_WEIGHED = "what each matrix costs is not measured where layers look at the keys and values of others"
TOOLS = ("numpy", "onnx-ir", "onnxruntime")


class StreamBuilder:
    """The Builder that needs neither PyTorch nor transformers, nor more memory than a few chunks of weights."""

    name = "stream"

    def predict(self, checkpoint: Checkpoint, recipe: Recipe) -> predict.Prediction:
        """What the build will cost. Its size is exact but for the graph; where there is a budget, the most it can be.

        Raises ArchitectureUnknown, CheckpointInvalid, AdapterInvalid, PickleRefused, PrecisionUnsupported.
        """
        require_weights(checkpoint)
        if recipe.method == "k_quant" and recipe.precision.quantized:
            raise PrecisionUnsupported(
                "k_quant is a method of onnxruntime-genai's builder",
                hint="Leave --method out, or add --builder genai.",
            )
        architecture, _, layout = design(checkpoint, recipe)
        if recipe.budgeted and beside.is_needed(architecture):
            raise PrecisionUnsupported(
                f"{NOT_WEIGHED}, so there is no budget of bits to spend",
                hint="Take another recipe, such as -p int4 or -p int4-fast, and leave --bits and --budget out.",
            )
        return predict.predict_streaming(checkpoint, recipe, layout, architecture)

    def tasks(self, checkpoint: Checkpoint, recipe: Recipe) -> tuple[Task, ...]:
        """Calibration where the recipe needs it, and the conversion."""
        tasks = []
        if measures_first(recipe):
            tasks.append(_task(CALIBRATE, "what the weights' errors cost", checkpoint, recipe))
        blocks = f", blocks of {recipe.block_size}" if recipe.precision.quantized else ""
        detail = f"to ONNX in {recipe.precision.value.upper()}{blocks}"
        return (*tasks, _task("stream", detail, checkpoint, recipe, resumable=True))


def _task(name: str, detail: str, checkpoint: Checkpoint, recipe: Recipe, *, resumable: bool = False) -> Task:
    decides = _measured_by(recipe) if name == CALIBRATE else recipe.to_key()
    options: dict[str, Any] = {"format": FORMAT, "recipe": decides}
    if needs_calibration(recipe):
        options["texts"] = calibration_texts.built_in_digest()  # which follow a user's where those are few

    def make(job: Job) -> int:
        return work(name, checkpoint, recipe, job, texts=options["recipe"].get("calibration"))

    return Task(name, detail, options, tool_versions(*TOOLS), make, resumable)


def _measured_by(recipe: Recipe) -> dict[str, Any]:
    """What of a recipe decides what calibration measures: that there is a budget of bits, and not how large it is."""
    unused = {"bits", "tolerance", "accuracy_level", "builder", "provider"}
    decides = {name: value for name, value in recipe.to_key().items() if name not in unused}
    return decides | {"budget": recipe.budgeted}


def needs_calibration(recipe: Recipe) -> bool:
    """True for recipes whose weights are not stored by the weights alone."""
    return recipe.calibrated or recipe.budgeted


def measures_first(recipe: Recipe) -> bool:
    """True where calibration is a step of its own; error feedback takes what it needs from the texts as it goes."""
    return recipe.budgeted or (recipe.calibrated and recipe.method != "feedback")


def weighs_matrices(checkpoint: Checkpoint) -> bool:
    """Whether it can be measured what each matrix costs. Raises ArchitectureUnknown, CheckpointInvalid."""
    return not beside.is_needed(read_architecture(checkpoint))


def require_weights(checkpoint: Checkpoint) -> None:
    """Raises PickleRefused for weights in pickles, CheckpointInvalid for a quantized form that is not read."""
    if checkpoint.pickle:
        raise PickleRefused(
            "the streaming builder reads safetensors only",
            where=str(checkpoint.folder),
            hint="Save the checkpoint with save_pretrained, which writes safetensors, or add --builder genai.",
        )
    require_readable_weights(checkpoint)


def design(
    checkpoint: Checkpoint, recipe: Recipe, sensitivities: Mapping[str, float] | None = None
) -> tuple[Architecture, Weights, Layout]:
    """What will be built, from headers alone. Raises ArchitectureUnknown, CheckpointInvalid, AdapterInvalid."""
    weights = open_weights(checkpoint)
    architecture = read_architecture(checkpoint, tied=weights.tied)
    listed = list_weights(architecture, weights.shapes, str(checkpoint.folder))
    as_they_are = keepable(listed, weights.grids, recipe)
    return architecture, weights, lay_out(listed, allocate(listed, recipe, sensitivities, as_they_are))


def of_quantized(checkpoint: Checkpoint, recipe: Recipe) -> tuple[str, ...]:
    """What becomes of a quantized checkpoint's integers, in words."""
    if checkpoint.quantized is None:
        return ()
    _, _, layout = design(checkpoint, recipe)
    matrices = sum(isinstance(placed.weight, Matrix) for placed in layout)
    as_they_are = kept(layout)
    tensors = {part.tensor for name in as_they_are for part in layout.weights[name].weight.parts}
    scattered = len(checkpoint.quantized.scattered - tensors)
    if as_they_are:
        of_all = f"{len(as_they_are)} of {matrices} matrices"
        notes = [f"{of_all} keep the integers that they have, and the others are rounded"]
    elif recipe.precision.quantized:
        notes = ["the weights are dequantized and rounded once more"]
    else:
        notes = []
    if scattered and recipe.precision.bits == checkpoint.quantized.bits:
        notes.append(f"{scattered} tensors are rounded once more, since act-order left the columns of a group apart")
    return tuple(notes)


def kept(layout: Layout) -> list[str]:
    """The matrices that keep the integers that the checkpoint has."""
    return [
        name
        for name, placed in layout.weights.items()
        if isinstance(placed.storage, Scheme) and placed.storage.method == "kept"
    ]


def work(name: str, checkpoint: Checkpoint, recipe: Recipe, job: Job, *, texts: str | None = None) -> int:
    """One step in a child process, into `job.folder`; the child's peak memory in bytes.

    texts: the digest of the recipe's calibration texts when the step was planned.
    Raises what `check` raises, WeightsDamaged, CalibrationInvalid, BuilderFailed, MemoryShort.
    """
    request = {
        "step": name,
        "checkpoint": str(checkpoint.folder.absolute()),
        "allow_pickle": checkpoint.pickle,
        "adapter": str(checkpoint.adapter.folder.absolute()) if checkpoint.adapter else None,
        "chat_template": checkpoint.chat_template,
        "recipe": recipe.model_dump(mode="json"),
        "digest": checkpoint.digest,
        "texts": texts,
        "source": str(job.source),
        "folder": str(job.folder),
    }
    try:
        result = child.run(WORKER, request, progress=job.progress, environment=ONE_NUMPY_THREAD)
    except child.Died as death:
        raise death.as_error(
            BuilderFailed,
            "the conversion",
            where=str(checkpoint.folder),
            hint="Run the same command again.",
            if_killed="The same command goes on where it was.",
        ) from death
    return int(result["peak_memory_bytes"])
