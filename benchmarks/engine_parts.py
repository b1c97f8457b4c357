"""One measurement of the engine in a process of its own. usage: engine_parts.py PART JOB; prints one JSON object."""

from __future__ import annotations

import ctypes
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import random_checkpoint
import streams

from edgeship.engine.answer import ask, collect
from edgeship.engine.api import Constraint, Conversation, Engine, Limits, Prompt, Sampling, Usage
from edgeship.engine.isolated import IsolatedEngine
from edgeship.engine.opening import EngineOptions, open_batched
from edgeship.engine.tune import EXACT, Setting, Trial, Tuning
from edgeship.system import machine

Figures = dict[str, Any]
REPEATS = 3
KV_TOKEN_BYTES = 24 * 2 * 2 * 64 * 4  # the 0.5 B shape: layers, keys and values, heads, head size, float32
COPIED_TOKENS = 256
# An engine that nobody asks moves its weights to huge pages. The peers do so while they load.
SETTLING_S = 2.0
_PARTS = 10
INTENTS = ["refund", "delivery_status", "damaged_item", "cancel_order"]
INTENTS += ["change_address", "invoice_copy", "technical_help", "other"]
SCHEMA = {
    "type": "object",
    "properties": {"intent": {"enum": INTENTS}}
    | {name: {"type": ["string", "null"]} for name in ("order", "product", "name")},
    "required": ["intent", "order", "product", "name"],
    "additionalProperties": False,
}


def single(job: Figures) -> Figures:
    """Prefill and decode of one stream, through the contract."""
    model = _load(job, slots=1)
    runs = [_ask(model, _prompt(seed, 512), 64) for seed in range(REPEATS + 1)][1:]
    return {
        "prefill_tokens_per_s": statistics.median(512 / usage.ttft_s for usage in runs),
        "decode_tokens_per_s": statistics.median(usage.decode_tokens_per_s or 0 for usage in runs),
    }


def context(job: Figures) -> Figures:
    """Decode of one stream after prompts of several lengths; each once, since long ones take minutes to be read."""
    lengths = job["lengths"]
    model = _load(job, slots=1, context=max(lengths) + 64, speculation=False)
    _ask(model, _prompt(0, min(lengths)), 48)
    speeds = {length: _ask(model, _prompt(1, length), 48).decode_tokens_per_s or 0 for length in lengths}
    return {f"decode_{length}_tokens_per_s": speed for length, speed in speeds.items()}


def sampled(job: Figures) -> Figures:
    """Decode of one stream with tokens drawn from all of the vocabulary, over that of greedy ones, in turns.

    Guesses are off: only greedy answers of random weights repeat themselves, and would come out ahead by that.
    """
    model = _load(job, slots=1, speculation=False)
    kinds = {"greedy": _greedy(64), "sampled": replace(_greedy(64), temperature=0.7, top_p=0.9, top_k=0)}
    speeds: dict[str, list[float]] = {name: [] for name in kinds}
    for seed in range(REPEATS + 1):
        for name, sampling in kinds.items():
            usage = collect(model.stream(_prompt(seed, 64), sampling)).usage
            speeds[name].append(usage.decode_tokens_per_s or 0)
    return _over_greedy({name: statistics.median(found[1:]) for name, found in speeds.items()})


def _over_greedy(speeds: dict[str, float]) -> Figures:
    figures: Figures = {f"{name}_tokens_per_s": speed for name, speed in speeds.items()}
    return figures | {"ratio": speeds["sampled"] / speeds["greedy"]}


def genai_loop(job: Figures) -> Figures:
    """onnxruntime-genai's own loop with as many threads."""
    import onnxruntime_genai as og

    config = og.Config(job["folder"])
    config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": job["threads"]}}}}))
    model = og.Model(config)
    prefill, decode = [], []
    for seed in range(REPEATS + 1):
        times = list(_genai_answer(og, model, _prompt(seed, 512), 64))
        prefill.append(512 / (times[1] - times[0]))
        decode.append(63 / (times[-1] - times[1]))
    return {
        "prefill_tokens_per_s": statistics.median(prefill[1:]),
        "decode_tokens_per_s": statistics.median(decode[1:]),
    }


def load(job: Figures) -> Figures:
    """How long it takes until the package can be asked, in a process of its own, as the server has it."""
    began = time.perf_counter()
    with IsolatedEngine(Path(job["folder"]), limits=Limits(slots=8, context_tokens=2048)):
        return {"ready_s": time.perf_counter() - began}


