"""One ruler for all: `edgeship bench` on a package, its server, llama.cpp's server and Foundry Local.

All of them run the shape of Qwen2.5-0.5B with random weights on all cores, with eight slots: our INT4 package in a
process of its own, the same under `edgeship serve`, Q4_0 under `llama-server`, and our package again in Foundry Local
where its SDK is installed. Each is asked by 1 client and by 8, with prompts that nobody asked before.
bench_measure.py runs it, and keeps what each said in work/peers-*.json, which `edgeship report` reads.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import bench_engine
import bench_serve
import llama_server
import peers
from http_client import HOST
from peers import WORK
from turns import CORES, Figures

LOAD = ["--concurrency", "1,8", "--requests", "16", "--prompt-tokens", "128", "--new-tokens", "64"]
SLOTS, CONTEXT_TOKENS = bench_serve.SLOTS, bench_serve.CONTEXT_TOKENS


def side_by_side() -> Figures:
    """The figures of each target at each number of clients, with what is doubted of them."""
    folder = bench_engine.package()
    found = {"package": _bench("package", str(folder), "--slots", str(SLOTS), "--context", str(CONTEXT_TOKENS))}
    with bench_serve.serving(folder) as port:
        found["serve"] = _bench("serve", f"http://{HOST}:{port}", "--model", folder.name)
    binaries, gguf = peers.llama_cpp().binaries, bench_engine.gguf()
    with llama_server.serving(binaries, gguf, CORES, slots=SLOTS, context=SLOTS * CONTEXT_TOKENS) as port:
        found["llama-server"] = _bench("llama-server", f"http://{HOST}:{port}")
    if importlib.util.find_spec("foundry_local_sdk"):
        _edgeship("foundry", "register", str(folder))
        found["foundry"] = _bench("foundry", f"foundry:{folder.name}")
    return {name: _told(document) for name, document in found.items()}


def _bench(name: str, *words: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(_edgeship("bench", *words, *LOAD, "--json"))
    (WORK / f"peers-{name}.json").write_text(json.dumps(document), "utf-8")
    return document


def _edgeship(*words: str) -> str:
    environment = os.environ | {"EDGESHIP_HOME": str(WORK / "home")}
    command = [sys.executable, "-m", "edgeship", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout


def _told(document: Mapping[str, Any]) -> Figures:
    return {
        level["name"]: {
            "ttft_p50_s": level["ttft_s"]["p50"],
            "tpot_mean_s": level["tpot_s"]["mean"],
            "itl_p99_s": level["itl_s"]["p99"],
            "e2e_p50_s": level["e2e_s"]["p50"],
            "output_tokens_per_s": level["output_tokens_per_s"],
            "errors": level["errors"],
            "doubts": [warning.partition(":")[0] for warning in level["warnings"]],
        }
        for level in document["levels"]
    }
