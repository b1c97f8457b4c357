"""Packages in Foundry Local beside onnxruntime-genai's builder as it comes, and beside the other engines.

The same random checkpoint in the shape of Qwen2.5-0.5B as INT4, and the example. Each measurement is a process of its
own, in turns; with several rounds the median counts. Sections:

register   `edgeship foundry register` of a package of 300 MB, from the command's start to its end, its proof included,
           and the bytes that it copies
first      512 tokens in: time to the first token through Foundry Local, of the package as it is registered, and of
           onnxruntime-genai's default build with its default settings
context    what memory for the context costs in Foundry Local, at 32,768 tokens: grown with the conversation (as it is
           registered), reserved (as onnxruntime-genai's settings have it), and reserved for 4,096 tokens
shape      the 0.5 B shape in foundry / genai / batched: 512 in and 64 out; eight clients, 190 in and 48 out; the second
           turn of a conversation of 700 tokens; memory
example    the example in foundry / genai / batched: one answer after another, free and held to a JSON schema; how many
           greedy answers are the same; what comes of requests that set nothing but a length

The last line printed is one JSON object with the figures; those called `target` judge them.
usage: bench_foundry.py [--only register,first,...] [--rounds N]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import bench_engine
import bench_ship
import foundry_parts
import peers
import turns
from peers import WORK
from turns import Figures, child, in_turns, medians

CATALOG = WORK / "foundry"
CASES = str(bench_engine.EXAMPLE / "eval.jsonl")
ENGINES = ("foundry", "genai", "batched")


@cache
def large() -> Path:
    """The 0.5 B shape with blocks of 16, which is over 300 MB."""
    return bench_engine.build(bench_engine.checkpoint(), WORK / "foundry-int4-16", "--block-size", "16")


@cache
def registered(package: Path, name: str, *options: str) -> Path:
    """Where a package lies once it is registered."""
    return Path(_register(package, name, *options)["folder"])


# --- sections --------------------------------------------------------------------------------------------------------


def register(rounds: int) -> Figures:
    size = sum(path.stat().st_size for path in large().iterdir())

    def anew() -> Figures:
        shutil.rmtree(CATALOG, ignore_errors=True)
        started = time.perf_counter()
        done = _register(large(), "large")
        wall_s = time.perf_counter() - started
        return {"wall_s": wall_s, "copied_mb": done["copied_bytes"] / 1e6, "linked_mb": done["linked_bytes"] / 1e6}

    figures = medians(in_turns(max(3, rounds), {"register": anew}))
    return figures | {"package_mb": size / 1e6, "target": {"register_wall_s": "under 2", "register_copied_mb": "none"}}


def first(rounds: int) -> Figures:
    default = bench_ship.default_build(bench_engine.checkpoint(), "int4")
    runs = in_turns(
        rounds,
        {
            "edgeship": lambda: _part("one", registered(bench_engine.package(), "shape"), "foundry"),
            "default": lambda: _part("one", default, "foundry"),
        },
    )
    figures = medians(runs)
    figures["first_token_vs_default"] = figures["default_ttft_s"] / figures["edgeship_ttft_s"]
    figures["decode_vs_default"] = figures["edgeship_decode_tokens_per_s"] / figures["default_decode_tokens_per_s"]
    return figures | {"target": {"first_token_vs_default": 1.7}}


def context(rounds: int) -> Figures:
    package = bench_engine.package()
    folders = {
        "grown": registered(package, "shape"),
        "reserved": package,
        "reserved_4096": registered(package, "shape-4096", "--context-tokens", "4096"),
    }
    figures: Figures = {}
    for part in ("one", "long", "memory"):
        engines = {name: partial(_part, part, folder, "foundry") for name, folder in folders.items()}
        figures |= {f"{part}_{name}": value for name, value in medians(in_turns(rounds, engines)).items()}
    return figures


def shape(rounds: int) -> Figures:
    figures: Figures = {}
    for part, slots in (("one", 1), ("eight", 8), ("second_turn", 1), ("memory", 1)):
        engines = {name: partial(_part, part, _folder(name), name, slots=slots) for name in ENGINES}
        if part == "eight":
            engines["foundry_one_at_a_time"] = partial(_part, part, _folder("foundry"), "foundry", slots=1)
        figures |= {f"{part}_{name}": value for name, value in medians(in_turns(rounds, engines)).items()}
    return figures


def example(rounds: int) -> Figures:
    package = bench_engine.example()
    copy = registered(package, "triage")
    folders = {"foundry": copy, "genai": package, "batched": package}
    engines = {name: partial(_part, "example", folder, name, cases=CASES) for name, folder in folders.items()}
    figures = medians(in_turns(rounds, engines))
    said = {name: _part("answers", folders[name], name, cases=CASES)["answers"] for name in ENGINES}
    for other in ENGINES[1:]:
        same = sum(map(str.__eq__, said["foundry"], said[other]))
        figures[f"same_as_{other}"] = same / len(said["foundry"])
    for name, folder in (("registered", copy), ("package", package)):
        catalog = str(WORK / "foundry-unasked")
        figures[f"unasked_{name}_pass_rate"] = _part("unasked", folder, "", cases=CASES, catalog=catalog)["pass_rate"]
    return figures | {"target": {"same_as_batched": 0.95}}


# --- running ---------------------------------------------------------------------------------------------------------


def _folder(engine: str) -> Path:
    package = bench_engine.package()
    return registered(package, "shape") if engine == "foundry" else package


def _part(part: str, folder: Path, engine: str, **options: object) -> Figures:
    return child(foundry_parts.__file__, part, {"folder": str(folder), "engine": engine, **options})


def _register(package: Path, name: str, *options: str) -> Figures:
    words = [sys.executable, "-m", "edgeship", "foundry", "register", str(package), "--name", name, "--json", *options]
    environment = os.environ | {
        "EDGESHIP_HOME": str(WORK / "home"),
        "EDGESHIP_CONFIG": str(WORK / "home" / "config.toml"),
        "EDGESHIP_FOUNDRY_CACHE_DIR": str(CATALOG),
    }
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: Figures = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    # Registering first: it starts from an empty catalog.
    sections: dict[str, Callable[[int], Figures]] = {
        "register": register,
        "first": first,
        "context": context,
        "shape": shape,
        "example": example,
    }
    parser.add_argument("--only", default=",".join(sections))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    asked = {name: partial(section, arguments.rounds) for name, section in sections.items()}
    turns.report(parser, asked, arguments.only, {"rounds": arguments.rounds, "versions": peers.versions()})


if __name__ == "__main__":
    main()
