"""The child process of the streaming builder: calibrates, or writes a model and proves that it opens."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeship.builder import data_file, graph, nodes, onnx_model, stream
from edgeship.builder.calibrate import Feedback, energies
from edgeship.builder.calibration_texts import default_sequences, read_sequences
from edgeship.builder.processes import Helpers, Meter
from edgeship.builder.recurrence import LAYER_TYPES
from edgeship.builder.sensitivities import cut_texts, measure_sensitivities, tokens_wanted
from edgeship.builder.walk import Walk
from edgeship.builder.weights import merge
from edgeship.errors import BuilderFailed, CalibrationInvalid
from edgeship.package import genai_config
from edgeship.progress import Progress
from edgeship.recipe import Recipe
from edgeship.system import memory, worker
from edgeship.system.json_file import write_object
from edgeship.system.machine import usable_cores
from edgeship.system.storage import disk_errors

if TYPE_CHECKING:
    from edgeship.builder.architecture import Architecture
    from edgeship.checkpoint import Checkpoint

PARAMETERS_PER_SHARE = 50_000_000
"""A process more takes half a second to start."""
SENSITIVITIES, IMPORTANCE = "sensitivities.json", "importance.npz"
SCRATCH = ".scratch"
"""Beside what is made: where a walk keeps what it needs."""


def work(job: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Job: step ("merge", "calibrate", "stream", or a "share" of it), checkpoint, allow_pickle, adapter, chat_template,
    recipe, digest (the checkpoint's), texts (the digest of the recipe's, None for built-in ones), source, folder,
    share.
    """
    from edgeship.checkpoint import open_checkpoint

    adapter = Path(job["adapter"]) if job["adapter"] else None
    opened = open_checkpoint(job["checkpoint"], adapter=adapter, allow_pickle=job["allow_pickle"])
    checkpoint = replace(opened, chat_template=job["chat_template"])
    recipe, folder = Recipe.model_validate(job["recipe"]), Path(job["folder"])
    peak = 0
    with disk_errors(folder.parent, "set EDGESHIP_HOME to a larger disk; then run the same command again."):
        if job["step"] == "merge":
            merge(checkpoint, folder, progress)
        elif job["step"] == stream.CALIBRATE:
            calibrate(checkpoint, recipe, job, progress)
        elif job["step"] == "share":
            convert_share(checkpoint, recipe, job, progress)
        else:
            peak = convert(checkpoint, recipe, job, progress)
    return {"peak_memory_bytes": peak or memory.peak_memory_bytes()}


def calibrate(checkpoint: Checkpoint, recipe: Recipe, job: dict[str, Any], progress: Progress) -> None:
    """Writes what the user's texts say of errors (IMPORTANCE), and each matrix's need of bits (SENSITIVITIES)."""
    import numpy as np

    architecture, weights, layout = stream.design(checkpoint, recipe)
    folder, where, digest = Path(job["folder"]), str(checkpoint.folder), job["digest"]
    scratch = folder / SCRATCH
    scratch.mkdir()
    importance, sensitivities = {}, {}
    sequences = _sequences(checkpoint, recipe, job)
    few = cut_texts(sequences, tokens_wanted(architecture.sizes.vocab_size))

    def walk(texts: Sequence[Sequence[int]]) -> Walk:
        return Walk(architecture, weights, where, digest, texts, scratch, lambda message: progress(message, None))

    if recipe.calibrated:
        # Error feedback looks at all texts by itself, later.
        importance = energies(walk(few if recipe.method == "feedback" else sequences))
    if recipe.budgeted:
        sensitivities = measure_sensitivities(walk(few), recipe, importance, progress, stream.kept(layout))
    shutil.rmtree(scratch)
    arrays: dict[str, Any] = dict(importance)
    np.savez(folder / IMPORTANCE, **arrays)
    write_object(folder / SENSITIVITIES, sensitivities)


def _sequences(checkpoint: Checkpoint, recipe: Recipe, job: dict[str, Any]) -> list[list[int]]:
    """The texts that the recipe names, or the built-in ones. Raises CalibrationInvalid."""
    if recipe.calibration is None:
        return default_sequences(checkpoint)
    sequences = read_sequences(recipe.calibration, checkpoint)
    if recipe.to_key()["calibration"] != job["texts"]:
        raise CalibrationInvalid(
            "the calibration texts have changed since the build was planned",
            where=str(recipe.calibration),
            hint="Run the same command again.",
        )
    return sequences


