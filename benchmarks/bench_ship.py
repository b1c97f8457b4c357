"""An installed package against onnxruntime-genai's builder and settings as they come: prefill and decode, one stream.

Both are INT4 of the same random checkpoint in the shape of Qwen2.5-0.5B, run by onnxruntime-genai itself with its own
configuration file, each in a process of its own, in turns. The last line printed is one JSON object with the ratios of
the medians. usage: bench_ship.py [--rounds N] [--precision int4]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import random_checkpoint

WORK = Path(__file__).parent / "work"
PROMPT_TOKENS, NEW_TOKENS, REPEATS = 512, 64, 3


def run(folder: Path) -> dict[str, float]:
    """Child: prefill and decode speed of one folder, tok/s; the median of REPEATS after a warm-up."""
    import numpy as np
    import onnxruntime_genai as og

    model = og.Model(str(folder))
    prompt = np.random.default_rng(0).integers(10, 300, PROMPT_TOKENS, dtype=np.int32)
    prefill, decode = [], []
    for repeat in range(REPEATS + 1):
        params = og.GeneratorParams(model)
        length = PROMPT_TOKENS + NEW_TOKENS
        params.set_search_options(do_sample=False, max_length=length, min_length=length)
        generator = og.Generator(model, params)
        started = time.perf_counter()
        generator.append_tokens(prompt)
        generator.generate_next_token()
        first = time.perf_counter()
        for _ in range(NEW_TOKENS - 1):
            generator.generate_next_token()
        ended = time.perf_counter()
        if repeat:
            prefill.append(PROMPT_TOKENS / (first - started))
            decode.append((NEW_TOKENS - 1) / (ended - first))
        del generator
    return {
        "prefill_tokens_per_s": statistics.median(prefill),
        "decode_tokens_per_s": statistics.median(decode),
    }


def in_child(folder: Path) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, "--run", str(folder)], check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def default_build(checkpoint: Path, precision: str) -> Path:
    """The builder's result with none of its options set."""
    folder = WORK / f"default-{precision}"
    if not (folder / "genai_config.json").exists():
        command = [
            sys.executable,
            "-m",
            "onnxruntime_genai.models.builder",
            "-i",
            str(checkpoint),
            "-o",
            str(folder),
        ]
        command += ["-p", precision, "-e", "cpu", "-c", str(WORK / "builder-cache")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return folder


def our_package(checkpoint: Path, precision: str) -> Path:
    """The same checkpoint through `edgeship build` and `edgeship cache add`, in a home of its own."""
    environment = os.environ | {
        "EDGESHIP_HOME": str(WORK / "home"),
        "EDGESHIP_CONFIG": str(WORK / "home/config.toml"),
    }
    output = WORK / f"bench-{precision}"

    def edgeship(*arguments: str) -> Any:
        command = [sys.executable, "-m", "edgeship", *arguments, "--json"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        return json.loads(done.stdout)

    edgeship("build", str(checkpoint), "--precision", precision, "--output", str(output))
    return Path(edgeship("cache", "add", str(output))["folder"])


def compare(rounds: int, precision: str) -> dict[str, Any]:
    """Both folders in turns; medians over rounds and their ratios."""
    checkpoint = random_checkpoint.make(WORK / "qwen2.5-0.5b-random", random_checkpoint.QWEN25_05B)
    folders = {
        "genai_default": default_build(checkpoint, precision),
        "edgeship": our_package(checkpoint, precision),
    }
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in folders}
    for number in range(rounds):
        for name, folder in folders.items():
            runs[name].append(in_child(folder))
            print(f"round {number + 1} {name}: {runs[name][-1]}", file=sys.stderr, flush=True)
    figures: dict[str, Any] = {"precision": precision, "rounds": rounds, "cores": os.cpu_count()}
    for kind in ("prefill", "decode"):
        medians = {
            name: statistics.median(result[f"{kind}_tokens_per_s"] for result in results)
            for name, results in runs.items()
        }
        figures |= {f"{name}_{kind}_tokens_per_s": round(value, 1) for name, value in medians.items()}
        figures[f"{kind}_vs_genai_default"] = round(medians["edgeship"] / medians["genai_default"], 3)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="int4", choices=["int4", "int8", "fp32"])
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    print(json.dumps(run(arguments.run) if arguments.run else compare(arguments.rounds, arguments.precision)))


if __name__ == "__main__":
    main()
