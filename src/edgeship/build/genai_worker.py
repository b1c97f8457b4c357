"""The child process that runs onnxruntime-genai's builder: started with -m, it reads one JSON job from stdin.

A process of its own gives all memory back at its end, can be killed, and knows its own peak. The parent keeps
stdin open: when it dies, however it dies, stdin ends and so does this process.
"""

from __future__ import annotations

import functools
import json
import os
import runpy
import sys
import threading
from pathlib import Path
from typing import Any

REPORT = "edgeship-report "
"""What the line with this process's peak memory begins with."""


def main() -> None:
    """Reads the job, builds, reports."""
    job = json.loads(_read_line())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _build(job)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        print(REPORT + json.dumps({"peak_memory_bytes": peak_memory_bytes()}), flush=True)


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
    _open(Path(job["output"]) / "model.onnx")


def _open(model: Path) -> None:
    """Raises what ONNX Runtime raises for a graph that it cannot run, without preparing to run it."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _read_line() -> bytes:
    """The first line of stdin, unbuffered: a buffer's lock held by a waiting thread would spoil the exit."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            os._exit(1)
        line += byte
    return line


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def peak_memory_bytes() -> int:
    """The most memory that this process has held at once."""
    status = Path("/proc/self/status")
    if status.exists():
        # Unlike ru_maxrss, this does not begin at what the parent held when it started this process.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main()
