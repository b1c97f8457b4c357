"""The server beside its own engine alone and beside llama.cpp's server, over HTTP, on one machine.

engine    tokens a second that come out over HTTP, over those of the engine alone in a process, at 1 and 8 clients
llama     the same over llama-server -np 8 (Q4_0 of the same random checkpoint in the shape of Qwen2.5-0.5B), at 1, 8
          and 32 clients, and the time to the first token
start     seconds from `edgeship serve` to ready, beyond those that the engine itself takes to load
overload  200 clients at once on 8 slots: what they are answered, and how long /health/live takes meanwhile
refusal   the same where 16 may wait: how long it takes until the others are told to come back later, and beside it how
          long an application takes that says so to everybody and does nothing else, on the same machine
fair      one request for 256 answers, and beside it another client that asks for one at a time
kill      the process of one of two models is killed under load: what becomes of all requests, and when it is back
soak      mixed load (--minutes): answers, cancelled answers, bad requests, long prompts, schemas; growth of memory

Every token of the random checkpoint has text, so that each leaves an event in both servers' streams; `text_events`
beside `new_tokens` shows it for one answer. Both get the same token ids, go on past the end of an answer, and draw from
the forty likeliest tokens: the likeliest ones of random weights repeat themselves, which guessing would gain from.

The last line printed is one JSON object with the figures; those called `target` judge them.
usage: bench_serve.py [--only engine,llama,...] [--rounds N] [--minutes N]
"""

from __future__ import annotations

import argparse
import http.client
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import bench_engine
import burst
import engine_parts
import http_client
import llama_server
import peers
import psutil
import serve_soak
import streams
import turns
from http_client import HOST
from peers import WORK
from turns import CORES, Figures, in_turns, medians

SLOTS, CONTEXT_TOKENS = 8, 2048
CLIENTS = {1: 4, 8: 4, 32: 2}
"""How many there are, and how many requests each makes, one after another."""
OVERLOAD_CLIENTS, OVERLOAD_TOKENS = 200, 16
KILL_CLIENTS = 12
"""Of each model: more than it has slots."""
KILL_TOKENS = {bench_engine.package: 300, bench_engine.example: 1900}
"""So many that no answer is complete within a second."""
_MAY_WAIT, _MANY = 16, 256
_REST_S = 3
"""After a burst, for what it has left to be answered."""
_START_S = 120
SOAK_KV_MEMORY = "50MB"
"""A third of it for what was asked before; the slots of the example have the rest."""


def engine(rounds: int) -> Figures:
    figures: Figures = {}
    for clients in (1, 8):
        asked = {"clients": clients, "requests": CLIENTS[clients], "sampling": streams.DRAWN}
        job = {"folder": str(bench_engine.package())} | asked
        runs = in_turns(
            rounds,
            {
                "engine": lambda job=job: turns.child(engine_parts.__file__, "closed", job),  # type: ignore[misc]
                "serve": partial(_served, clients),
            },
        )
        found = medians(runs)
        figures |= {f"{name}_of_{clients}": value for name, value in found.items()}
        figures[f"output_of_{clients}"] = found["serve_tokens_per_s"] / found["engine_tokens_per_s"]
    return figures | {"target": {"output_of_1": 0.97, "output_of_8": 0.97}}


def llama(rounds: int) -> Figures:
    figures: Figures = {}
    for clients in CLIENTS:
        found = medians(in_turns(rounds, {"serve": partial(_served, clients), "llama": partial(_llama, clients)}))
        figures |= {f"{name}_of_{clients}": value for name, value in found.items()}
        figures[f"output_of_{clients}"] = found["serve_tokens_per_s"] / found["llama_tokens_per_s"]
        figures[f"ttft_of_{clients}"] = found["serve_ttft_p50_s"] / found["llama_ttft_p50_s"]
    output = {"output_of_1": 1.10, "output_of_8": 1.35, "output_of_32": 1.35}
    return figures | {"target": output | {f"ttft_of_{clients}": "at most 1" for clients in CLIENTS}}


def start(rounds: int) -> Figures:
    folder = bench_engine.package()
    runs = in_turns(
        rounds,
        {
            "engine": lambda: turns.child(engine_parts.__file__, "load", {"folder": str(folder)}),
            "serve": lambda: _started(folder),
        },
    )
    figures = medians(runs)
    figures["more_s"] = figures["serve_ready_s"] - figures["engine_ready_s"]
    return figures | {"target": {"more_s": "under 1.5"}}


def overload(_: int) -> Figures:
    """Every client asks once, all at the same moment."""
    folder = bench_engine.package()
    with serving(folder) as port:
        said, health = Counter[str](), list[float]()
        over = threading.Event()

        def ask(seed: int) -> None:
            said.update([_outcome(port, folder, _prompt(seed, streams.PROMPT_TOKENS), OVERLOAD_TOKENS)])

        asking = [threading.Thread(target=ask, args=(seed,)) for seed in range(OVERLOAD_CLIENTS)]
        looking = threading.Thread(target=_look, args=(port, over, health))
        for thread in (looking, *asking):
            thread.start()
        for thread in asking:
            thread.join()
        over.set()
        looking.join()
    figures = {"said": dict(said), "health_checks": len(health), "health_p99_ms": 1e3 * _p99(health)}
    return figures | {"target": {"said": "answers and 429 only", "health_p99_ms": "under 50"}}


