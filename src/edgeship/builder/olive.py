"""The real Olive, run in an environment of its own: what it can be asked for, its failures, proof that it worked.

Olive's ModelBuilder pass runs onnxruntime-genai's builder, in a version older than the one beside us. The environment
lies in the folder `tools` beside the builds.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeship.builder import genai, olive_env, onnx_model, predict
from edgeship.builder.olive_worker import PEAK
from edgeship.builder.planning import Job, Task
from edgeship.checkpoint.adapter_fit import check_fits
from edgeship.checkpoint.families import BY_OLIVE
from edgeship.errors import ArchitectureUnknown, BuilderFailed, CheckpointInvalid
from edgeship.progress import Progress
from edgeship.recipe import Precision, Recipe, olive
from edgeship.system import child, telemetry
from edgeship.system.storage import rename, write_file

if TYPE_CHECKING:
    from edgeship.checkpoint import Checkpoint

QUANTIZING_BYTES_PER_PARAMETER = 1.1
"""What quantizing takes beyond what the builder of today takes; measured on 494 M parameters."""

WORKER = Path(__file__).with_name("olive_worker.py")
_ENVIRONMENT = telemetry.OFF | {
    # Olive sends one message before it looks at its own switch, but none where it takes itself to be in a pipeline.
    "CI": "1",
    "OLIVE_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
# What Olive writes beside the model about its own run; it names folders of this machine.
_RECORDS = ("config.json", "footprint.json", "model_config.json", "output_footprint.json", "run_history.txt")
_STAGES = {
    "Running pass merge": ("convert: merging the adapter", 0.1),
    "Running pass builder": ("convert: reading the weights", 0.2),
    "Saving ONNX model": ("convert: writing the model", 0.7),
}
_LAYER = re.compile(r"Reading layer (\d+)")
_FAULT = re.compile(r"^\s*[\w.]*(Error|Exception|Interrupt)\b")
_LOOK_INTO_LOG = "The file named here holds all that Olive said; the other builders need no Olive."


class OliveBuilder:
    """The Builder that stands on Olive; its steps: convert (an adapter is merged in it) and halve (FP16 only)."""

    name = "olive"

    def predict(self, checkpoint: Checkpoint, recipe: Recipe) -> predict.Prediction:
        """What the build will cost. Olive leaves an embedding in FP32 and beside the output layer, even a tied one.

        Raises ArchitectureUnknown, CheckpointInvalid, AdapterInvalid, PrecisionUnsupported, RecipeInvalid.
        """
        olive.require_expressible(_asked(recipe))
        if checkpoint.architecture not in BY_OLIVE:
            raise ArchitectureUnknown(
                f"Olive cannot be relied on for {checkpoint.architecture}",
                where=str(checkpoint.folder / "config.json"),
                hint=f"Leave --builder out, or use one of these: {', '.join(BY_OLIVE)}.",
            )
        if checkpoint.renamed or checkpoint.quantized is not None:
            fault = "whose names are not as transformers saves them" if checkpoint.renamed else "which are quantized"
            raise CheckpointInvalid(
                f"Olive would not find the weights, {fault}",
                where=str(checkpoint.folder),
                hint="Leave --builder out.",
            )
        if checkpoint.adapter is not None and checkpoint.tensors:
            # peft leaves out what finds no place, and only prints it.
            check_fits(checkpoint.adapter, {name: tensor.shape for name, tensor in checkpoint.tensors.items()})
        prediction = genai.GenaiBuilder().predict(replace(checkpoint, tied_embeddings=False), recipe)
        more = int(QUANTIZING_BYTES_PER_PARAMETER * checkpoint.parameters) if recipe.precision.quantized else 0
        return replace(
            prediction,
            build_peak_memory_bytes=prediction.build_peak_memory_bytes + more,
            # Its cache holds the model until it is copied out.
            disk_bytes=prediction.disk_bytes + prediction.size_bytes,
        )

    def tasks(self, checkpoint: Checkpoint, recipe: Recipe) -> tuple[Task, ...]:
        """The steps, first to last."""
        tasks = [_convert_task(checkpoint, _asked(recipe))]
        if recipe.precision is Precision.FP16:
            tasks.append(genai.halve_task())
        return tuple(tasks)


def _asked(recipe: Recipe) -> Recipe:
    """What Olive is asked for: FP16 is made from its FP32."""
    return recipe.model_copy(update={"precision": Precision.FP32}) if recipe.precision is Precision.FP16 else recipe


def _convert_task(checkpoint: Checkpoint, recipe: Recipe) -> Task:
    def make(job: Job) -> int:
        python = olive_env.ensure(job.folder.parent.parent / "tools", job.log, job.progress)
        return convert(job, python, checkpoint, recipe)

    blocks = f", blocks of {recipe.block_size}" if recipe.precision.quantized else ""
    return Task(
        "convert",
        f"by Olive to ONNX in {recipe.precision.value.upper()}{blocks}",
        {"builder": "olive", "workflow": olive.render(recipe, "", "" if checkpoint.adapter else None, "")},
        olive_env.pinned(),
        make,
    )


def convert(job: Job, python: Path, checkpoint: Checkpoint, recipe: Recipe) -> int:
    """Runs Olive from `job.source` into `job.folder`; its peak memory in bytes. Raises BuilderFailed.

    python: the interpreter of Olive's environment.
    """
    scratch = job.folder / ".scratch"
    (scratch / "work").mkdir(parents=True)
    output, workflow = scratch / "output", scratch / "workflow.json"
    adapter = checkpoint.adapter.folder.absolute() if checkpoint.adapter else None
    # A cache of its own for each build: Olive's cache key leaves out the versions of its tools.
    text = olive.render(recipe, job.source.absolute(), adapter, output, scratch / "cache")
    write_file(workflow, text)
    lines: list[str] = []
    try:
        with job.log.open("w", encoding="utf-8") as kept:

            def heard(line: str) -> None:
                kept.write(line + "\n")
                lines.append(line)
                _tell(line, checkpoint.layers, job.progress)

            olive_env.run(
                python,
                [str(WORKER), str(workflow), str(output)],
                heard=heard,
                environment=_ENVIRONMENT | {"HF_HOME": str(scratch / "hub"), "XDG_CACHE_HOME": str(scratch / "xdg")},
                folder=scratch / "work",
            )
    except child.Died as death:
        raise death.as_error(
            BuilderFailed, "Olive", where=str(job.log), hint=_LOOK_INTO_LOG, said=_fault(lines)
        ) from death
    _bring(output, job.folder)
    shutil.rmtree(scratch, ignore_errors=True)
    fault = onnx_model.find_fault(job.folder)
    if fault is not None:
        raise BuilderFailed(
            f"Olive claimed success, but {fault}; it said: {_fault(lines) or 'nothing of a fault'}",
            where=str(job.log),
            hint=_LOOK_INTO_LOG,
        )
    return next((int(line.removeprefix(PEAK)) for line in lines if line.startswith(PEAK)), 0)


def _bring(output: Path, folder: Path) -> None:
    """Moves the model and what lies beside it; nothing where there is no model."""
    model = next(iter(sorted(output.rglob("model.onnx"))), None)
    for path in model.parent.iterdir() if model else ():
        if path.is_file() and path.name not in _RECORDS:
            rename(path, folder / path.name)


def _fault(lines: list[str]) -> str | None:
    """The last line that names an exception; else what Olive says of a model that did not come about."""
    named = [line.strip() for line in lines if _FAULT.match(line)]
    if named:
        return named[-1]
    return next(
        (line.rpartition("] ")[2] for line in reversed(lines) if "[WARNING]" in line or "[ERROR]" in line), None
    )


def _tell(line: str, layers: int, progress: Progress) -> None:
    layer = _LAYER.match(line)
    if layer:
        done = int(layer[1]) + 1
        progress(f"convert: layer {done} of {layers}", min(1.0, 0.2 + 0.5 * done / max(1, layers)))
    for start, told in _STAGES.items():
        if start in line:
            progress(*told)