def eight(job: Figures) -> Figures:
    """Eight clients in a closed loop; nothing is kept between prompts."""
    return closed(job | {"clients": streams.CLIENTS, "requests": streams.REQUESTS})


def closed(job: Figures) -> Figures:
    """Clients in a closed loop, each with so many requests. sampling: how tokens are chosen, else the likeliest."""
    model = _load(job, slots=8)
    _ask(model, _prompt(999, 16), 4)
    sampling = replace(_greedy(streams.NEW_TOKENS), **job.get("sampling", {}))

    def answer(number: int) -> Iterator[object]:
        yield from model.stream(_prompt(number, streams.PROMPT_TOKENS), sampling)

    found: Figures = streams.closed_loop(answer, job["clients"], job["requests"])
    return found


def genai_eight(job: Figures) -> Figures:
    """onnxruntime-genai as it comes: a generator for each of eight clients, which take turns at one model."""
    import onnxruntime_genai as og

    model, turn = og.Model(job["folder"]), threading.Lock()

    def answer(number: int) -> Iterator[object]:
        times = _genai_answer(og, model, _prompt(number, streams.PROMPT_TOKENS), streams.NEW_TOKENS, turn)
        next(times)
        return times

    # A quarter of the requests: it is slow, and speed does not depend on how many there are.
    found: Figures = streams.closed_loop(answer, requests=1)
    return found


def prefix(job: Figures) -> Figures:
    """TTFT of a prompt of 700 tokens, and of its second turn."""
    model = _load(job, slots=2, kv_bytes=10**9)
    _ask(model, _prompt(0, 16), 4)
    first = _prompt(1, 700)
    cold = collect(model.stream(first, _greedy(20)))
    second = Prompt(first.tokens + cold.tokens + _prompt(2, 14).tokens)
    warm = collect(model.stream(second, _greedy(4)))
    return {
        "cold_s": cold.usage.ttft_s,
        "second_s": warm.usage.ttft_s,
        "ratio": warm.usage.ttft_s / cold.usage.ttft_s,
        "cached_tokens": warm.usage.cached_tokens,
    }


def itl(job: Figures) -> Figures:
    """The longest pause of running answers while a long prompt is admitted. No guesses: they come in bursts."""
    model = _load(job, slots=8, speculation=False)
    _ask(model, _prompt(0, 300), 16)

    def answer(seed: int) -> Iterator[object]:
        yield from model.stream(_prompt(seed, 64), _greedy(1900))

    def admit(seed: int) -> float:
        return _ask(model, _prompt(seed, streams.LONG_PROMPT_TOKENS), 1).ttft_s

    return streams.admissions(answer, admit)


def grammar(job: Figures) -> Figures:
    """The example's answers, free and held to their schema, one stream; the same cases in turns."""
    model, cases = _load(job, slots=1), read_cases(job["cases"], 60)
    constraint = Constraint("json_schema", json.dumps(SCHEMA))
    settings = {"free": Sampling(temperature=0.0, repetition_penalty=1.0, max_tokens=100)}
    settings["held"] = Sampling(temperature=0.0, repetition_penalty=1.0, max_tokens=100, constraint=constraint)
    return _compare(model, cases, settings, "held", "free")


def lookup(job: Figures) -> Figures:
    """The example's answers, without and with guesses: two engines, the same cases."""
    cases = read_cases(job["cases"], 60)
    greedy = Sampling(temperature=0.0, repetition_penalty=1.0, max_tokens=100)
    found: Figures = {}
    for name, speculation in (("plain", False), ("guessing", None), ("always", True)):
        model = _load(job, slots=1, speculation=speculation)
        found |= {f"{name}_{key}": value for key, value in _speed(model, cases, greedy).items()}
        model.close()
    return found | {"ratio": found["guessing_tokens_per_s"] / found["plain_tokens_per_s"]}


def lookup_copying(job: Figures) -> Figures:
    """Answers three quarters of which stand in the prompt, in runs of 24 tokens with others between them."""
    found: Figures = {}
    for name, speculation in (("plain", False), ("guessing", None)):
        model = _load(job, slots=1, speculation=speculation)
        _ask(model, _prompt(0, 64), 8)
        answers = [collect(model.stream(*_copying(seed))) for seed in range(4)]
        usages = [answer.usage for answer in answers]
        found |= {
            f"{name}_tokens_per_s": statistics.median(usage.decode_tokens_per_s or 0.0 for usage in usages),
            f"{name}_accepted_share": statistics.mean(usage.accepted_tokens / COPIED_TOKENS for usage in usages),
            f"{name}_as_foreseen": statistics.mean(
                list(answer.tokens) == _text_to_copy(seed) for seed, answer in enumerate(answers)
            ),
        }
        model.close()
    return found | {"ratio": found["guessing_tokens_per_s"] / found["plain_tokens_per_s"]}