def refusal(rounds: int) -> Figures:
    """Bursts on the example, whose engine leaves the machine some time; the first one warms up and does not count."""
    port = http_client.free_port()
    bare = subprocess.Popen([sys.executable, burst.__file__, str(port)])
    try:
        with serving(bench_engine.example(), options=("--max-waiting", str(_MAY_WAIT))) as ours:
            found: dict[str, list[burst.Answer]] = {"bare": [], "serve": []}
            for number in range(rounds + 1):
                for name, asked in (("bare", port), ("serve", ours)):
                    answers = _burst(asked, number)
                    found[name] += answers if number else []
                time.sleep(_REST_S)
    finally:
        bare.terminate()
        bare.wait()
    figures: Figures = {"said": dict(Counter(answer.status for answer in found["serve"]))}
    for name, refused in found.items():
        times = [1e3 * answer.seconds for answer in refused if answer.status == 429]
        figures |= {f"{name}_p50_ms": statistics.median(times), f"{name}_p99_ms": _p99(times)}
    figures["p50_over_bare"] = figures["serve_p50_ms"] / figures["bare_p50_ms"]
    retry = all(answer.retry_after for answer in found["serve"] if answer.status == 429)
    return figures | {"retry_after": retry, "target": {"serve_p50_ms": "under 50", "said": "answers and 429 only"}}


def fair(rounds: int) -> Figures:
    """How long the small requests take, alone and beside the large one; and the large one alone, and beside these."""
    with serving(bench_engine.example()) as port:
        _many(port, 1)
        alone_s = statistics.median(_small(port, number) for number in range(10 * rounds))
        many_s = [_many(port, number) for number in range(rounds)]
        beside: list[float] = []
        both_s: list[float] = []
        for number in range(rounds):
            large = threading.Thread(target=lambda number=number: both_s.append(_many(port, rounds + number)))
            large.start()
            time.sleep(0.1)
            while large.is_alive():
                beside.append(_small(port, len(beside)))
            large.join()
    return {
        "small_alone_s": alone_s,
        "small_beside_p50_s": statistics.median(beside),
        "small_beside_most_s": max(beside),
        "many_alone_s": statistics.median(many_s),
        "many_beside_s": statistics.median(both_s),
    }


def kill(_: int) -> Figures:
    """Answers of two models are running, and more of them wait, when the first one's process is killed."""
    hit, other = bench_engine.package(), bench_engine.example()
    loads_s = turns.child(engine_parts.__file__, "load", {"folder": str(hit)})["ready_s"]
    with serving(hit, other) as port:
        for folder in KILL_TOKENS:
            list(http_client.complete(port, _prompt(0, 16), 2, model=folder().name))
        said: dict[str, Counter[str]] = {folder().name: Counter() for folder in KILL_TOKENS}

        def ask(folder: Path, seed: int, new: int) -> None:
            said[folder.name].update([_outcome(port, folder, _prompt(seed, 16), new)])

        threads = [
            threading.Thread(target=ask, args=(folder(), seed, new))
            for folder, new in KILL_TOKENS.items()
            for seed in range(KILL_CLIENTS)
        ]
        for thread in threads:
            thread.start()
        time.sleep(1)
        ended_before = sum(sum(found.values()) for found in said.values())
        _process_of(hit).kill()
        killed = time.perf_counter()
        # Whoever asks again is answered as soon as the model is back.
        while _outcome(port, hit, _prompt(1, 16), 1) != "answer":
            time.sleep(0.01)
        back_s = time.perf_counter() - killed
        for thread in threads:
            thread.join()
    figures = {"hit": dict(said[hit.name]), "other": dict(said[other.name]), "ended_before": ended_before}
    target = {"hit": "answers and errors only", "other": "answers only", "back_s": "load_s + 1 at most"}
    return figures | {"back_s": back_s, "load_s": loads_s, "target": target | {"ended_before": 0}}


def soak(minutes: float) -> Figures:
    """On the example: many requests in little time. Its cache of prompts is small, so that it is full when we count."""
    with serving(bench_engine.example(), options=("--kv-memory", SOAK_KV_MEMORY), variables=turns.PLAIN_MALLOC) as port:
        return serve_soak.run(port, _server_process(port), 60 * minutes)


# --- what they share -------------------------------------------------------------------------------------------------


@contextmanager
def serving(*folders: Path, options: Sequence[str] = (), variables: Mapping[str, str] | None = None) -> Iterator[int]:
    """The port of a server for these packages, once it is ready. variables: added to its environment."""
    port = http_client.free_port()
    words = [*_words(port, *folders), *options]
    environment = _variables() | dict(variables or {})
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=sys.stderr, env=environment)
    try:
        _wait(port, process)
        yield port
    finally:
        process.terminate()
        process.wait()


