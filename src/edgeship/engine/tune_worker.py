"""Times one setting of the batched engine, in a process of its own; `tune.py` decides what follows."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from edgeship import child, machine
from edgeship.engine.config import EngineConfig, read_config
from edgeship.engine.decoder import Decoder, Piece
from edgeship.engine.lookup import MOST
from edgeship.engine.schedule import CHUNK_TOKENS
from edgeship.engine.tune import GROWTH, PROMPT_TOKENS
from edgeship.progress import Progress

RUNS = (1, 2, 4, 8, 16, 1 + MOST)
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

    def step(self, pieces: Sequence[Piece]) -> float:
        """Seconds of one step."""
        start = self.now()
        self.decoder.step(pieces)
        # A clock that did not move must not become a division by zero.
        return max(self.now() - start, _TICK_S)

    def read(self, tokens: Sequence[int]) -> float:
        """Seconds of reading a prompt into slot 0."""
        pieces = [
            Piece(0, tokens[start : start + CHUNK_TOKENS], start, int(start + CHUNK_TOKENS >= len(tokens)))
            for start in range(0, len(tokens), CHUNK_TOKENS)
        ]
        return sum(self.step([piece]) for piece in pieces)

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
    prompt, then = tokens[:prompt_tokens], [Piece(0, tokens[:1], prompt_tokens, 1)]
    prompt_s: list[float] = []
    step_s: list[float] = []
    for _ in watch.rounds(seconds):
        prompt_s.append(watch.read(prompt))
        step_s += [watch.step(then) for _ in range(_STEPS_PER_PROMPT)]
    return {"prompt_tokens": prompt_tokens, "prompt_s": prompt_s, "step_s": step_s}


def time_steps(watch: Stopwatch, seconds: float) -> dict[str, Any]:
    """Median seconds of runs of one sequence, and of steps with more and more sequences, in about `seconds`.

    The result has `run_s` (tokens -> seconds), `batch_s` (sequences -> seconds) and `slots`: the most sequences that
    each brought GROWTH times the tokens a second of fewer.
    """
    depth = min(DEPTH_TOKENS, max(1, watch.decoder.context_tokens - _ROOM))
    tokens = _tokens(watch.decoder.vocab_size, DEPTH_TOKENS)
    watch.read(tokens[:depth])
    run_s = _time_runs(watch, tokens, depth, seconds / 2)
    batch_s, slots = _time_rows(watch, depth, seconds / 2)
    return {"run_s": run_s, "batch_s": batch_s, "slots": slots}


def _time_runs(watch: Stopwatch, tokens: Sequence[int], depth: int, seconds: float) -> dict[int, float]:
    counts = [count for count in RUNS if depth + count <= watch.decoder.context_tokens]
    steps = {count: [Piece(0, tokens[:count], depth, count)] for count in counts}
    found: dict[int, list[float]] = {count: [] for count in counts}
    for pieces in steps.values():
        watch.step(pieces)
    for _ in watch.rounds(seconds):
        for count, pieces in steps.items():
            found[count].append(watch.step(pieces))
    return {count: median(times) for count, times in found.items()}


def _time_rows(watch: Stopwatch, depth: int, seconds: float) -> tuple[dict[int, float], int]:
    """Step times by number of rows, and how many rows pay.

    Each number is timed in turns with the best so far: what else the machine does then slows both. Kernels work in
    blocks of rows, so one number that brings nothing does not end the search; a second one does.
    """
    decoder, begun = watch.decoder, watch.now()
    pieces = [Piece(slot, (1,), depth, 1) for slot in range(decoder.slots)]
    watch.step(pieces[:1])
    found: dict[int, list[float]] = {1: [watch.step(pieces[:1])]}
    entries = decoder.read(0, 0, depth)
    best, rows = 1, 2
    while rows <= min(4 * best, decoder.slots) and watch.now() - begun <= seconds:
        for slot in range(rows // 2, rows):
            decoder.write(slot, 0, entries)
        watch.step(pieces[:rows])
        best_s: list[float] = []
        rows_s = found[rows] = []
        for _ in watch.rounds(seconds / 5):
            best_s.append(watch.step(pieces[:best]))
            rows_s.append(watch.step(pieces[:rows]))
        found[best] += best_s
        if rows * median(best_s) >= GROWTH * best * median(rows_s):
            best = rows
        rows *= 2
    return {count: median(times) for count, times in found.items()}, best


def _tokens(vocab_size: int, count: int) -> list[int]:
    # Special tokens stand at the ends of every vocabulary we know, hence the middle half.
    low, high = vocab_size // 4, max(vocab_size // 4 + 1, vocab_size * 3 // 4)
    generator = random.Random(0)
    return [generator.randrange(low, high) for _ in range(count)]


# --- the process -----------------------------------------------------------------------------------------------------


def _work(job: dict[str, Any], _: Progress) -> dict[str, Any]:
    """Opens the package with `threads` and `accuracy_level` and times "answers" or "steps", for about `seconds`."""
    from edgeship.engine.onnx_decoder import OnnxDecoder

    folder, answers = Path(job["folder"]), job["what"] == "answers"
    config = read_config(folder)
    held = (PROMPT_TOKENS if answers else DEPTH_TOKENS) + _ROOM
    decoder = OnnxDecoder(
        folder,
        threads=job["threads"],
        slots=1 if answers else _rows_in_memory(config, held),
        context_tokens=min(held, config.context_tokens),
        accuracy_level=job["accuracy_level"],
    )
    try:
        if not answers:
            return time_steps(Stopwatch(decoder), job["seconds"])
        found = time_answers(Stopwatch(decoder), job["seconds"], job["prompt_tokens"])
        return found | {"quantized": _has_accuracy(folder, config)}
    finally:
        decoder.close()


def _has_accuracy(folder: Path, config: EngineConfig) -> bool:
    """Whether multiplying in float32 is anything else than what the package does."""
    from edgeship.engine.step_graph import derive

    path = folder / str(config.decoder.get("filename", "model.onnx"))
    return derive(path, config) != derive(path, config, accuracy_level=1)


def _rows_in_memory(config: EngineConfig, tokens: int) -> int:
    from edgeship.engine.onnx_decoder import kv_token_bytes

    free = machine.this_machine().memory_available_bytes
    return max(1, min(MOST_ROWS, free // _MEMORY_SHARE // (tokens * kv_token_bytes(config))))


if __name__ == "__main__":
    child.serve(_work)
