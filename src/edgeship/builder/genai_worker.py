"""The child process that runs onnxruntime-genai's builder: all memory comes back at its end, and it knows its peak."""

from __future__ import annotations

import functools
import runpy
import sys
import traceback
from pathlib import Path
from typing import Any

from edgeship.builder import onnx_model
from edgeship.builder.genai import LOOK_INTO_LOG
from edgeship.errors import BuilderFailed, EdgeshipError
from edgeship.package import genai_config
from edgeship.progress import Progress
from edgeship.system import memory, worker
from edgeship.system.json_file import Complaint

_ROOM_TOKENS = 8192
"""Where attention looks back through a window, the buffer for keys and values must be as long as that."""


def work(job: dict[str, Any], progress: Progress) -> dict[str, Any]:  # noqa: ARG001 - the parent reads what is printed
    """Builds, and proves that the result answers. Job: input, output, scratch, precision, options, log.

    Or `answers`, a folder of which only that is to be proven.
    """
    if "answers" in job:
        _require_answers(Path(job["answers"]))
        return {}
    try:
        _build(job)
    except BaseException as error:  # transformers, torch and the builder raise anything, SystemExit as well
        if isinstance(error, EdgeshipError | MemoryError):
            raise
        traceback.print_exc()  # into the log
        said = traceback.format_exception_only(error)[0].strip().splitlines()[0]
        raise BuilderFailed(
            f"onnxruntime-genai's builder failed: {said}", where=job["log"], hint=LOOK_INTO_LOG
        ) from error
    _require_answers(Path(job["output"]))
    return {"peak_memory_bytes": memory.peak_memory_bytes()}


def _require_answers(folder: Path) -> None:
    """Runs the model on one token as onnxruntime-genai does: some of its graphs want buffers that only it makes."""
    import numpy as np
    import onnxruntime_genai

    config = genai_config.read(folder, Complaint(BuilderFailed, "Build it again."))
    try:
        model = onnxruntime_genai.Model(str(folder))
        parameters = onnxruntime_genai.GeneratorParams(model)
        parameters.set_search_options(max_length=min(config.context_tokens, _ROOM_TOKENS))
        generator = onnxruntime_genai.Generator(model, parameters)
        generator.append_tokens(np.zeros(1, np.int32))
        logits = np.asarray(generator.get_output("logits"), np.float32)
    except Exception as error:  # whatever the library raises
        raise BuilderFailed(f"the model that was made does not run: {error}", where=str(folder)) from error
    onnx_model.require_numbers(logits, folder)


def _build(job: dict[str, Any]) -> None:
    import transformers

    # transformers loads weights in the type that config.json declares, which would round weights that are wider.
    auto = transformers.AutoModelForCausalLM
    auto.from_pretrained = functools.partial(auto.from_pretrained, dtype="float32")
    # The command line is the builder's documented interface; its functions change between versions.
    sys.argv = [
        "builder",
        *("-i", job["input"]),
        *("-o", job["output"]),
        *("-c", job["scratch"]),
        *("-p", job["precision"]),
        *("-e", "cpu"),
        "--extra_options",
        *job["options"],
    ]
    runpy.run_module("onnxruntime_genai.models.builder", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    worker.serve(work)
