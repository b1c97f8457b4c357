"""The engine beside llama.cpp and onnxruntime-genai, on the same random checkpoint in the shape of Qwen2.5-0.5B, INT4.

Each engine runs in a process of its own, in turns; with several rounds the median counts. Sections:

single    one stream, 512 tokens in and 64 out: ours, llama-bench Q4_0, onnxruntime-genai's own loop on our package
sampled   tokens drawn from the whole vocabulary (temperature 0.7, top_p 0.9): decode over that of greedy ones
eight     eight clients in a closed loop, 190 tokens in and 48 out: ours, llama-server -np 8, and onnxruntime-genai's
          default build with its default settings, eight generators in turns
prefix    a second turn of 14 tokens after a conversation of about 700: time to the first token against the first turn
itl       the longest pause of one running answer (and of four) while a prompt of 2,000 tokens is admitted, over the
          usual pause just before and after; llama-server beside it
grammar   the example's answers held to their JSON schema, tokens a second against free ones
lookup    guesses from the text so far: answers of the 0.5 B shape three quarters of which stand in the prompt (a
          checkpoint whose next token is known makes that so), and the example's answers, which copy a few words
same      answers that are the same, token for token, beside seven others as alone, with int8 and float32 activations
memory    eight slots filled with 2,048 tokens each, beyond what was there before, against the arithmetic
soak      many short requests on the example: growth of resident memory, objects, file handles, slots

The last line printed is one JSON object with the figures; those called `target` judge them.
usage: bench_engine.py [--only single,eight,...] [--rounds N] [--soak N]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path

import bench_ship
import engine_parts
import llama_server
import peers
import random_checkpoint
import turns
from peers import WORK
from turns import CORES, Figures, in_turns, medians

EXAMPLE = Path(__file__).parent.parent / "examples" / "triage"
_T_95 = 2.26  # two-sided, for nine degrees of freedom


@cache
def package() -> Path:
    """Our INT4 of the 0.5 B shape."""
    return build(checkpoint(), WORK / "engine-int4")


@cache
def succeeding() -> Path:
    """The same shape, of which it is known what it says."""
    source = random_checkpoint.make_succeeding(WORK / "succeeding-0.5b")
    return build(source, WORK / "engine-succeeding")


@cache
def example() -> Path:
    """The example as INT4."""
    return build(EXAMPLE / "checkpoint", WORK / "engine-example")


@cache
def checkpoint() -> Path:
    return random_checkpoint.make(WORK / "qwen2.5-0.5b-random", random_checkpoint.QWEN25_05B)


@cache
def gguf() -> Path:
    """llama.cpp's Q4_0 of the same checkpoint."""
    return q4_0(checkpoint(), WORK / "engine-q4_0.gguf")


def q4_0(source: Path, found: Path, *options: str) -> Path:
    """llama.cpp's Q4_0 of a checkpoint, unless it is there already. options: of its conversion."""
    if not found.exists():
        whole = found.with_name(f"{found.stem}-bf16.gguf")
        llama = peers.llama_cpp()
        for command in (llama.convert(source, whole, "bf16", *options), llama.quantize(whole, found, "Q4_0")):
            subprocess.run(command.words, check=True, env=os.environ | dict(command.environment), stdout=sys.stderr)
        whole.unlink()
    return found


def build(source: Path, folder: Path, *options: str) -> Path:
    """Our INT4 package of a checkpoint, unless it is there already."""
    if not (folder / "edgeship.json").exists():
        command = peers.edgeship_build(source, folder, "--precision", "int4-fast", *options, home=WORK / "home")
        subprocess.run(command.words, check=True, env=os.environ | dict(command.environment), stdout=sys.stderr)
    return folder


# --- sections --------------------------------------------------------------------------------------------------------


def single(rounds: int) -> Figures:
    runs = in_turns(
        rounds,
        {
            "edgeship": lambda: _child("single", package()),
            "genai": lambda: _child("genai_loop", package(), turns.HUGE_PAGES, threads=CORES),
            "llama": lambda: llama_server.bench(peers.llama_cpp().binaries, gguf(), CORES),
        },
    )
    figures = medians(runs)
    for kind in ("prefill", "decode"):
        ours = figures[f"edgeship_{kind}_tokens_per_s"]
        figures[f"{kind}_vs_llama"] = ours / figures[f"llama_{kind}_tokens_per_s"]
        figures[f"{kind}_vs_genai"] = ours / figures[f"genai_{kind}_tokens_per_s"]
    return figures | {"target": {"vs_llama": 1.10, "vs_genai": 0.97}}


