"""Measurements in processes of their own, in turns; with several rounds the median counts."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

Figures = dict[str, Any]
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""What gives a peer on glibc the pages of 2 MB that our engine asks for itself."""
PLAIN_MALLOC = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0", "MALLOC_ARENA_MAX": "1"}
"""For what looks for leaks: glibc keeps freed memory for each thread and size, which would look like one."""
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def child(script: str, part: str, job: Mapping[str, object], variables: Mapping[str, str] | None = None) -> Figures:
    """One part of a script in a process of its own. variables: added to its environment."""
    words = [sys.executable, script, part, json.dumps(dict(job))]
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false"} | dict(variables or {})
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: Figures = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def in_turns(rounds: int, engines: Mapping[str, Callable[[], Figures]]) -> dict[str, list[Figures]]:
    """Every engine's figures of each round, one engine after another in a round."""
    runs: dict[str, list[Figures]] = {name: [] for name in engines}
    for number in range(rounds):
        for name, run in engines.items():
            runs[name].append(run())
            print(f"round {number + 1} {name}: {runs[name][-1]}", file=sys.stderr, flush=True)
    return runs


def medians(runs: Mapping[str, list[Figures]]) -> Figures:
    """The median of each figure, under "engine_figure"."""
    return {
        f"{name}_{key}": statistics.median(figures[key] for figures in found)
        for name, found in runs.items()
        for key in found[0]
    }


def report(
    parser: argparse.ArgumentParser, sections: Mapping[str, Callable[[], Figures]], only: str, facts: Figures
) -> None:
    """Runs the sections that `only` names, with commas between them, and prints their figures.

    facts: what stands before them. A name that no section has ends it through the parser.
    """
    wanted = only.split(",")
    if strangers := set(wanted) - set(sections):
        parser.error(f"no such section: {', '.join(sorted(strangers))}")
    figures: Figures = {"cores": CORES, **facts}
    for name in wanted:
        figures[name] = sections[name]()
        print(f"{name}: {json.dumps(_rounded(figures[name]), indent=2)}", file=sys.stderr, flush=True)
    print(json.dumps(_rounded(figures)))


def _rounded(value: Any) -> Any:
    """Figures to four digits."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value
