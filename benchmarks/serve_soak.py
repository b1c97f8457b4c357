"""Mixed load on a server for a long time: whether it grows, loses a slot, a thread or a handle, or fails."""

from __future__ import annotations

import http.client
import itertools
import random
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import http_client
import psutil
from turns import Figures

CLIENTS, PARTS, REST_S = 6, 10, 3.0
QUESTION = [{"role": "user", "content": "Where is the parcel with my wall clock (order S-94462)?"}]
SCHEMA = {"type": "object", "properties": {"intent": {"enum": ["refund", "other"]}}, "required": ["intent"]}
# Two-sided, for nine degrees of freedom.
_T_95 = 2.26


def answer(port: int, chance: random.Random) -> None:
    """A whole answer, as a stream."""
    _chat(port, messages=QUESTION, max_tokens=chance.randint(1, 40))


def seeded(port: int, chance: random.Random) -> None:
    """Drawn tokens."""
    _chat(port, messages=QUESTION, temperature=1.0, seed=chance.randint(0, 9), max_tokens=20)


def cancelled(port: int, chance: random.Random) -> None:
    """A client that goes after a few tokens."""
    events = http_client.events(port, "/v1/chat/completions", _body(messages=QUESTION, max_tokens=200, ignore_eos=True))
    for _, _ in zip(range(chance.randint(1, 5)), events, strict=False):
        pass
    events.close()  # type: ignore[attr-defined] # it is a generator


def bad(port: int, chance: random.Random) -> None:
    """What has to be refused."""
    wrong: list[dict[str, Any]] = [
        {"messages": []},
        {"messages": QUESTION, "temperature": -1},
        {"unknown": 1},
        {"messages": QUESTION, "n": 99},
    ]
    try:
        _chat(port, **chance.choice(wrong))
    except http_client.Refused as refused:
        if refused.status != 400:
            raise
    else:
        raise AssertionError("a bad request was answered")


def long_prompt(port: int, chance: random.Random) -> None:
    """Most of the context, some of it new each time."""
    text = " ".join(chance.choice(["parcel", "order", "clock", "refund"]) for _ in range(150))
    _chat(port, messages=[{"role": "user", "content": text}], max_tokens=4)


def constrained(port: int, chance: random.Random) -> None:
    """An answer that is held to a schema, one of ten."""
    schema = SCHEMA | {"title": str(chance.randint(0, 9))}
    wrapped = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    _chat(port, messages=QUESTION, response_format=wrapped, max_tokens=60)


KINDS: tuple[Callable[[int, random.Random], None], ...] = (answer, seeded, cancelled, bad, long_prompt, constrained)
_NAMES = {kind.__name__ for kind in KINDS}


def run(port: int, server: psutil.Process, seconds: float) -> Figures:
    """Growth of each process over the second half of the time; the first fills what allocators and caches keep.

    Between parts of the time nobody asks anything for a moment, and only then is memory looked at: what answers hold
    while they are made is not growth. The slope is the mean growth over the parts of the second half, with the standard
    error of that mean: sizes depend on those before them, and a straight line through them would look surer than it is.

    Some of the server's growth ends only after hours: CPython remembers 4,096 names of attributes that were looked
    up, also those that are made on the way, as by `reprlib` for a value that is refused.
    """
    said, samples = Counter[str](), list[_Sample]()
    for part in range(2 * PARTS):
        _load(port, said, seconds / 2 / PARTS - REST_S, seed=part * CLIENTS)
        time.sleep(REST_S)
        samples.append(_sample(port, server, said))
        print(f"part {part + 1} of {2 * PARTS}: {samples[-1]}", file=sys.stderr, flush=True)
    counted = samples[-PARTS - 1 :]
    first, last = counted[0], counted[-1]
    return {
        "said": dict(said),
        "unexpected": sum(count for what, count in said.items() if what not in _NAMES),
        "requests_counted": last.requests - first.requests,
        "server": _growth([(one.server_bytes, one.requests) for one in counted]),
        "engine": _growth([(one.engine_bytes, one.requests) for one in counted]),
        "cache_bytes": [first.cache_bytes, last.cache_bytes],
        "threads_left": last.threads - first.threads,
        "handles_left": last.handles - first.handles,
        "running_left": last.running,
        "target": {
            "unexpected": 0,
            "server": "slope_bytes_per_request within sure_to of 0",
            "engine": "slope_bytes_per_request within sure_to of 0, with cache_bytes the same",
            **dict.fromkeys(("threads_left", "handles_left", "running_left"), 0),
        },
    }


@dataclass(frozen=True)
class _Sample:
    """A moment at which nobody asks. cache_bytes: what the engine keeps of prompts; it grows up to its bound."""

    requests: int
    server_bytes: int
    engine_bytes: int
    cache_bytes: int
    threads: int
    handles: int
    running: int


def _growth(sizes: list[tuple[int, int]]) -> Figures:
    """The slope of (bytes, requests), and how far from the true one it may be, with 95 % confidence."""
    slopes = [
        (after - before) / max(1, asked - asked_before)
        for (before, asked_before), (after, asked) in itertools.pairwise(sizes)
    ]
    return {
        "bytes": sizes[-1][0],
        "slope_bytes_per_request": statistics.mean(slopes),
        "sure_to": _T_95 * statistics.stdev(slopes) / len(slopes) ** 0.5,
    }


def _load(port: int, said: Counter[str], seconds: float, seed: int) -> None:
    over = threading.Event()
    clients = [threading.Thread(target=_client, args=(port, seed + number, said, over)) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    time.sleep(seconds)
    over.set()
    for client in clients:
        client.join()


def _client(port: int, seed: int, said: Counter[str], over: threading.Event) -> None:
    chance = random.Random(seed)
    while not over.is_set():
        kind = chance.choice(KINDS)
        try:
            kind(port, chance)
            said[kind.__name__] += 1
        except Exception as error:
            said[f"{kind.__name__}: {type(error).__name__}: {str(error)[:200]}"] += 1


def _chat(port: int, **body: Any) -> None:
    last = list(http_client.events(port, "/v1/chat/completions", _body(**body)))[-1]
    assert "error" not in last, last


def _body(**body: Any) -> dict[str, Any]:
    return {"model": "engine-example", "stream": True, **body}


def _sample(port: int, server: psutil.Process, said: Counter[str]) -> _Sample:
    children = server.children(recursive=True)
    family = [server, *children]
    # Counted before the server is asked for its metrics over a connection, which takes a handle of its own.
    return _Sample(
        requests=sum(said.values()),
        threads=sum(one.num_threads() for one in family),
        handles=sum(one.num_fds() if hasattr(one, "num_fds") else one.num_handles() for one in family),
        server_bytes=_own_bytes(server),
        engine_bytes=sum(map(_own_bytes, children)),
        cache_bytes=_metric(port, "edgeship_prefix_cache_bytes"),
        running=_metric(port, "edgeship_num_requests_running"),
    )


def _own_bytes(process: psutil.Process) -> int:
    """Resident memory; without pages of files where the system tells them apart, since weights are read as needed."""
    found = process.memory_info()
    return int(found.rss - getattr(found, "shared", 0))


def _metric(port: int, name: str) -> int:
    """The sum of a metric over all models, as the server tells it."""
    connection = http.client.HTTPConnection(http_client.HOST, port)
    try:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    finally:
        connection.close()
    return int(sum(float(line.split()[-1]) for line in lines if line.startswith(name)))
