"""How fast an engine reads and writes tokens, one answer at a time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median

from edgeship.engine.api import Engine, Prompt, Sampling
from edgeship.errors import EngineFailed
from edgeship.progress import Progress, silent

MIN_TOKENS = 8
WARM_UP_TOKENS = 8
_TRIES_PER_REPEAT = 3


@dataclass(frozen=True)
class Range:
    """A value measured several times."""

    median: float
    min: float
    max: float


@dataclass(frozen=True)
class SpeedRun:
    """One answer: tokens made, time to the first, time to the last."""

    new_tokens: int
    ttft_s: float
    e2e_s: float


@dataclass(frozen=True)
class Speed:
    """Speed of single answers after a warm-up.

    prompt_tokens, new_tokens: what was measured (new_tokens: of the shortest run); less than asked where the
    context is short or the model stopped early.
    Prefill is prompt tokens over TTFT; decode leaves the first token out.
    """

    prompt_tokens: int
    new_tokens: int
    asked_prompt_tokens: int
    asked_new_tokens: int
    prefill_tokens_per_s: Range
    decode_tokens_per_s: Range
    ttft_s: Range
    runs: tuple[SpeedRun, ...]


def measure(
    engine: Engine,
    prompt_tokens: int = 512,
    new_tokens: int = 64,
    repeats: int = 3,
    progress: Progress = silent,
) -> Speed:
    """The engine's speed on prompts of random tokens, which are the same ones every time.

    Raises EngineFailed where the context is too short or no answer reaches MIN_TOKENS.
    """
    prompt_length, answer_length = fit(engine.context_tokens, prompt_tokens, new_tokens)
    prompts = _prompts(engine.vocab_size, prompt_length)
    _run(engine, next(prompts), min(answer_length, WARM_UP_TOKENS))
    runs: list[SpeedRun] = []
    for _ in range(repeats * _TRIES_PER_REPEAT):
        progress(f"speed, run {len(runs) + 1} of {repeats}", len(runs) / repeats)
        run = _run(engine, next(prompts), answer_length)
        if run.new_tokens >= MIN_TOKENS:
            runs.append(run)
        if len(runs) == repeats:
            break
    if not runs:
        raise EngineFailed(
            f"speed cannot be measured: no answer reached {MIN_TOKENS} tokens",
            hint="The model ends every answer at once: check its stop tokens with `edgeship inspect`.",
        )
    return _summary(runs, prompt_length, prompt_tokens, new_tokens)


def fit(context_tokens: int, prompt_tokens: int, new_tokens: int) -> tuple[int, int]:
    """Prompt and answer lengths that the context holds; the answer gives way first, down to MIN_TOKENS.

    Raises EngineFailed where not even MIN_TOKENS of each fit.
    """
    new = max(MIN_TOKENS, min(new_tokens, context_tokens - prompt_tokens))
    prompt = min(max(prompt_tokens, 1), context_tokens - new)
    if prompt < min(MIN_TOKENS, prompt_tokens):
        raise EngineFailed(f"a context of {context_tokens} tokens is too short to measure speed in")
    return prompt, new


def _prompts(vocab_size: int, length: int) -> Iterator[Prompt]:
    import numpy as np

    # Special tokens stand at the ends of every vocabulary we know, hence the middle half. Every prompt is
    # another one, so that no engine can answer from what it remembers of the last.
    generator = np.random.default_rng(0)
    low, high = vocab_size // 4, max(vocab_size // 4 + 1, vocab_size * 3 // 4)
    while True:
        yield Prompt(tuple(generator.integers(low, high, length).tolist()))


def _run(engine: Engine, prompt: Prompt, new_tokens: int) -> SpeedRun:
    # The repetition penalty is the sampler's work; what is measured here is the model's.
    sampling = Sampling(temperature=0.0, repetition_penalty=1.0, max_tokens=new_tokens, ignore_eos=True)
    count, start = 0, time.perf_counter()
    first = last = start
    for token in engine.stream(prompt, sampling):
        last = time.perf_counter()
        if token.id is not None:
            count += 1
            first = last if count == 1 else first
    return SpeedRun(count, first - start, last - start)


def _summary(runs: list[SpeedRun], prompt_tokens: int, asked_prompt: int, asked_new: int) -> Speed:
    # A clock that did not move between two tokens must not become a division by zero.
    tick = time.get_clock_info("perf_counter").resolution
    return Speed(
        prompt_tokens=prompt_tokens,
        new_tokens=min(run.new_tokens for run in runs),
        asked_prompt_tokens=asked_prompt,
        asked_new_tokens=asked_new,
        prefill_tokens_per_s=_range(prompt_tokens / max(run.ttft_s, tick) for run in runs),
        decode_tokens_per_s=_range((run.new_tokens - 1) / max(run.e2e_s - run.ttft_s, tick) for run in runs),
        ttft_s=_range(run.ttft_s for run in runs),
        runs=tuple(runs),
    )


def _range(values: Iterable[float]) -> Range:
    found = list(values)
    return Range(median(found), min(found), max(found))
