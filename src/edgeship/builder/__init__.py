"""A checkpoint and a recipe become an ONNX model: `plan` tells how, `carry_out` does it, BUILDERS names by whom."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgeship.builder import calibration_texts, garbage
from edgeship.builder import steps as steps_on_disk
from edgeship.builder.genai import GenaiBuilder
from edgeship.builder.olive import OliveBuilder
from edgeship.builder.planning import Plan, Step, Task, make_steps
from edgeship.builder.predict import Prediction, check_resources
from edgeship.builder.stream import NOT_WEIGHED, StreamBuilder, of_quantized, weighs_matrices
from edgeship.errors import EdgeshipError, RecipeInvalid
from edgeship.progress import Progress, silent
from edgeship.recipe import Recipe
from edgeship.settings import Settings
from edgeship.system import machine
from edgeship.system.storage import FileDigest

if TYPE_CHECKING:
    from edgeship.checkpoint import Checkpoint

__all__ = ["BUILDERS", "Build", "Builder", "Plan", "Prediction", "Step", "build", "carry_out", "plan", "prediction"]


@dataclass(frozen=True)
class Build:
    """A finished build.

    folder: model.onnx, model.onnx.data, genai_config.json, the tokenizer's files, and step.json (ours).
    tools: versions of what made it. files: digests of all but step.json.
    wall_s, peak_memory_bytes: what its steps cost when they ran, which may be long ago; memory is that of the child
    process that converted.
    """

    folder: Path
    recipe: Recipe
    key: str
    builder: str
    tools: dict[str, str]
    files: Mapping[str, FileDigest]
    wall_s: float
    peak_memory_bytes: int

    @property
    def size_bytes(self) -> int:
        """model.onnx and its data."""
        return sum((self.folder / name).stat().st_size for name in ("model.onnx", "model.onnx.data"))


class Builder(Protocol):
    """Turns a checkpoint into ONNX by a chain of tasks; caching, locks and resuming are not its business."""

    name: str

    def predict(self, checkpoint: Checkpoint, recipe: Recipe) -> Prediction:
        """What it will cost. Raises where this builder cannot honour the recipe for this checkpoint."""
        ...

    def tasks(self, checkpoint: Checkpoint, recipe: Recipe) -> tuple[Task, ...]:
        """What to do, each task on the result of the one before."""
        ...


BUILDERS: dict[str, Builder] = {"stream": StreamBuilder(), "genai": GenaiBuilder(), "olive": OliveBuilder()}
AUTO = "auto"


def prediction(checkpoint: Checkpoint, recipe: Recipe) -> tuple[Recipe, Prediction]:
    """The recipe with its builder, and what that will cost; unlike for a plan's keys, no weights are read.

    Raises ArchitectureUnknown, CheckpointInvalid, RecipeInvalid, PrecisionUnsupported.
    """
    recipe, _ = _choose_builder(checkpoint, recipe)
    return recipe, BUILDERS[recipe.builder].predict(checkpoint, recipe)


def plan(checkpoint: Checkpoint, recipe: Recipe, settings: Settings) -> Plan:
    """The steps of a build and what it will cost; changes nothing.

    Raises what `prediction` raises, CalibrationInvalid and DependencyMissing.
    """
    recipe, notes = _choose_builder(checkpoint, recipe)
    builder = BUILDERS[recipe.builder]
    cost = builder.predict(checkpoint, recipe)
    notes += _of_texts(checkpoint, recipe)
    if recipe.builder == "stream":
        notes += of_quantized(checkpoint, recipe)
    tasks = builder.tasks(checkpoint, recipe)
    steps = make_steps(tasks, checkpoint.digest, settings.builds_dir, steps_on_disk.looks_done)
    return Plan(checkpoint, recipe, tasks, steps, cost, notes)


def build(
    checkpoint: Checkpoint,
    recipe: Recipe,
    settings: Settings,
    progress: Progress = silent,
    *,
    force_resources: bool = False,
    wait_s: float = steps_on_disk.LOCK_WAIT_S,
) -> Build:
    """The build, made now or taken from earlier. Raises what `plan` and `carry_out` raise."""
    planned = plan(checkpoint, recipe, settings)
    return carry_out(planned, settings, progress, force_resources=force_resources, wait_s=wait_s)


def carry_out(
    planned: Plan,
    settings: Settings,
    progress: Progress = silent,
    *,
    force_resources: bool = False,
    wait_s: float = steps_on_disk.LOCK_WAIT_S,
) -> Build:
    """The build that was planned, made now or taken from earlier.

    `wait_s`: how long to wait for another process that makes the same.
    Raises MemoryShort and DiskShort before any work; WeightsDamaged, AdapterInvalid, BuilderFailed,
    PrecisionUnsupported, CacheBusy, NotWritable.
    """
    from edgeship.checkpoint import scan_weights

    checkpoint, recipe = planned.checkpoint, planned.recipe
    if not steps_on_disk.looks_done(planned.steps[-1].folder):
        if not force_resources:
            here = machine.this_machine(settings.memory_bytes)
            check_resources(planned.prediction, here, machine.free_disk_bytes(settings.builds_dir))
        if recipe.builder != "stream":  # which looks at every weight as it reads it
            scan_weights(checkpoint, progress)
    result = steps_on_disk.run_all(
        planned.tasks, planned.steps, checkpoint, settings.builds_dir, progress, wait_s=wait_s
    )
    with contextlib.suppress(EdgeshipError, OSError):  # the build is there, whatever becomes of old ones
        garbage.keep_limit(settings.builds_dir, settings.builds_limit_bytes)
    return Build(
        folder=result.folder,
        recipe=recipe,
        key=result.record.key,
        builder=recipe.builder,
        tools=result.record.tools,
        files=result.record.files,
        wall_s=result.record.wall_s,
        peak_memory_bytes=result.record.peak_memory_bytes,
    )


def _choose_builder(checkpoint: Checkpoint, recipe: Recipe) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe with its builder and that builder's default method, and in words why it is not the default builder.

    Raises RecipeInvalid for a builder that nobody knows.
    """
    notes = checkpoint.notes
    if recipe.builder == AUTO:
        reason = _why_not_stream(checkpoint, recipe)
        notes += (f"{reason}, so onnxruntime-genai's builder converts it",) if reason else ()
        recipe = recipe.model_copy(update={"builder": "genai" if reason else "stream"})
    if recipe.builder not in BUILDERS:
        raise RecipeInvalid(
            f"no builder is called {recipe.builder!r}", hint=f"Builders: {AUTO}, {', '.join(BUILDERS)}."
        )
    if recipe.tolerance is not None and (reason := _why_alike(checkpoint, recipe)):
        recipe = recipe.model_copy(update={"bits": None, "tolerance": None})
        notes += (f"all matrices get 4 bits alike, since {reason}",)
    best = "feedback" if recipe.calibrated else "search"
    method = recipe.method or (best if recipe.builder == "stream" else "rtn")
    return recipe.model_copy(update={"method": method}), notes


def _why_alike(checkpoint: Checkpoint, recipe: Recipe) -> str | None:
    """Why no matrix can get more bits than others; None where they can."""
    if recipe.builder != "stream":
        return "only the streaming builder finds those that need more"
    return NOT_WEIGHED if recipe.budgeted and not weighs_matrices(checkpoint) else None


def _of_texts(checkpoint: Checkpoint, recipe: Recipe) -> tuple[str, ...]:
    """What the user should know of the calibration texts. Raises CalibrationInvalid."""
    if recipe.calibration is None or not recipe.precision.quantized:
        return ()
    if recipe.builder != "stream":
        return (f"the builder {recipe.builder} reads no calibration texts",)
    remark = calibration_texts.remark(recipe.calibration, checkpoint)
    return (remark,) if remark else ()


def _why_not_stream(checkpoint: Checkpoint, recipe: Recipe) -> str | None:
    if recipe.method == "k_quant" and recipe.precision.quantized:
        return "k_quant is asked for"
    if checkpoint.pickle:
        return "the weights are pickles"
    if not checkpoint.streamed:
        return f"{checkpoint.architecture} is not among the streaming builder's families"
    return None