def convert(checkpoint: Checkpoint, recipe: Recipe, job: dict[str, Any], progress: Progress) -> int:
    """Writes the model, with other processes at its side; the memory that all held for it. Raises BuilderFailed.

    The proof that it answers takes more where there is more, and is not counted.
    """
    folder = Path(job["folder"])
    importance, sensitivities = _read_calibration(Path(job["source"]), recipe)
    architecture, weights, layout = stream.design(checkpoint, recipe, sensitivities)
    meter = Meter(layout.size_bytes, progress)
    helpers = Helpers(job, _shares(recipe, checkpoint), meter)
    scratch = folder / SCRATCH
    guidance: data_file.Guidance = importance
    if recipe.method == "feedback" and recipe.calibrated:
        scratch.mkdir(exist_ok=True)
        texts, where = _sequences(checkpoint, recipe, job), str(checkpoint.folder)
        guidance = Feedback(Walk(architecture, weights, where, job["digest"], texts, scratch, meter.note))
    path = folder / nodes.DATA_NAME
    data_file.write(layout, weights, path, share=(0, helpers.count), guidance=guidance, tell=helpers.tell)
    shutil.rmtree(scratch, ignore_errors=True)
    peak = helpers.join()
    data_file.finish(layout, path)
    onnx_model.save(graph.author(architecture, layout, accuracy_level=recipe.accuracy_level), folder)
    write_object(folder / genai_config.FILE_NAME, _genai_config(architecture, checkpoint))
    fault = onnx_model.find_fault(folder)
    if fault is not None:
        raise BuilderFailed(f"the conversion left no usable model: {fault}", where=str(folder))
    peak += memory.peak_memory_bytes()
    onnx_model.require_answers(folder)
    return peak


def _genai_config(architecture: Architecture, checkpoint: Checkpoint) -> dict[str, Any]:
    """What the graph needs; packaging adds how the checkpoint wants to be sampled."""
    sizes, stop = architecture.sizes, checkpoint.stop
    made = genai_config.for_graph(
        architecture.traits.genai_type,
        context_tokens=sizes.context_tokens,
        vocab_size=sizes.vocab_size,
        hidden_size=sizes.hidden_size,
        layers=sizes.layers,
        heads=sizes.heads,
        kv_heads=sizes.kv_heads,
        head_size=sizes.head_size,
        layer_types=[] if len({layer.keys for layer in architecture.layers}) > 1 else None,
    )
    if architecture.recurrence is not None:
        name, *_ = LAYER_TYPES[architecture.recurrence.kind]
        kinds = ["full_attention" if layer.attends else name for layer in architecture.layers]
        made = genai_config.with_states(made, kinds, architecture.recurrence.states)
    return genai_config.with_tokens(made, bos_id=stop.bos_id, eos_ids=stop.eos_ids or (0,), pad_id=stop.pad_id)


def convert_share(checkpoint: Checkpoint, recipe: Recipe, job: dict[str, Any], progress: Progress) -> None:
    """Writes the pieces of one share of the data file. Progress goes up to what part of the file they are."""
    importance, sensitivities = _read_calibration(Path(job["source"]), recipe)
    _, weights, layout = stream.design(checkpoint, recipe, sensitivities)

    def tell(written: int) -> None:
        progress("", written / layout.size_bytes)

    path = Path(job["folder"]) / nodes.DATA_NAME
    data_file.write(layout, weights, path, share=tuple(job["share"]), guidance=importance, tell=tell)


def _shares(recipe: Recipe, checkpoint: Checkpoint) -> int:
    """Processes that write. Feedback needs what is measured as it goes, and its work is done by numpy's own threads."""
    if recipe.method == "feedback":
        return 1
    return max(1, min(usable_cores(), checkpoint.parameters // PARAMETERS_PER_SHARE))


def _read_calibration(folder: Path, recipe: Recipe) -> tuple[dict[str, Any], dict[str, float]]:
    """What `calibrate` left in `folder`, if the recipe has that step."""
    import numpy as np

    if not stream.measures_first(recipe):
        return {}, {}

    with np.load(folder / IMPORTANCE, allow_pickle=False) as arrays:
        importance = {name: arrays[name] for name in arrays.files}
    return importance, json.loads((folder / SENSITIVITIES).read_bytes())


if __name__ == "__main__":
    worker.serve(work)
