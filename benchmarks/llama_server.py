"""llama.cpp measured by the same workloads: llama-bench for one stream, llama-server over HTTP for more."""

from __future__ import annotations

import http.client
import json
import os
import random
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import http_client
import streams
import turns
from http_client import HOST

_ENVIRONMENT = os.environ | turns.HUGE_PAGES


def bench(binaries: Path, gguf: Path, threads: int) -> dict[str, float]:
    """One stream: 512 tokens in, 64 out, three repeats."""
    words = [str(binaries / "llama-bench"), "-m", str(gguf), "-p", "512", "-n", "64", "-t", str(threads)]
    done = subprocess.run(
        [*words, "-r", "3", "-o", "json"], check=True, capture_output=True, text=True, env=_ENVIRONMENT
    )
    prefill, decode = json.loads(done.stdout)
    return {"prefill_tokens_per_s": prefill["avg_ts"], "decode_tokens_per_s": decode["avg_ts"]}


def context(binaries: Path, gguf: Path, threads: int, lengths: Sequence[int]) -> dict[str, float]:
    """Decode of one stream after so many tokens; each once, since long prompts take minutes to be read."""
    words = [str(binaries / "llama-bench"), "-m", str(gguf), "-p", "0", "-n", "48", "-t", str(threads), "-r", "1"]
    depths = ",".join(map(str, lengths))
    done = subprocess.run(
        [*words, "-d", depths, "-o", "json"], check=True, capture_output=True, text=True, env=_ENVIRONMENT
    )
    return {f"decode_{found['n_depth']}_tokens_per_s": found["avg_ts"] for found in json.loads(done.stdout)}


def sampled(binaries: Path, gguf: Path, threads: int) -> dict[str, float]:
    """Decode of one stream with tokens drawn from all of the vocabulary, over that of greedy ones, in turns."""
    kinds: dict[str, dict[str, float]] = {
        "greedy": {},
        "sampled": {"temperature": 0.7, "top_p": 0.9, "top_k": 0, "min_p": 0},
    }
    speeds: dict[str, list[float]] = {name: [] for name in kinds}
    with serving(binaries, gguf, threads, slots=1, context=2048) as port:
        for seed in range(4):
            for name, settings in kinds.items():
                times = [time.perf_counter() for _ in _complete(port, _prompt(seed, 64), 64, cached=False, **settings)]
                speeds[name].append((len(times) - 1) / (times[-1] - times[0]))
    found = {name: statistics.median(measured[1:]) for name, measured in speeds.items()}
    return {f"{name}_tokens_per_s": speed for name, speed in found.items()} | {
        "ratio": found["sampled"] / found["greedy"]
    }


def eight(binaries: Path, gguf: Path, threads: int) -> Any:
    """Eight clients, with nothing kept between prompts."""
    with serving(binaries, gguf, threads, slots=8, context=8 * 2048) as port:
        list(_complete(port, _prompt(0, 16), 4, cached=False))

        def ask(number: int) -> Iterator[object]:
            return _complete(port, _prompt(number + 1, streams.PROMPT_TOKENS), streams.NEW_TOKENS, cached=False)

        return streams.closed_loop(ask)


def prefix(binaries: Path, gguf: Path, threads: int) -> dict[str, float]:
    """TTFT of a prompt of 700 tokens, and of its second turn."""
    with serving(binaries, gguf, threads, slots=1, context=2048) as port:
        list(_complete(port, _prompt(0, 16), 4, cached=False))
        prompt = _prompt(1, 700)
        cold, said = _ttft(port, prompt, 20)
        warm, _ = _ttft(port, prompt + said + _prompt(2, 14), 4)
    return {"cold_s": cold, "second_s": warm, "ratio": warm / cold}


def itl(binaries: Path, gguf: Path, threads: int) -> dict[str, float]:
    """The longest pause of running answers while a long prompt is admitted."""
    with serving(binaries, gguf, threads, slots=8, context=8 * 2048) as port:
        list(_complete(port, _prompt(0, 300), 16, cached=False))

        def answer(seed: int) -> Iterator[object]:
            return _complete(port, _prompt(seed, 64), 1900, cached=False)

        def admit(seed: int) -> float:
            return _ttft(port, _prompt(seed, streams.LONG_PROMPT_TOKENS), 1, cached=False)[0]

        return streams.admissions(answer, admit)


def _ttft(port: int, prompt: list[int], new: int, *, cached: bool = True) -> tuple[float, list[int]]:
    started, first, said = time.perf_counter(), 0.0, []
    for tokens in _complete(port, prompt, new, cached=cached):
        first = first or time.perf_counter() - started
        said += tokens
    return first, said


def _prompt(seed: int, length: int) -> list[int]:
    return random.Random(seed).choices(range(1000, 100_000), k=length)


def _complete(port: int, prompt: list[int], new: int, *, cached: bool, **settings: float) -> Iterator[list[int]]:
    """The tokens of one answer as they come; the likeliest ones, unless `settings` say otherwise."""
    body = {
        "prompt": prompt,
        "n_predict": new,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "cache_prompt": cached,
        "return_tokens": True,
    } | settings
    connection = http.client.HTTPConnection(HOST, port, timeout=600)
    connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
    try:
        for line in connection.getresponse():
            if line.startswith(b"data: "):
                event = json.loads(line[6:])
                if event.get("tokens"):
                    yield event["tokens"]
    finally:
        connection.close()  # before the end it cancels


@contextmanager
def serving(binaries: Path, gguf: Path, threads: int, *, slots: int, context: int) -> Iterator[int]:
    """The port of a server, once it is ready. context: tokens of all slots together."""
    port = http_client.free_port()
    words = [str(binaries / "llama-server"), "-m", str(gguf), "--host", HOST, "--port", str(port), "-np", str(slots)]
    words += ["-c", str(context), "-t", str(threads), "--no-webui"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_ENVIRONMENT)
    try:
        _wait(port, process)
        yield port
    finally:
        process.kill()
        process.wait()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"llama-server ended with status {process.returncode}")
        try:
            connection = http.client.HTTPConnection(HOST, port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise SystemExit("llama-server did not answer within two minutes")
