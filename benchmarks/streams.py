"""Several clients at the same time, and what each of them saw."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

_TOKENS_AROUND = 60
LONG_PROMPT_TOKENS = 2000
CLIENTS, REQUESTS, PROMPT_TOKENS, NEW_TOKENS = 8, 4, 190, 48
DRAWN = {"temperature": 1.0, "top_k": 40, "top_p": 1.0, "min_p": 0.0}
"""How tokens are chosen where an answer should not repeat itself: the likeliest ones of random weights do so, and an
engine that guesses from the text so far would come out ahead by that."""


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


def admissions(answer: Callable[[int], Iterator[object]], admit: Callable[[int], float]) -> dict[str, float]:
    """The pauses of one running answer, and of four, while a long prompt is admitted.

    answer(seed): one that would go on for longer. admit(seed): admits LONG_PROMPT_TOKENS and gives their TTFT, seconds.
    """
    return {"admission_alone_s": admit(50)} | _pauses(answer, admit, 1) | _pauses(answer, admit, 4)


def _pauses(answer: Callable[[int], Iterator[object]], admit: Callable[[int], float], rows: int) -> dict[str, float]:
    """In usual pauses: those just before and after."""
    seed = 100 * rows
    stop = threading.Event()
    times: list[list[float]] = [[] for _ in range(rows)]

    def follow(row: int) -> None:
        for _ in answer(seed + row):
            times[row].append(time.perf_counter())
            if stop.is_set():
                return

    def wait_for(tokens: int) -> None:
        wanted = [len(found) + tokens for found in times]
        while any(len(found) < count for found, count in zip(times, wanted, strict=True)):
            time.sleep(0.01)

    threads = [threading.Thread(target=follow, args=(row,)) for row in range(rows)]
    for thread in threads:
        thread.start()
    wait_for(1)
    all_run = time.perf_counter()
    wait_for(_TOKENS_AROUND)
    began = time.perf_counter()
    admitted_s = admit(seed + 50)
    ended = time.perf_counter()
    wait_for(_TOKENS_AROUND)
    stop.set()
    for thread in threads:
        thread.join()
    pairs = [pair for found in times for pair in itertools.pairwise(found)]
    before = [other - one for one, other in pairs if all_run < one and other < began]
    during = [other - one for one, other in pairs if began < other and one < ended]
    after = [other - one for one, other in pairs if ended < one]
    # Answers grow meanwhile, and longer ones take longer steps, whether anything is admitted or not.
    usual = statistics.mean(map(statistics.median, (before, after)))
    return {
        f"before_ms_of_{rows}": 1e3 * statistics.median(before),
        f"after_ms_of_{rows}": 1e3 * statistics.median(after),
        f"median_of_{rows}": statistics.median(during) / usual,
        f"p99_of_{rows}": _last_of(during, 100) / usual,
        f"worst_of_{rows}": max(during) / usual,
        f"admission_s_beside_{rows}": admitted_s,
    }


def _last_of(values: list[float], parts: int) -> float:
    """The value below which all but one of so many parts lie; of a few values, the largest."""
    return statistics.quantiles(values, n=parts)[-1] if len(values) >= parts else max(values)


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
