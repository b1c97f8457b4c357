"""The child process of the streaming builder: calibrates, or writes a model and proves that it opens."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeship import child
from edgeship.build import data_file, graph, onnx_model, stream
from edgeship.build.calibrate import Feedback, Observer
from edgeship.build.calibration_texts import default_sequences, read_sequences
from edgeship.build.genai_config import genai_config
from edgeship.errors import BuilderFailed
from edgeship.machine import usable_cores
from edgeship.progress import Progress
from edgeship.recipe import Recipe
from edgeship.storage import disk_errors

if TYPE_CHECKING:
    from edgeship.build.families import Decoder
    from edgeship.build.weights import Weights
    from edgeship.checkpoint import Checkpoint

SENSITIVITIES, IMPORTANCE = "sensitivities.json", "importance.npz"


def work(job: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Job: step ("calibrate" or "stream"), checkpoint, adapter, chat_template, recipe, source, folder."""
    from edgeship.checkpoint import open_checkpoint

    adapter = Path(job["adapter"]) if job["adapter"] else None
    checkpoint = replace(open_checkpoint(job["checkpoint"], adapter=adapter), chat_template=job["chat_template"])
    recipe, folder = Recipe.model_validate(job["recipe"]), Path(job["folder"])
    with disk_errors(folder.parent, "set EDGESHIP_HOME to a larger disk; then run the same command again."):
        if job["step"] == "calibrate":
            calibrate(checkpoint, recipe, folder, progress)
        else:
            convert(checkpoint, recipe, Path(job["source"]), folder, progress)
    return {"peak_memory_bytes": child.peak_memory_bytes()}


def calibrate(checkpoint: Checkpoint, recipe: Recipe, folder: Path, progress: Progress) -> None:
    """Writes what the user's texts say of errors (IMPORTANCE), and each matrix's need of bits (SENSITIVITIES)."""
    import numpy as np

    decoder, weights, _ = stream.design(checkpoint, recipe)
    scratch = folder / ".scratch"
    scratch.mkdir()
    observer = Observer(decoder, weights, str(checkpoint.folder), scratch)
    importance, sensitivities = {}, {}
    if recipe.calibration is not None:
        sequences = read_sequences(recipe.calibration, checkpoint)
        importance = observer.energies(sequences, progress)
    else:
        sequences = default_sequences(checkpoint)
    if recipe.bits is not None:
        sensitivities = observer.sensitivities(recipe, importance, sequences, progress)
    shutil.rmtree(scratch)
    arrays: dict[str, Any] = dict(importance)
    np.savez(folder / IMPORTANCE, **arrays)
    (folder / SENSITIVITIES).write_text(json.dumps(sensitivities, indent=2) + "\n", encoding="utf-8")


def convert(checkpoint: Checkpoint, recipe: Recipe, source: Path, folder: Path, progress: Progress) -> None:
    """Writes the model. source: what `calibrate` left, where the recipe needs it. Raises BuilderFailed."""
    importance, sensitivities = _read_calibration(source) if stream.needs_calibration(recipe) else ({}, {})
    decoder, weights, layout = stream.design(checkpoint, recipe, sensitivities)
    with _guidance(decoder, weights, checkpoint, recipe, importance, folder, progress) as guidance:
        data_file.write(
            layout, weights, folder / graph.DATA_NAME, threads=usable_cores(), guidance=guidance, progress=progress
        )
    onnx_model.save(graph.author(decoder, layout, accuracy_level=recipe.accuracy_level), folder)
    config = json.dumps(genai_config(decoder, checkpoint), indent=2) + "\n"
    (folder / "genai_config.json").write_text(config, encoding="utf-8")
    fault = onnx_model.find_fault(folder)
    if fault is not None:
        raise BuilderFailed(f"the conversion left no usable model: {fault}", where=str(folder))
    onnx_model.require_opens(folder)


def _read_calibration(folder: Path) -> tuple[dict[str, Any], dict[str, float]]:
    import numpy as np

    with np.load(folder / IMPORTANCE, allow_pickle=False) as arrays:
        importance = {name: arrays[name] for name in arrays.files}
    return importance, json.loads((folder / SENSITIVITIES).read_bytes())


@contextlib.contextmanager
def _guidance(
    decoder: Decoder,
    weights: Weights,
    checkpoint: Checkpoint,
    recipe: Recipe,
    importance: dict[str, Any],
    folder: Path,
    progress: Progress,
) -> Iterator[data_file.Guidance]:
    """What the recipe's method is led by."""
    if recipe.method != "feedback" or recipe.calibration is None:
        yield importance
        return
    scratch = folder / ".scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    observer = Observer(decoder, weights, str(checkpoint.folder), scratch)
    yield Feedback(observer, read_sequences(recipe.calibration, checkpoint), importance, progress)
    shutil.rmtree(scratch)


if __name__ == "__main__":
    child.serve(work)
