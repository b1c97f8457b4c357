"""Our builder beside its peers: time, memory, size, and the speed of what comes out; its quality: bench_quality.py.

Every build is a process of its own on the same checkpoint, in turns; with several rounds the median counts. Sections:

time      checkpoint to INT4, wall time and peak memory: ours, llama.cpp's convert + quantize, onnxruntime-genai, Olive
size      our packages of each precision against four bytes a weight
fp16      decode speed of our FP16 against our FP32, in onnxruntime-genai
int4      prefill and decode of our INT4 against onnxruntime-genai's best build with the same blocks, same settings
large     our peak memory and time at 3 B and 7 B; with --large llama.cpp's too

The last line printed is one JSON object with the figures; `targets` judges them. The exit status is 1 where something
failed that should run, not where a target is missed.
usage: bench_build.py [--only time,size,...] [--rounds N] [--large]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import bench_ship
import measured
import peers
import random_checkpoint
from measured import attempt
from peers import WORK

Figures = dict[str, Any]
BLOCKS = (32, 128)
SMALL = random_checkpoint.QWEN25_05B
LARGE = {"3b": random_checkpoint.QWEN25_3B, "7b": random_checkpoint.QWEN25_7B}
OURS: dict[str, tuple[str, ...]] = {
    "fp32": ("--precision", "fp32"),
    "fp16": ("--precision", "fp16"),
    "int8": ("--precision", "int8"),
    **{f"int4_block_{size}": ("--precision", "int4-fast", "--block-size", str(size)) for size in BLOCKS},
}
EXAMPLE = Path(__file__).parent.parent / "examples" / "triage" / "checkpoint"


@cache
def checkpoint() -> Path:
    return random_checkpoint.make(WORK / "qwen2.5-0.5b-random", SMALL)


# --- time ------------------------------------------------------------------------------------------------------------


def time_section(rounds: int) -> Figures:
    """Median wall time and highest peak of each way to INT4."""
    ways: dict[str, Callable[[Path], list[peers.Command]]] = {
        "edgeship_int4": partial(_ours_alone, checkpoint()),
        "llama_cpp_q4_0": partial(through_gguf, checkpoint(), kind="Q4_0"),
        "llama_cpp_q4_k_m": partial(through_gguf, checkpoint(), kind="Q4_K_M"),
        "genai_int4": lambda out: [peers.genai_best(checkpoint(), out / "model", 128)],
    }
    figures: Figures = {}
    if peers.has_olive():
        ways["olive_int4"] = partial(through_olive, checkpoint())
    else:
        figures["olive_int4"] = {"skipped": "this Edgeship has no builder called olive"}
    costs: dict[str, list[Figures]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in in_order(ways, number):
            costs[name].append(attempt(f"time {name}", partial(cost, ways[name])))
    return figures | {name: _summary(found) for name, found in costs.items()}


def _summary(found: Sequence[Figures]) -> Figures:
    failed = [figures for figures in found if "error" in figures]
    if failed:
        return failed[0]
    walls = [figures["wall_s"] for figures in found]
    return found[0] | {
        "wall_s": round(statistics.median(walls), 1),
        "peak_bytes": max(figures["peak_bytes"] for figures in found),
        "walls_s": walls,
    }


def cost(way: Callable[[Path], list[peers.Command]]) -> Figures:
    """The commands one after another: their time together, the highest of their peaks, the size of what they leave."""
    with tempfile.TemporaryDirectory(prefix="scratch-", dir=WORK) as name:  # on the same disk as all else
        out = Path(name)
        found = [measured.measure(command.words, command.environment) for command in way(out)]
        models = [path for path in out.rglob("*") if path.parent.name == "model" and path.is_file()]
        return {
            "wall_s": round(sum(each.wall_s for each in found), 2),
            "peak_bytes": max(each.peak_bytes for each in found),
            "parts": [{"wall_s": round(each.wall_s, 2), "peak_bytes": each.peak_bytes} for each in found],
            "size_bytes": sum(path.stat().st_size for path in models if ".onnx" in path.name or ".gguf" in path.name),
        }


def ours(folder: Path, out: Path, *arguments: str) -> peers.Command:
    """INT4, the recipe as it comes unless `arguments` say otherwise, in a home where nothing was ever built."""
    recipe = arguments or ("--precision", "int4-fast")
    return peers.edgeship_build(folder, out / "model", *recipe, home=out / "home")


def _ours_alone(folder: Path, out: Path) -> list[peers.Command]:
    return [ours(folder, out)]


def through_gguf(folder: Path, out: Path, *, kind: str) -> list[peers.Command]:
    """llama.cpp's road: everything as F16 first, as its guide says, then quantized."""
    tools = peers.llama_cpp()
    (out / "model").mkdir()
    return [
        tools.convert(folder, out / "f16.gguf", "f16"),
        tools.quantize(out / "f16.gguf", out / "model" / f"{kind.lower()}.gguf", kind),
    ]


