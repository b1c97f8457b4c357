"""Mixed load on a server for a long time: whether it grows, loses a slot, a thread or a handle, or fails."""

from __future__ import annotations

import http.client
import itertools
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import http_client
import psutil
from turns import Figures

CLIENTS, PARTS = 6, 10
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


def run(port: int, process: psutil.Process, seconds: float) -> Figures:
    """Half of the time fills what allocators and caches keep; the growth of the other half counts.

    The slope is the mean growth over tenths of that half, with the standard error of that mean.
    """
    said, over = Counter[str](), threading.Event()
    clients = [threading.Thread(target=_client, args=(port, seed, said, over)) for seed in range(CLIENTS)]
    for client in clients:
        client.start()
    time.sleep(seconds / 2)
    samples = [_sample(process, said)]
    for _ in range(PARTS):
        time.sleep(seconds / 2 / PARTS)
        samples.append(_sample(process, said))
    over.set()
    for client in clients:
        client.join()
    requests = samples[-1]["requests"] - samples[0]["requests"]
    growth = [
        (after["bytes"] - before["bytes"]) / max(1, after["requests"] - before["requests"])
        for before, after in itertools.pairwise(samples)
    ]
    error = statistics.stdev(growth) / len(growth) ** 0.5
    return {
        "said": dict(said),
        "requests_counted": requests,
        "slope_bytes_per_request": statistics.mean(growth),
        "standard_error": error,
        "threads_left": samples[-1]["threads"] - samples[0]["threads"],
        "handles_left": samples[-1]["handles"] - samples[0]["handles"],
        "running_left": _running(port),
        "target": {
            "said": "as expected only",
            "slope_bytes_per_request": f"within {_T_95} standard errors of 0",
            "running_left": 0,
        },
    }


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


def _sample(process: psutil.Process, said: Counter[str]) -> dict[str, int]:
    """Of the server and its models' processes together."""
    family = [process, *process.children(recursive=True)]
    return {
        "bytes": sum(_own_bytes(one) for one in family),
        "threads": sum(one.num_threads() for one in family),
        "handles": sum(one.num_fds() if hasattr(one, "num_fds") else one.num_handles() for one in family),
        "requests": sum(said.values()),
    }


def _own_bytes(process: psutil.Process) -> int:
    found = process.memory_info()
    return int(found.rss - getattr(found, "shared", 0))


def _running(port: int) -> int:
    """Answers that the server believes to be running a while after the last client has gone."""
    time.sleep(2)
    connection = http.client.HTTPConnection(http_client.HOST, port)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    found = [line for line in lines if line.startswith("edgeship_num_requests_running")]
    return int(sum(float(line.split()[-1]) for line in found))
