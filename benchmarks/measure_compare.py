"""What `edgeship compare` costs: seconds and memory, of the example and of the shape of Qwen2.5-0.5B.

compare-example  three precisions of the example over its own answers
compare-0.5b     three precisions of the 0.5 B shape over 20 texts of 512 tokens; its weights are random, so calibrating
                 would show nothing and is left out

Each starts with an empty home, so that nothing is reused. bench_measure.py runs them.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import measured
import random_checkpoint
from peers import WORK
from turns import Figures

HERE = Path(__file__).parent
EXAMPLE = HERE.parent / "examples" / "triage" / "checkpoint"
PRECISIONS = ("-p", "fp16", "-p", "int8", "-p", "int4")


def example() -> Figures:
    """The target is 60 s."""
    return _compare(str(EXAMPLE), *PRECISIONS) | {"target": {"wall_s": "under 60"}}


def half_billion() -> Figures:
    """The target is 600 s within 4 GB."""
    checkpoint = random_checkpoint.make(WORK / "qwen2.5-0.5b-random", random_checkpoint.QWEN25_05B)
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder) / "texts.txt"
        texts.write_text("\n".join(path.read_text("utf-8") for path in sorted((HERE / "texts").glob("*.txt"))), "utf-8")
        options = ["--no-calibrate", "--texts", str(texts), "--limit", "20"]
        found = _compare(str(checkpoint), *PRECISIONS, *options)
    return found | {"target": {"wall_s": "under 600", "peak_memory_bytes": "under 4e9"}}


def _compare(*arguments: str) -> Figures:
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "edgeship", "compare", *arguments, "--json"]
        cost = measured.measure(command, {"EDGESHIP_HOME": home})
    document = json.loads(cost.output[cost.output.index("\n{\n") :])
    fidelities = {label: one["fidelity"] for label, one in document["candidates"].items()}
    return {
        "wall_s": cost.wall_s,
        "peak_memory_bytes": cost.peak_bytes,
        "positions": next(iter(fidelities.values()))["positions"],
        "mean_kld_nats": {label: found["mean_kld_nats"] for label, found in fidelities.items()},
    }