def sampled(rounds: int) -> Figures:
    runs = in_turns(
        rounds,
        {
            "edgeship": lambda: _child("sampled", package()),
            "llama": lambda: llama_server.sampled(peers.llama_cpp().binaries, gguf(), CORES),
        },
    )
    return medians(runs) | {"target": {"edgeship_ratio": 0.93}}


def eight(rounds: int) -> Figures:
    default = bench_ship.default_build(checkpoint(), "int4")
    runs = in_turns(
        rounds,
        {
            "edgeship": lambda: _child("eight", package()),
            "llama": lambda: llama_server.eight(peers.llama_cpp().binaries, gguf(), CORES),
            "genai_default": lambda: _child("genai_eight", default, turns.HUGE_PAGES),
        },
    )
    figures = medians(runs)
    speed = "tokens_per_s"
    figures["output_vs_llama"] = figures[f"edgeship_{speed}"] / figures[f"llama_{speed}"]
    figures["output_vs_genai_default"] = figures[f"edgeship_{speed}"] / figures[f"genai_default_{speed}"]
    figures["ttft_p50_vs_llama"] = figures["edgeship_ttft_p50_s"] / figures["llama_ttft_p50_s"]
    target = {"output_vs_llama": 1.35, "output_vs_genai_default": 2.5, "ttft_p50_vs_llama": "at most 1"}
    return figures | {"target": target}


def prefix(rounds: int) -> Figures:
    runs = in_turns(
        rounds,
        {
            "edgeship": lambda: _child("prefix", package()),
            "llama": lambda: llama_server.prefix(peers.llama_cpp().binaries, gguf(), CORES),
        },
    )
    return medians(runs) | {"target": {"edgeship_ratio": "at most 0.05"}}


def itl(rounds: int) -> Figures:
    runs = in_turns(
        rounds,
        {
            "edgeship": lambda: _child("itl", package()),
            "llama": lambda: llama_server.itl(peers.llama_cpp().binaries, gguf(), CORES),
        },
    )
    return medians(runs) | {"target": {"edgeship_worst_of_1": "at most 3", "edgeship_worst_of_4": "at most 3"}}


def grammar(rounds: int) -> Figures:
    runs = in_turns(rounds, {"edgeship": lambda: _child("grammar", example(), cases=str(EXAMPLE / "eval.jsonl"))})
    return medians(runs) | {"target": {"edgeship_ratio": 1.0}}


def lookup(rounds: int) -> Figures:
    runs = in_turns(
        rounds,
        {
            "example": lambda: _child("lookup", example(), cases=str(EXAMPLE / "eval.jsonl")),
            "copying": lambda: _child("lookup_copying", succeeding()),
        },
    )
    return medians(runs) | {"target": {"copying_ratio": 1.5}}


def same(_: int) -> Figures:
    target = {"int8_seeded_same": 1.0, "float32_seeded_same": 1.0, "float32_greedy_same": 1.0}
    return _child("same", package()) | {"target": target}


def memory(rounds: int) -> Figures:
    return medians(in_turns(rounds, {"edgeship": lambda: _child("memory", package())})) | {
        "target": {"edgeship_ratio": "0.9 to 1.1"}
    }


def soak(requests: int) -> Figures:
    found = _child("soak", example(), turns.PLAIN_MALLOC, requests=requests)
    return found | {"target": {"slope_bytes_per_request": f"within {_T_95} standard errors of 0"}}


def _child(part: str, folder: Path, variables: Mapping[str, str] | None = None, **options: object) -> Figures:
    return turns.child(engine_parts.__file__, part, {"folder": str(folder), **options}, variables)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sections: dict[str, Callable[[int], Figures]] = {
        "single": single,
        "sampled": sampled,
        "eight": eight,
        "prefix": prefix,
        "itl": itl,
        "grammar": grammar,
        "lookup": lookup,
        "same": same,
        "memory": memory,
        "soak": soak,
    }
    parser.add_argument("--only", default=",".join(sections))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--soak", type=int, default=10_000)
    arguments = parser.parse_args()
    asked = {
        name: partial(section, arguments.soak if name == "soak" else arguments.rounds)
        for name, section in sections.items()
    }
    turns.report(parser, asked, arguments.only, {"rounds": arguments.rounds, "versions": peers.versions()})


if __name__ == "__main__":
    main()
