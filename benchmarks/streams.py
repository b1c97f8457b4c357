"""Several clients at the same time, and what each of them saw."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

CLIENTS, REQUESTS, PROMPT_TOKENS, NEW_TOKENS = 8, 4, 190, 48


@dataclass
class Seen:
    """When each token of one answer came, seconds after it was asked for."""

    times_s: list[float] = field(default_factory=list)


def closed_loop(ask: Callable[[int], Iterator[object]], clients: int = CLIENTS, requests: int = REQUESTS) -> Any:
    """Each client asks `requests` times, one after another. `ask(number)` gives an answer's tokens as they come."""
    seen: list[Seen] = []

    def client(first: int) -> None:
        for number in range(requests):
            answer, started = Seen(), time.perf_counter()
            answer.times_s.extend(time.perf_counter() - started for _ in ask(first * requests + number))
            seen.append(answer)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return figures(seen, time.perf_counter() - started)


def figures(seen: list[Seen], wall_s: float) -> dict[str, float]:
    """Output tokens a second in all, TTFT and inter-token latency."""
    assert len(seen) > 1
    pauses = [after - before for one in seen for before, after in zip(one.times_s, one.times_s[1:], strict=False)]
    return {
        "tokens_per_s": sum(len(one.times_s) for one in seen) / wall_s,
        "ttft_p50_s": statistics.median(one.times_s[0] for one in seen),
        "ttft_p95_s": statistics.quantiles((one.times_s[0] for one in seen), n=20)[-1],
        "itl_p50_ms": 1e3 * statistics.median(pauses),
        "itl_p99_ms": 1e3 * statistics.quantiles(pauses, n=100)[-1],
    }
