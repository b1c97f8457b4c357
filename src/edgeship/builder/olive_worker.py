"""The script that runs in Olive's environment, where Edgeship is not. It knows Olive, and one file of ours by its path.

It is run by path with a workflow and the folder that Olive is to fill, and ends when its stdin does, which is when its
parent is gone. Its last line says how much memory it took.
"""

from __future__ import annotations

import functools
import os
import runpy
import sys
import threading
from pathlib import Path

PEAK = "edgeship: peak memory in bytes:"
_MEMORY = Path(__file__).parent.parent / "system" / "memory.py"


def main() -> None:
    """Runs the workflow as `olive run` does, and opens what came out as ONNX Runtime would to run it."""
    workflow, output = sys.argv[1:]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import transformers

    # transformers loads weights in the type that config.json declares, which would round weights that are wider, and
    # the sum of a narrow base and its adapter.
    auto = transformers.AutoModelForCausalLM
    auto.from_pretrained = functools.partial(auto.from_pretrained, dtype="float32")
    sys.argv = ["olive", "run", "--config", workflow]
    runpy.run_module("olive", run_name="__main__", alter_sys=True)
    for model in Path(output).rglob("model.onnx"):
        _require_opens(model)
    print(PEAK, runpy.run_path(str(_MEMORY))["peak_memory_bytes"](), flush=True)


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def _require_opens(model: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    main()