def through_olive(folder: Path, out: Path) -> list[peers.Command]:
    """The real Olive. Its environment is made beforehand and kept; what it built before is not."""
    home = olive_home()
    shutil.rmtree(home / "builds", ignore_errors=True)
    return [peers.edgeship_build(folder, out / "model", "--precision", "int4-fast", "--builder", "olive", home=home)]


@cache
def olive_home() -> Path:
    """A home with Olive's environment in it: a build of the small example makes it, or finds it made."""
    home, out = peers.PEERS / "olive-home", peers.PEERS / "olive-example"
    shutil.rmtree(home / "builds", ignore_errors=True)
    command = peers.edgeship_build(EXAMPLE, out, "--precision", "int4-fast", "--builder", "olive", home=home)
    try:
        measured.measure(command.words, command.environment)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    return home


# --- size and speed --------------------------------------------------------------------------------------------------


@cache
def package(name: str) -> Path:
    """Our package of OURS[name], built anew once in a run and kept until the next."""
    folder = WORK / "packages" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = ours(checkpoint(), folder, *OURS[name])
    measured.measure(command.words, command.environment)
    shutil.rmtree(folder / "home")
    return folder / "model"


def size_section(_: int) -> Figures:
    """Bytes of model and data, and their ratio to the weights in FP32."""
    fp32_bytes = 4 * random_checkpoint.parameters(SMALL)
    figures: Figures = {"fp32_weights_bytes": fp32_bytes}
    for name in OURS:
        figures[name] = attempt(f"size {name}", partial(_size, name, fp32_bytes))
    return figures


def _size(name: str, fp32_bytes: int) -> Figures:
    size = sum(path.stat().st_size for path in package(name).iterdir() if ".onnx" in path.name)
    return {"size_bytes": size, "ratio": round(size / fp32_bytes, 4)}


def fp16_section(rounds: int) -> Figures:
    """Our FP16 and FP32 in turns."""
    return in_turns({"fp32": package("fp32"), "fp16": package("fp16")}, rounds, ("fp16", "fp32"))


def int4_section(rounds: int) -> Figures:
    """Our INT4 and onnxruntime-genai's in turns, for each block size."""
    figures: Figures = {}
    for size in BLOCKS:
        mine = package(f"int4_block_{size}")
        pair = {"edgeship": mine, "genai": genai_like(mine, size)}
        figures[f"block_{size}"] = in_turns(pair, rounds, ("edgeship", "genai"))
    return figures


