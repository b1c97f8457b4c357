"""The child process that runs onnxruntime-genai's builder: all memory comes back at its end, and it knows its peak."""

from __future__ import annotations

import functools
import runpy
import sys
from pathlib import Path
from typing import Any

from edgeship import child
from edgeship.progress import Progress


def work(job: dict[str, Any], progress: Progress) -> dict[str, Any]:  # noqa: ARG001 - the parent reads what is printed
    """Builds, and proves that the result can be run. Job: input, output, scratch, precision, options."""
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
    _open(Path(job["output"]) / "model.onnx")
    return {"peak_memory_bytes": child.peak_memory_bytes()}


def _open(model: Path) -> None:
    """Raises what ONNX Runtime raises for a graph that it cannot run, without preparing to run it."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    child.serve(work)