def _words(port: int, *folders: Path) -> list[str]:
    words = [sys.executable, "-m", "edgeship", "serve", *map(str, folders), "--host", HOST, "--port", str(port)]
    return [*words, "--slots", str(SLOTS), "--context", str(CONTEXT_TOKENS)]


def _variables() -> dict[str, str]:
    return os.environ | {"EDGESHIP_HOME": str(WORK / "home"), "TOKENIZERS_PARALLELISM": "false"}


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError):
            if http_client.status_of(port, "/health/ready")[0] == 200:
                return
        time.sleep(0.02)
    raise SystemExit(f"edgeship serve was not ready within {_START_S} s; its status is {process.returncode}")


def _started(folder: Path) -> Figures:
    began = time.perf_counter()
    with serving(folder):
        return {"ready_s": time.perf_counter() - began}


def _served(clients: int) -> Figures:
    with serving(bench_engine.package()) as port:
        return _closed(port, clients, model=bench_engine.package().name)


def _llama(clients: int) -> Figures:
    binaries, gguf = peers.llama_cpp().binaries, bench_engine.gguf()
    with llama_server.serving(binaries, gguf, CORES, slots=SLOTS, context=SLOTS * CONTEXT_TOKENS) as port:
        return _closed(port, clients, cache_prompt=False)


def _closed(port: int, clients: int, **more: Any) -> Figures:
    """Clients in a closed loop, with prompts that nobody has asked before."""
    new, settings = streams.NEW_TOKENS, streams.DRAWN | more
    told = http_client.told(port, _prompt(0, streams.PROMPT_TOKENS), new, **settings)
    assert (told["prompt_tokens"], told["new_tokens"]) == (streams.PROMPT_TOKENS, new), told
    time.sleep(engine_parts.SETTLING_S)

    def ask(number: int) -> Iterator[object]:
        return http_client.complete(port, _prompt(number + 1, streams.PROMPT_TOKENS), new, **settings)

    found: Figures = streams.closed_loop(ask, clients, CLIENTS[clients])
    return told | found


def _prompt(seed: int, length: int) -> list[int]:
    return random.Random(seed).choices(range(200, 900) if length < 20 else range(1000, 100_000), k=length)


def _outcome(port: int, folder: Path, prompt: list[int], new: int) -> str:
    """What a client is answered in the end."""
    try:
        tokens = sum(http_client.complete(port, prompt, new, model=folder.name))
    except http_client.Broken:
        return "error event"
    except http_client.Refused as refused:
        return str(refused.status)
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    return "answer" if tokens == new else f"{tokens} tokens"


def _burst(port: int, seed: int) -> list[burst.Answer]:
    body = {"model": bench_engine.example().name, "prompt": _prompt(seed, 16), "max_tokens": 200, "ignore_eos": True}
    return burst.ask(port, "/v1/completions", body, OVERLOAD_CLIENTS)


def _many(port: int, seed: int) -> float:
    """Seconds of a request for as many answers as one may want."""
    return _asked_s(port, [_prompt(1000 * seed + number, 16) for number in range(_MANY)], 64)


def _small(port: int, seed: int) -> float:
    return _asked_s(port, [_prompt(1_000_000 + seed, 16)], 8)


def _asked_s(port: int, prompts: list[list[int]], tokens: int) -> float:
    began = time.perf_counter()
    body = {"model": bench_engine.example().name, "prompt": prompts, "max_tokens": tokens, "ignore_eos": True}
    assert http_client.posted(port, "/v1/completions", body) == 200
    return time.perf_counter() - began


def _look(port: int, over: threading.Event, seen: list[float]) -> None:
    while not over.wait(0.02):
        status, seconds = http_client.status_of(port, "/health/live")
        assert status == 200
        seen.append(seconds)


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[-1] if len(values) >= 100 else max(values)


def _server_process(port: int) -> psutil.Process:
    for connection in psutil.net_connections("tcp"):
        if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
            return psutil.Process(connection.pid)
    raise SystemExit(f"nobody listens on port {port}")


def _process_of(folder: Path) -> psutil.Process:
    """The process that runs this package: the one among this script's that has its weights open."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if any(str(folder) in part.path for part in process.memory_maps()):
                return process
    raise SystemExit(f"no process runs {folder}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sections: dict[str, Callable[[int], Figures]] = {
        "engine": engine,
        "llama": llama,
        "start": start,
        "overload": overload,
        "refusal": refusal,
        "fair": fair,
        "kill": kill,
    }
    parser.add_argument("--only", default=",".join(sections))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=30, help="of soak, which runs only where --only names it")
    arguments = parser.parse_args()
    asked: dict[str, Callable[[], Figures]] = {
        name: partial(section, arguments.rounds) for name, section in sections.items()
    }
    asked["soak"] = partial(soak, arguments.minutes)
    turns.report(parser, asked, arguments.only, {"rounds": arguments.rounds, "versions": peers.versions()})


if __name__ == "__main__":
    main()