def _copying(seed: int) -> tuple[Prompt, Sampling]:
    text, others = _text_to_copy(seed), iter(_prompt(seed + 1000, COPIED_TOKENS).tokens)
    source = [token if index % 32 < 24 else next(others) for index, token in enumerate(text)]
    return Prompt((*source, random_checkpoint.successor(text[0], -1))), _greedy(COPIED_TOKENS)


def _text_to_copy(seed: int) -> list[int]:
    """What the model of `random_checkpoint.make_succeeding` is going to say."""
    return [random_checkpoint.successor(1000 + seed, step) for step in range(COPIED_TOKENS)]


def same(job: Figures) -> Figures:
    """Share of answers that are, token for token, the same beside seven others as alone; by activations and seed."""
    prompts = [_prompt(seed, length) for seed, length in enumerate((5, 63, 190, 17, 400, 33, 700, 96))]
    settings = {
        "int8_seeded": (None, replace(_greedy(48), temperature=1.0, seed=1)),
        "int8_greedy": (None, _greedy(48)),
        "float32_seeded": (EXACT, replace(_greedy(48), seed=1)),
        "float32_greedy": (EXACT, _greedy(48)),
    }
    found: Figures = {}
    for name, (accuracy_level, sampling) in settings.items():
        model = _load(job, slots=8, accuracy_level=accuracy_level)
        alone = [collect(model.stream(prompt, sampling)).tokens for prompt in prompts]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda prompt: collect(model.stream(prompt, sampling)).tokens, prompts))  # noqa: B023
        found[f"{name}_same"] = statistics.mean(one == other for one, other in zip(alone, together, strict=True))
        model.close()
    return found


def memory(job: Figures) -> Figures:
    """Resident memory of eight full slots beyond what there was after one short answer, weights aside."""
    model = _load(job, slots=8)
    _ask(model, _prompt(0, 300), 8)
    before = _rss()
    with ThreadPoolExecutor(8) as pool:
        # Long answers, so that no slot is free again before the last one is full.
        list(pool.map(lambda seed: _ask(model, _prompt(seed, 1024), 1024), range(1, 9)))
    grown, arithmetic = _rss() - before, 8 * 2048 * KV_TOKEN_BYTES
    return {"grown_bytes": grown, "arithmetic_bytes": arithmetic, "ratio": grown / arithmetic}


