"""What choosing a token costs at 151,936 tokens, beside the plain way, which sorts all of them.

Both draw the same tokens; the script ends with an error where they do not. Milliseconds are processor time, the median
of some draws. The last line printed is one JSON object. usage: bench_sampling.py [--draws N]
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeship.engine.api import Sampling
from edgeship.engine.sampling import Sampler

VOCABULARY = 151_936
SEED = 7
NEUTRAL = {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}


def rows() -> dict[str, npt.NDArray[np.float32]]:
    """Logits as models give them, and those of the two extremes."""
    normal = np.random.default_rng(SEED).normal(0, 2.5, VOCABULARY)
    some = np.arange(VOCABULARY) < 20
    shapes = {"usual": normal + 12 * some, "flat": normal / 250, "equal": normal * 0, "peaked": normal + 40 * some}
    return {name: row.astype(np.float32) for name, row in shapes.items()}


def by_sorting(logits: npt.NDArray[np.float32], settings: Sampling, drawn: float) -> int:
    """The token of one draw, by sorting all that are not too far from the likeliest."""
    best, heat = float(logits.max()), settings.temperature or 1.0
    near = np.flatnonzero(logits >= np.float32(best) - np.float32(30 * heat))
    near = near[np.lexsort((near, -logits[near]))][: settings.top_k or None]
    shares = np.exp((logits[near].astype(np.float64) - best) / heat)
    sums = np.cumsum(shares)
    kept = int((shares >= (settings.min_p or 0.0) * shares[0]).sum())
    if settings.top_p is not None and settings.top_p < 1:
        kept = min(kept, int(np.searchsorted(sums, settings.top_p * sums[-1])) + 1)
    return int(near[min(int(np.searchsorted(sums, drawn * sums[kept - 1], side="right")), kept - 1)])


def measure(logits: npt.NDArray[np.float32], settings: Sampling, draws: int) -> dict[str, float]:
    """Milliseconds a token of both ways."""
    chance, sampler = np.random.Generator(np.random.PCG64(SEED)), Sampler(settings, (), VOCABULARY)
    ways: dict[str, Callable[[], int]] = {
        "sorting_ms": lambda: by_sorting(logits, settings, chance.random()),
        "ms": lambda: sampler.choose(logits),
    }
    tokens, figures = [], {}
    for name, way in ways.items():
        times, chosen = [], []
        for _ in range(draws):
            began = time.thread_time()
            chosen.append(way())
            times.append(1e3 * (time.thread_time() - began))
        tokens.append(chosen)
        figures[name] = round(statistics.median(times), 3)
    if tokens[0] != tokens[1]:
        raise SystemExit(f"tokens {tokens[1]} were drawn, and {tokens[0]} were to be: {settings}")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=15)
    draws = parser.parse_args().draws
    found: list[dict[str, Any]] = []
    for name, logits in rows().items():
        for heat, top_k, top_p, min_p in itertools.product((0.7, 1.5), (0, 50), (1.0, 0.9), (0.0, 0.05)):
            given = {"temperature": heat, "top_k": top_k, "top_p": top_p, "min_p": min_p}
            figures = measure(logits, Sampling(**given, **NEUTRAL, seed=SEED), draws)  # type: ignore[arg-type]
            found.append({"logits": name} | given | figures)
            print(found[-1], file=sys.stderr)
    print(json.dumps({"worst_ms": max(each["ms"] for each in found), "rows": found}))


if __name__ == "__main__":
    main()
