"""A model most of whose layers keep a state of a fixed size: the shape of Qwen3.5-0.8B, random weights, INT4.

Each engine runs in a process of its own, in turns; with several rounds the median counts. Sections:

single    one stream, 512 tokens in and 64 out: ours, llama-bench Q4_0, onnxruntime-genai's own loop on our package
context   decode after 128 and after 8,192 tokens: ours and llama-bench, and ours where the last layer alone attends. Of
          what a step takes longer after the longer text, the two models have different shares of either kind of layer,
          so that what the layers with states add to it follows by itself. About six minutes a round

The last line printed is one JSON object with the figures; those called `target` judge them.
usage: bench_hybrid.py [--only single,context] [--rounds N]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import engine_parts
import llama_server
import peers
import random_checkpoint
import turns
from bench_engine import build, q4_0
from peers import WORK
from turns import CORES, Figures, in_turns, medians

LENGTHS = (128, 8192)
_LAYERS = int(random_checkpoint.QWEN35_08B["num_hidden_layers"])
_ATTENDING = {"edgeship": random_checkpoint.QWEN35_08B["layer_types"].count("full_attention"), "linear": 1}
"""Layers with attention of each model."""
# The last one attends, since a graph finds out from attention how many tokens there are.
ALMOST_ALL_LINEAR: dict[str, Any] = random_checkpoint.QWEN35_08B | {
    "layer_types": ["linear_attention"] * (_LAYERS - 1) + ["full_attention"]
}


@cache
def checkpoint() -> Path:
    return random_checkpoint.make(WORK / "qwen3.5-0.8b-random", random_checkpoint.QWEN35_08B)


@cache
def package() -> Path:
    """Our INT4 of it, uncalibrated: what it says does not matter, only how fast."""
    return build(checkpoint(), WORK / "hybrid-int4", "--no-calibrate")


@cache
def almost_all_linear() -> Path:
    """The same with attention in the last layer alone."""
    made = random_checkpoint.make(WORK / "qwen3.5-0.8b-linear", ALMOST_ALL_LINEAR)
    return build(made, WORK / "hybrid-linear-int4", "--no-calibrate")


@cache
def gguf() -> Path:
    """llama.cpp's Q4_0 of it."""
    return q4_0(checkpoint(), WORK / "hybrid-q4_0.gguf", "--no-mtp")


def single(rounds: int) -> Figures:
    runs = in_turns(
        rounds,
        {
            "edgeship": lambda: _child("single", package()),
            "genai": lambda: _child("genai_loop", package(), threads=CORES),
            "llama": lambda: llama_server.bench(peers.llama_cpp().binaries, gguf(), CORES),
        },
    )
    figures = medians(runs)
    for kind in ("prefill", "decode"):
        ours = figures[f"edgeship_{kind}_tokens_per_s"]
        figures[f"{kind}_vs_llama"] = ours / figures[f"llama_{kind}_tokens_per_s"]
        figures[f"{kind}_vs_genai"] = ours / figures[f"genai_{kind}_tokens_per_s"]
    return figures | {"target": {"decode_vs_llama": 1.10}}


def context(rounds: int) -> Figures:
    runs = in_turns(
        rounds,
        {
            "edgeship": lambda: _child("context", package(), lengths=LENGTHS),
            "linear": lambda: _child("context", almost_all_linear(), lengths=LENGTHS),
            "llama": lambda: llama_server.context(peers.llama_cpp().binaries, gguf(), CORES, LENGTHS),
        },
    )
    figures = medians(runs)
    for name in runs:
        short, long = (figures[f"{name}_decode_{length}_tokens_per_s"] for length in LENGTHS)
        figures[f"{name}_long_over_short"] = long / short
    return figures | _of_each_layer(figures) | {"target": {"states_long_over_short": 0.90}}


def _of_each_layer(figures: Figures) -> Figures:
    """What a layer of either kind adds to a step after the longer text, and a step's time without attention's part.

    Both models' additions are two equations for what an attending layer adds and what another does.
    """
    step_s = {name: [1 / figures[f"{name}_decode_{length}_tokens_per_s"] for length in LENGTHS] for name in _ATTENDING}
    (whole, few), added = _ATTENDING.values(), [long - short for short, long in step_s.values()]
    keeping = [_LAYERS - whole, _LAYERS - few]
    size = whole * keeping[1] - few * keeping[0]
    attending_s = (added[0] * keeping[1] - added[1] * keeping[0]) / size
    state_s = (added[1] * whole - added[0] * few) / size
    short_s = step_s["linear"][0]
    return {
        "attending_layer_adds_ms": 1e3 * attending_s,
        "state_layer_adds_ms": 1e3 * state_s,
        "states_long_over_short": short_s / (short_s + keeping[1] * state_s),
    }


def _child(part: str, folder: Path, **options: object) -> Figures:
    variables = turns.HUGE_PAGES if part == "genai_loop" else None
    return turns.child(engine_parts.__file__, part, {"folder": str(folder), **options}, variables)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sections: dict[str, Callable[[int], Figures]] = {"single": single, "context": context}
    parser.add_argument("--only", default=",".join(sections))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    asked = {name: partial(section, arguments.rounds) for name, section in sections.items()}
    turns.report(parser, asked, arguments.only, {"rounds": arguments.rounds, "versions": peers.versions()})


if __name__ == "__main__":
    main()