def soak(job: Figures) -> Figures:
    """Growth of memory over many short requests from eight threads, after as many that fill what allocators keep.

    The slope is the mean growth over tenths of the requests, with the standard error of that mean: single samples
    depend on each other, and a straight line through them would look surer than it is. blocks_left: objects of Python.
    """
    model, requests, process = _load(job, slots=8), int(job["requests"]), psutil.Process()
    part = max(1, requests // _PARTS)
    handles = process.num_fds() if hasattr(process, "num_fds") else process.num_handles()
    sizes: list[int] = []
    blocks: list[int] = []
    with ThreadPoolExecutor(8) as pool:
        for first in range(0, 2 * requests, part):
            list(pool.map(lambda seed: _ask(model, _prompt(seed, 24, 900), 4), range(first, first + part)))
            _give_free_pages_back()
            sizes.append(_rss())
            blocks.append(sys.getallocatedblocks())
    growth = np.diff(sizes[-_PARTS - 1 :]) / part
    after = process.num_fds() if hasattr(process, "num_fds") else process.num_handles()
    return {
        "requests": requests,
        "slope_bytes_per_request": float(growth.mean()),
        "standard_error": float(growth.std(ddof=1) / np.sqrt(len(growth))),
        "blocks_left": blocks[-1] - blocks[-_PARTS - 1],
        "handles_left": after - handles,
        "slots_left": model.stats().running,
    }


# --- what the parts share --------------------------------------------------------------------------------------------


def _load(
    job: Figures,
    *,
    slots: int,
    context: int = 2048,
    kv_bytes: int | None = None,
    speculation: bool | None = None,
    accuracy_level: int | None = None,
) -> Any:
    """With no bytes given, exactly the slots' own: nothing is left for the prefix cache."""
    limits = Limits(
        slots=slots, context_tokens=context, kv_bytes=kv_bytes or _slots_bytes(job["folder"], slots, context)
    )
    folder, tuning = Path(job["folder"]), None
    if accuracy_level is not None:
        setting = Setting(machine.usable_cores(), accuracy_level)
        trial = Trial(setting, 1.0, 1.0)
        tuning = Tuning(setting.threads, accuracy_level, slots, {}, {}, "now", {}, "", (trial,))
    model = open_batched(EngineOptions(folder, None, limits, speculation, tuning))
    time.sleep(SETTLING_S)
    return model


def _slots_bytes(folder: str, slots: int, context: int) -> int:
    from edgeship.engine.decoders.kept import of_package
    from edgeship.package import DAMAGED, genai_config

    config = genai_config.read(Path(folder), DAMAGED)
    kept = of_package(config)
    return slots * (min(context, config.context_tokens) * kept.token_bytes + kept.state_bytes)


def _ask(model: Engine, prompt: Prompt, new: int) -> Usage:
    return collect(model.stream(prompt, _greedy(new))).usage


def _greedy(new: int) -> Sampling:
    return Sampling(temperature=0.0, repetition_penalty=1.0, max_tokens=new, ignore_eos=True)


def _prompt(seed: int, length: int, vocabulary: int = 100_000) -> Prompt:
    return Prompt(tuple(np.random.default_rng(seed).integers(vocabulary // 4, vocabulary, length).tolist()))


def _genai_answer(og: Any, model: Any, prompt: Prompt, new: int, turn: threading.Lock | None = None) -> Iterator[float]:
    """When it began, and when each token was there."""
    lock = turn or threading.Lock()
    with lock:
        parameters, length = og.GeneratorParams(model), len(prompt.tokens) + new
        parameters.set_search_options(do_sample=False, max_length=length, min_length=length)
        generator = og.Generator(model, parameters)
    yield time.perf_counter()
    for number in range(new):
        with lock:
            if number == 0:
                generator.append_tokens(np.array(prompt.tokens, np.int32))
            generator.generate_next_token()
        yield time.perf_counter()


def read_cases(path: str, count: int | None = None) -> list[Figures]:
    """An evaluation's cases, the first `count` of them."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()[:count]
    return [json.loads(line) for line in lines]


def _compare(model: Engine, cases: Sequence[Figures], settings: dict[str, Sampling], one: str, other: str) -> Figures:
    found: Figures = {}
    for _ in range(2):  # the first round warms up
        found = {
            f"{name}_{key}": value
            for name, sampling in settings.items()
            for key, value in _speed(model, cases, sampling).items()
        }
    return found | {"ratio": found[f"{one}_tokens_per_s"] / found[f"{other}_tokens_per_s"]}


def _speed(model: Engine, cases: Sequence[Figures], sampling: Sampling) -> Figures:
    """Tokens a second after the first of each answer, over all cases, and how many pass."""
    tokens, seconds, passed, forced, accepted = 0, 0.0, 0, 0, 0
    for case in cases:
        answer = ask(model, Conversation(case["messages"]), sampling)
        tokens += len(answer.tokens) - 1
        seconds += answer.usage.e2e_s - answer.usage.ttft_s
        forced += answer.usage.forced_tokens
        accepted += answer.usage.accepted_tokens
        passed += answer.text == case["expected"]
    return {
        "tokens_per_s": tokens / seconds,
        "pass_rate": passed / len(cases),
        "forced_share": forced / tokens,
        "accepted_share": accepted / tokens,
    }


def _rss() -> int:
    """Resident memory; without pages of files where the system tells them apart, since weights are read as needed."""
    found = psutil.Process().memory_info()
    return int(found.rss - getattr(found, "shared", 0))


def _give_free_pages_back() -> None:
    """Where the C library can: pages of the heap that hold nothing any more are not part of what a request costs."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform != "win32" else None
    if trim:
        trim(0)


PARTS: dict[str, Callable[[Figures], Figures]] = {
    part.__name__: part
    for part in (
        single,
        context,
        sampled,
        genai_loop,
        load,
        eight,
        closed,
        genai_eight,
        prefix,
        itl,
        grammar,
        lookup,
        lookup_copying,
        same,
        memory,
        soak,
    )
}

if __name__ == "__main__":
    print(json.dumps(PARTS[sys.argv[1]](json.loads(sys.argv[2]))))
