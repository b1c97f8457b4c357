"""onnxruntime-genai's builder, driven in a child process: architectures, options, progress, proof that it worked."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from edgeship.builder import onnx_model, predict, stream
from edgeship.builder.genai_options import builder_options, check_blocks
from edgeship.builder.planning import Job, Task, tool_versions
from edgeship.checkpoint import require_readable_weights
from edgeship.checkpoint.families import BY_GENAI, FAMILIES
from edgeship.errors import ArchitectureUnknown, BuilderFailed, PrecisionUnsupported
from edgeship.progress import Progress
from edgeship.recipe import Precision, Recipe
from edgeship.system import child

if TYPE_CHECKING:
    from edgeship.checkpoint import Checkpoint

TOOLS = ("onnxruntime-genai", "onnxruntime", "onnx", "onnx-ir", "transformers", "torch")
_LAYER = re.compile(r"Reading layer (\d+)")
LOOK_INTO_LOG = "The file named here holds all that the builder said; `edgeship doctor` checks the versions."


class GenaiBuilder:
    """The Builder that stands on onnxruntime-genai; its steps: merge (an adapter), convert, halve (FP16 only)."""

    name = "genai"

    def predict(self, checkpoint: Checkpoint, recipe: Recipe) -> predict.Prediction:
        """What the build will cost.

        Raises ArchitectureUnknown, CheckpointInvalid for a quantized form that is not read, PrecisionUnsupported.
        """
        if checkpoint.architecture not in BY_GENAI:
            raise _unknown(checkpoint)
        require_readable_weights(checkpoint)
        if recipe.budgeted:
            raise PrecisionUnsupported(
                "onnxruntime-genai's builder gives all matrices 4 bits",
                where=str(checkpoint.folder),
                hint="Leave --bits or --escalate out; the recipe int4-fast has no budget of bits, and int8 keeps more.",
            )
        check_blocks(checkpoint, recipe)
        return predict.predict(checkpoint, recipe)

    def tasks(self, checkpoint: Checkpoint, recipe: Recipe) -> tuple[Task, ...]:
        """The steps, first to last."""
        tasks = []
        if checkpoint.adapter is not None or checkpoint.renamed or checkpoint.quantized is not None:
            tasks.append(_merge_task(checkpoint, recipe))
        tasks.append(_convert_task(checkpoint, recipe))
        if recipe.precision is Precision.FP16:
            tasks.append(halve_task())
        return tuple(tasks)


def _unknown(checkpoint: Checkpoint) -> ArchitectureUnknown:
    """Names who does know the architecture, where somebody does."""
    name = checkpoint.architecture
    streamed = name in FAMILIES
    return ArchitectureUnknown(
        f"onnxruntime-genai's builder cannot be relied on for {name}"
        if streamed
        else f"no builder here knows the architecture {name}",
        where=str(checkpoint.folder / "config.json"),
        hint=f"Leave --builder out, or use one of these: {', '.join(BY_GENAI)}."
        if streamed
        else f"Known: {', '.join(FAMILIES)}.",
    )


def _merge_task(checkpoint: Checkpoint, recipe: Recipe) -> Task:
    def make(job: Job) -> int:
        # In a process whose numpy has one thread: with more, some sums are rounded otherwise.
        return stream.work("merge", checkpoint, recipe, job)

    read = "the weights, dequantized" if checkpoint.quantized else "the weights under their usual names"
    what = "the adapter into its base" if checkpoint.adapter else read
    return Task("merge", f"{what}, in FP32", {}, tool_versions("numpy"), make)


def _convert_task(checkpoint: Checkpoint, recipe: Recipe) -> Task:
    precision = Precision.FP32 if recipe.precision is Precision.FP16 else recipe.precision
    options = builder_options(checkpoint, recipe)

    def make(job: Job) -> int:
        return convert(job, precision.value, options, checkpoint.layers)

    detail = f"to ONNX in {precision.value.upper()}" + (
        f", blocks of {recipe.block_size}" if precision.quantized else ""
    )
    return Task(
        "convert",
        detail,
        {"precision": precision.value, "options": sorted(options)},
        tool_versions(*TOOLS, extra="original"),
        make,
    )


def halve_task() -> Task:
    """FP16 from a step that left FP32; no builder here makes it by itself for a CPU."""

    def make(job: Job) -> int:
        onnx_model.halve(job.source, job.folder, job.progress)
        _require_answers(job.folder)
        return 0

    return Task("halve", "weights stored in FP16", {}, tool_versions("onnx-ir", "numpy"), make)


def _require_answers(folder: Path) -> None:
    """Has a finished model answer one token in a child process. Raises BuilderFailed, MemoryShort."""
    try:
        child.run("edgeship.builder.genai_worker", {"answers": str(folder)})
    except child.Died as death:
        raise death.as_error(BuilderFailed, "the first run of what was built", where=str(folder)) from death


def convert(job: Job, precision: str, options: list[str], layers: int) -> int:
    """Runs the builder from `job.source` into `job.folder`; its peak memory in bytes.

    Raises BuilderFailed, MemoryShort.
    """
    scratch = job.folder / ".scratch"
    scratch.mkdir()
    request = {
        "input": str(job.source),
        "output": str(job.folder),
        "scratch": str(scratch),
        "precision": precision,
        "options": options,
        "log": str(job.log),
    }
    try:
        with job.log.open("w", encoding="utf-8") as kept:

            def heard(line: str) -> None:
                kept.write(line + "\n")
                _tell(line, layers, job.progress)

            result = child.run("edgeship.builder.genai_worker", request, heard=heard)
    except child.Died as death:
        raise death.as_error(
            BuilderFailed, "onnxruntime-genai's builder", where=str(job.log), hint=LOOK_INTO_LOG
        ) from death
    shutil.rmtree(scratch, ignore_errors=True)
    fault = onnx_model.find_fault(job.folder)
    if fault is not None:
        raise BuilderFailed(
            f"onnxruntime-genai's builder claimed success, but {fault}", where=str(job.log), hint=LOOK_INTO_LOG
        )
    return int(result["peak_memory_bytes"])


def _tell(line: str, layers: int, progress: Progress) -> None:
    """Reading weights is most of the first three quarters; quantizing and writing the rest."""
    layer = _LAYER.match(line)
    if layer:
        done = int(layer[1]) + 1
        progress(f"convert: layer {done} of {layers}", min(1.0, 0.1 + 0.6 * done / max(1, layers)))
    elif line.startswith("Saving ONNX model"):
        progress("convert: writing the model", 0.75)