def genai_like(mine: Path, block_size: int) -> Path:
    """onnxruntime-genai's best build with our session settings, so that only the graph differs."""
    folder = peers.PEERS / f"genai-{peers.versions()['onnxruntime-genai']}-int4-block-{block_size}"
    if not folder.exists():
        temporary = folder.with_name(f"{folder.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        command = peers.genai_best(checkpoint(), temporary, block_size)
        measured.measure(command.words, command.environment)
        temporary.replace(folder)
    path = folder / "genai_config.json"
    config, our_config = json.loads(path.read_text()), json.loads((mine / "genai_config.json").read_text())
    config["model"]["decoder"]["session_options"] = our_config["model"]["decoder"]["session_options"]
    path.write_text(json.dumps(config, indent=2))
    return folder


def in_turns(folders: dict[str, Path], rounds: int, ratio: tuple[str, str]) -> Figures:
    """Medians of prefill and decode, tok/s, and of the first name's over the second's in each round."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in folders}
    for number in range(rounds):
        for name in in_order(folders, number):
            runs[name].append(bench_ship.in_child(folders[name]))
            print(f"round {number + 1} {name}: {runs[name][-1]}", file=sys.stderr, flush=True)
    figures: Figures = {}
    for kind in ("prefill", "decode"):
        key = f"{kind}_tokens_per_s"
        speeds = {name: [run[key] for run in found] for name, found in runs.items()}
        figures |= {f"{name}_{key}": round(statistics.median(found), 1) for name, found in speeds.items()}
        ratios = [first / second for first, second in zip(speeds[ratio[0]], speeds[ratio[1]], strict=True)]
        figures[f"{kind}_ratio"] = round(statistics.median(ratios), 3)
        figures[f"{kind}_ratios"] = [round(value, 3) for value in ratios]
    return figures


# --- large -----------------------------------------------------------------------------------------------------------


def large_section(_: int, *, with_llama_cpp: bool = False) -> Figures:
    """Once each: memory hardly varies, and 7 B takes minutes."""
    figures: Figures = {}
    for name, config in LARGE.items():
        folder = random_checkpoint.make(WORK / f"qwen2.5-{name}-random", config)
        ways = {f"edgeship_{name}": partial(_ours_alone, folder)}
        if with_llama_cpp:
            ways[f"llama_cpp_q4_0_{name}"] = partial(through_gguf, folder, kind="Q4_0")
        for each, way in ways.items():
            figures[each] = attempt(f"large {each}", partial(cost, way))
    return figures


# --- all together ----------------------------------------------------------------------------------------------------


def targets(figures: Figures) -> list[Figures]:
    """What was promised, beside what was measured; a figure that this run did not take is left out."""
    found: list[Figures] = []

    def judge(name: str, path: str, limit: float | None, *, least: bool = False) -> None:
        value = at(figures, path)
        if value is not None and limit is not None:
            met = value >= limit if least else value <= limit
            found.append({"target": name, "value": value, "at_least" if least else "at_most": limit, "met": met})

    judge("peak memory, 0.5 B", "time/edgeship_int4/peak_bytes", 0.9e9)
    for size in LARGE:
        judge(f"peak memory, {size.upper()}", f"large/edgeship_{size}/peak_bytes", 2.5e9)
    judge("time, llama.cpp Q4_0's", "time/edgeship_int4/wall_s", at(figures, "time/llama_cpp_q4_0/wall_s"))
    builder_s = at(figures, "time/genai_int4/wall_s")
    judge("time, half of genai's", "time/edgeship_int4/wall_s", builder_s and round(builder_s / 2, 1))
    for name, limit in (("fp16", 0.505), ("int8", 0.28), ("int4_block_128", 0.14), ("int4_block_32", 0.165)):
        judge(f"size, {name}", f"size/{name}/ratio", limit)
    judge("FP16 decode to FP32's", "fp16/decode_ratio", 0.9, least=True)
    for block in BLOCKS:
        for kind in ("prefill", "decode"):
            judge(f"INT4 {kind} to genai's, block {block}", f"int4/block_{block}/{kind}_ratio", 1.0, least=True)
    return found


def in_order(names: Iterable[str], number: int) -> list[str]:
    """Backwards in every other round, so that a machine that grows slower or faster favours nobody."""
    return list(names)[:: -1 if number % 2 else 1]


def at(figures: Figures, path: str) -> Any:
    """The value at "a/b/c", or None."""
    found: Any = figures
    for key in path.split("/"):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def failures(figures: Any) -> Iterator[str]:
    """Every error that stands in the figures."""
    if isinstance(figures, dict):
        if "error" in figures:
            yield str(figures["error"])
        for value in figures.values():
            yield from failures(value)


def main() -> int:
    sections: dict[str, Callable[[int], Figures]] = {
        "size": size_section,
        "time": time_section,
        "fp16": fp16_section,
        "int4": int4_section,
        "large": large_section,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(sections), help="sections, with commas between them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="llama.cpp at 3 B and 7 B too")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    if unknown := set(chosen) - set(sections):
        parser.error(f"no section is called {', '.join(sorted(unknown))}; there are {', '.join(sections)}")
    if arguments.large:
        sections["large"] = partial(large_section, with_llama_cpp=True)
    figures: Figures = {"cores": os.cpu_count(), "rounds": arguments.rounds, "versions": peers.versions()}
    for name in chosen:
        figures[name] = attempt(name, partial(sections[name], arguments.rounds))
    figures["targets"] = targets(figures)
    for target in figures["targets"]:
        print("met   " if target["met"] else "MISSED", target, file=sys.stderr)
    print(json.dumps(figures))
    return 1 if any(failures(figures)) else 0


if __name__ == "__main__":
    raise SystemExit(main())
