"""Times one setting of the batched engine, in a process of its own; `tune.py` decides what follows."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import log2
from pathlib import Path
from typing import Any

from edgeship.engine.decoders import Chunk, Decoder
from edgeship.engine.drafts import MOST
from edgeship.engine.schedule import CHUNK_TOKENS
from edgeship.engine.tune import GROWTH, PROMPT_TOKENS, usual
from edgeship.package import DAMAGED, genai_config
from edgeship.package.genai_config import GenaiConfig
from edgeship.progress import Progress
from edgeship.system import machine, worker

RUNS = (1, 2, 4, 8, 12, 1 + MOST)
"""Tokens in a run of one sequence: the last one is the longest guess with the token before it."""
DEPTH_TOKENS = 256
"""What a sequence holds when runs and widths are timed."""
MOST_ROWS = 32
_ROOM = max(RUNS)
_WARM_UP_TOKENS, _LEAST_PROMPT_TOKENS = 32, 64
_STEPS_PER_PROMPT = 8
_LEAST_ROUNDS, _MOST_ROUNDS = 2, 100
_TICK_S = 1e-9
# Keys and values of all rows may take this part of the memory that is free.
_MEMORY_SHARE = 4

Clock = Callable[[], float]


class Stopwatch:
    """A decoder whose work is timed. Sequences are read as the engine reads them."""

    def __init__(self, decoder: Decoder, clock: Clock = time.perf_counter) -> None:
        self.decoder = decoder
        self.now = clock

    def step(self, chunks: Sequence[Chunk]) -> float:
        """Seconds of one step."""
        if not self.decoder.goes_back:
            # The slots' states stay as they are: what is computed takes as long whatever they hold.
            for chunk in chunks:
                if chunk.start:
                    self.decoder.write(chunk.slot, chunk.start, self.decoder.read(chunk.slot, 0, 0))
        start = self.now()
        self.decoder.step(chunks)
        # A clock that did not move must not become a division by zero.
        return max(self.now() - start, _TICK_S)

    def read(self, tokens: Sequence[int]) -> float:
        """Seconds of reading a prompt into slot 0."""
        seconds = 0.0
        for start in range(0, len(tokens), CHUNK_TOKENS):
            chunk = tokens[start : start + CHUNK_TOKENS]
            last = start + len(chunk) == len(tokens)
            seconds += self.step([Chunk(0, chunk, start, int(last), reading=True)])
        return seconds

    def rounds(self, seconds: float) -> Iterator[int]:
        """Counts rounds of work while one more fits into `seconds`, taken that it lasts as long as those before."""
        begun = self.now()
        for done in range(_MOST_ROUNDS):
            if done >= _LEAST_ROUNDS and (self.now() - begun) * (done + 1) / done > seconds:
                return
            yield done


def time_answers(watch: Stopwatch, seconds: float, prompt_tokens: int | None = None) -> dict[str, Any]:
    """Reading a prompt and the steps after it, in turns, for about `seconds`.

    prompt_tokens: None takes PROMPT_TOKENS, or fewer where reading them would take too long or the context is short.
    The result has `prompt_tokens`, and the lists `prompt_s` and `step_s`.
    """
    room = max(1, watch.decoder.context_tokens - _ROOM)
    tokens = _tokens(watch.decoder.vocab_size, min(PROMPT_TOKENS, room))
    few = tokens[:_WARM_UP_TOKENS]
    watch.read(few)  # the first run of all takes longer
    if prompt_tokens is None:
        token_s, count = watch.read(few) / len(few), PROMPT_TOKENS
        while count > _LEAST_PROMPT_TOKENS and count * token_s > seconds / 3:
            count //= 2
        prompt_tokens = min(count, len(tokens))
    prompt, then = tokens[:prompt_tokens], [Chunk(0, tokens[:1], prompt_tokens, 1)]
    prompt_s: list[float] = []
    step_s: list[float] = []
    for _ in watch.rounds(seconds):
        prompt_s.append(watch.read(prompt))
        step_s += [watch.step(then) for _ in range(_STEPS_PER_PROMPT)]
    return {"prompt_tokens": prompt_tokens, "prompt_s": prompt_s, "step_s": step_s}


def time_steps(watch: Stopwatch, seconds: float) -> dict[str, Any]:
    """Seconds of runs of one sequence, and of steps with more and more sequences, in about `seconds`.

    The result has `run_s` (tokens -> seconds), `batch_s` (sequences -> seconds) and `slots`: the most sequences that
    bring GROWTH times the tokens a second for each doubling.
    """
    decoder = watch.decoder
    depth = min(DEPTH_TOKENS, max(1, decoder.context_tokens - _ROOM))
    tokens = _tokens(decoder.vocab_size, DEPTH_TOKENS)
    watch.read(tokens[:depth])
    runs = {
        count: [Chunk(0, tokens[:count], depth, count)] for count in RUNS if depth + count <= decoder.context_tokens
    }
    for chunks in runs.values():
        watch.step(chunks)
    rows = _widths(watch, depth, seconds / 4)
    run_s: dict[int, list[float]] = {count: [] for count in runs}
    batch_s: dict[int, list[float]] = {count: [] for count in rows}
    # All in turns, so that what else the machine does for a while slows no number more than another.
    for _ in watch.rounds(seconds * 3 / 4):
        for count, chunks in runs.items():
            run_s[count].append(watch.step(chunks))
        for count, chunks in rows.items():
            batch_s[count].append(watch.step(chunks))
    together = {count: usual(times) for count, times in batch_s.items()}
    return {
        "run_s": {count: usual(times) for count, times in run_s.items()},
        "batch_s": together,
        "slots": worthwhile(together),
    }


def worthwhile(batch_s: Mapping[int, float]) -> int:
    """The most sequences, of those measured, that bring GROWTH times the tokens a second for each doubling.

    Kernels work in blocks of rows, so one number may bring nothing and the next one much.
    """
    best = min(batch_s)
    for rows in sorted(batch_s):
        if rows / batch_s[rows] >= GROWTH ** log2(rows / best) * best / batch_s[best]:
            best = rows
    return best


def _widths(watch: Stopwatch, depth: int, seconds: float) -> dict[int, list[Chunk]]:
    """Steps of 1, 2, 4, ... sequences that are worth to be timed, each run twice by now.

    The numbers end where two in a row brought no more than fewer did, or when the time is over.
    """
    decoder, begun = watch.decoder, watch.now()
    chunks = [Chunk(slot, (1,), depth, 1) for slot in range(decoder.slots)]
    entries = decoder.read(0, 0, depth)
    found: dict[int, list[Chunk]] = {}
    most_per_s, best, rows = 0.0, 1, 1
    while rows <= min(4 * best, decoder.slots) and (rows <= 2 or watch.now() - begun <= seconds):
        for slot in range(max(1, rows // 2), rows):
            decoder.write(slot, 0, entries)
        found[rows] = chunks[:rows]
        per_s = rows / min(watch.step(found[rows]) for _ in range(2))
        if per_s > most_per_s:
            most_per_s, best = per_s, rows
        rows *= 2
    return found


def _tokens(vocab_size: int, count: int) -> list[int]:
    # Special tokens stand at the ends of every vocabulary we know, hence the middle half.
    low, high = vocab_size // 4, max(vocab_size // 4 + 1, vocab_size * 3 // 4)
    generator = random.Random(0)
    return [generator.randrange(low, high) for _ in range(count)]


# --- the process -----------------------------------------------------------------------------------------------------


def _work(job: dict[str, Any], _: Progress) -> dict[str, Any]:
    """Opens the package with `threads` and `accuracy_level` and times "answers" or "steps", for about `seconds`."""
    from edgeship.engine.decoders.onnx import OnnxDecoder

    config, answers = genai_config.read(Path(job["folder"]), DAMAGED), job["what"] == "answers"
    held = (PROMPT_TOKENS if answers else DEPTH_TOKENS) + _ROOM
    decoder = OnnxDecoder(
        config,
        threads=job["threads"],
        slots=1 if answers else _rows_in_memory(config, held),
        context_tokens=min(held, config.context_tokens),
        accuracy_level=job["accuracy_level"],
    )
    try:
        if not answers:
            return time_steps(Stopwatch(decoder), job["seconds"])
        found = time_answers(Stopwatch(decoder), job["seconds"], job["prompt_tokens"])
        return found | {"quantized": _has_accuracy(config)}
    finally:
        decoder.close()


def _has_accuracy(config: GenaiConfig) -> bool:
    """Whether multiplying in float32 is anything else than what the package does."""
    from edgeship.engine.decoders.step_graph import derive

    path = config.folder / config.model_file
    return derive(path, config) != derive(path, config, accuracy_level=1)


def _rows_in_memory(config: GenaiConfig, tokens: int) -> int:
    from edgeship.engine.decoders import kept

    free, keeps = machine.this_machine().memory_available_bytes, kept.of_package(config)
    return max(1, min(MOST_ROWS, free // _MEMORY_SHARE // (tokens * keeps.token_bytes + keeps.state_bytes)))


if __name__ == "__main__":
    worker.serve(_work)
