"""A package in plain ONNX Runtime: many sequences in one session, their keys and values written in place."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeship.engine.decoders import Chunk, Floats, kept
from edgeship.engine.decoders.expert_rows import COPIES
from edgeship.engine.decoders.states import States
from edgeship.engine.decoders.step_graph import (
    LENGTHS,
    TOTAL,
    WANTED,
    WANTED_LENGTHS,
    WANTED_TOTAL,
    derive,
)
from edgeship.errors import EngineFailed, NotBatchable
from edgeship.package import DAMAGED
from edgeship.package.genai_config import GenaiConfig
from edgeship.system import huge_pages, memory, telemetry

_LOG_NOTHING_BELOW_FATAL = 4
_CAUSE_CHARACTERS = 300
# Kernels multiply two rows or more at a time, and a single one that is left over by one whose result differs.
_ROWS = 2


class OnnxDecoder:
    """See Decoder. Slots lie in rows of one buffer for each layer; those in use are kept side by side.

    threads: of ONNX Runtime. accuracy_level: of quantized matrices, None for the package's own.
    Raises NotBatchable, EngineFailed.
    """

    name = "batched"
    keeps_prefixes = True

    def __init__(
        self, config: GenaiConfig, *, threads: int, slots: int, context_tokens: int, accuracy_level: int | None = None
    ) -> None:
        self.folder, self.threads, self.slots, self.context_tokens = config.folder, threads, slots, context_tokens
        self.vocab_size = config.vocab_size
        path = config.folder / config.model_file
        before = huge_pages.regions()
        self._session: Any = _open(path, derive(path, config, accuracy_level=accuracy_level), threads)
        # Keys and values are left out: theirs are small pages on purpose, see `_untouched`.
        self._huge_pages = huge_pages.collapse(huge_pages.added(before, huge_pages.regions()))
        self._kept = kept.of_package(config)
        self._inputs = {value.name for value in self._session.get_inputs()}
        self._check_inputs()
        self._check_sizes()
        # One row more than slots: rows that fill a batch up write there.
        self._buffers = [
            _untouched((slots + 1, cache.heads, context_tokens, cache.size)) for cache in self._kept.caches
        ]
        self._states = States([state.sizes for state in self._kept.states], slots + 1)
        self.goes_back = not self._states
        self._rows: list[int | None] = [None] * slots  # slot -> row
        self._held = [0] * (slots + 1)  # tokens in each row
        # One for all batches: logits of each would take more than the keys and values of many tokens. Every row has a
        # place of its own, since rows of one step may be several batches.
        self._logits = np.zeros((slots + 1, 1, self.vocab_size), np.float32)
        self._batches: dict[tuple[int, int], _Batch] = {}
        self._bindings: dict[int, Any] = {}

    def step(self, chunks: Sequence[Chunk], *, invariant: bool = False) -> list[Floats]:
        """See Decoder.step."""
        self._check_open()
        for chunk in chunks:
            self._place(chunk)
        found: list[Floats | None] = [None] * len(chunks)
        singles = [index for index, chunk in enumerate(chunks) if _goes_on(chunk)]
        for run in self._contiguous(chunks, singles):
            logits = self._run_batch([chunks[index] for index in run], invariant=invariant)
            for place, index in enumerate(run):
                found[index] = logits[place]
        for index, chunk in enumerate(chunks):
            if found[index] is None:
                found[index] = self._run_chunk(chunk, invariant=invariant)
        return [logits for logits in found if logits is not None]

    def read(self, slot: int, start: int, end: int) -> Floats:
        """See Decoder.read."""
        row = self._rows[slot]
        assert row is not None
        entries = np.empty((self._kept.heads, end - start, self._kept.head_size), np.float32)
        for held, part in self._parts(row, start, entries):
            part[:] = held
        return entries

    def write(self, slot: int, start: int, entries: Floats) -> None:
        """See Decoder.write."""
        row = self._row(slot)
        for held, part in self._parts(row, start, entries):
            held[:] = part
        self._held[row] = start + entries.shape[1]

    def read_state(self, slot: int) -> Floats:
        """See Decoder.read_state."""
        return self._states.copy(self._row(slot))

    def write_state(self, slot: int, state: Floats) -> None:
        """See Decoder.write_state."""
        self._states.put(self._row(slot), state)

    def release(self, slot: int) -> None:
        """See Decoder.release."""
        row = self._rows[slot]
        if row is not None:
            self._rows[slot] = None
            self._held[row] = 0

    def settle(self) -> bool:
        """See Decoder.settle: the session's memory gets huge pages, one each time."""
        return next(self._huge_pages, None) is not None

    def close(self) -> None:
        """Frees the model; any later step raises EngineFailed."""
        self._huge_pages = iter(())
        self._batches.clear()
        self._bindings.clear()
        self._buffers.clear()
        self._states.buffers.clear()
        self._session = None

    # --- rows --------------------------------------------------------------------------------------------------------

    def _row(self, slot: int) -> int:
        row = self._rows[slot]
        if row is None:
            row = next(number for number in range(self.slots) if number not in self._rows)
            self._rows[slot] = row
        return row

    def _place(self, chunk: Chunk) -> None:
        row = self._row(chunk.slot)
        if chunk.start > self._held[row] or chunk.start + len(chunk.tokens) > self.context_tokens:
            raise EngineFailed(
                f"slot {chunk.slot} holds {self._held[row]} of {self.context_tokens} tokens, "
                f"and {len(chunk.tokens)} were to follow {chunk.start}"
            )
        if not chunk.start:
            self._states.clear(row)
        elif self._states and chunk.start < self._held[row]:
            raise EngineFailed(f"slot {chunk.slot} holds a state after {self._held[row]} tokens, not {chunk.start}")
        self._held[row] = chunk.start

    def _contiguous(self, chunks: Sequence[Chunk], singles: Sequence[int]) -> list[list[int]]:
        """Chunks of one token by rows that lie side by side, after free rows between them were filled from the end."""
        self._fill_gaps([chunks[index].slot for index in singles])
        ordered = sorted(singles, key=lambda index: self._row(chunks[index].slot))
        runs: list[list[int]] = []
        for index in ordered:
            row = self._row(chunks[index].slot)
            if runs and self._row(chunks[runs[-1][-1]].slot) == row - 1:
                runs[-1].append(index)
            else:
                runs.append([index])
        return runs

    def _fill_gaps(self, slots: Sequence[int]) -> None:
        while slots:
            highest = max(slots, key=self._row)
            used = set(self._rows)
            free = next((row for row in range(self._row(highest)) if row not in used), None)
            if free is None:
                return
            self._move(highest, free)

    def _move(self, slot: int, row: int) -> None:
        before = self._row(slot)
        held = self._held[before]
        for buffer in self._buffers:
            buffer[row, :, :held] = buffer[before, :, :held]
        self._states.move(before, row)
        self._rows[slot] = row
        self._held[row], self._held[before] = held, 0

    def _parts(self, row: int, start: int, entries: Floats) -> Iterator[tuple[Floats, Floats]]:
        """What a row holds from token `start` on with its part of the entries, layer by layer, in the same shape."""
        place, (_, tokens, size) = 0, entries.shape
        for buffer in self._buffers:
            held = buffer[row, :, start : start + tokens]
            # A head that is larger than others counts as several.
            held = held.reshape(len(held), tokens, held.shape[2] // size, size).transpose(0, 2, 1, 3)
            count = held.shape[0] * held.shape[1]
            yield held, entries[place : place + count].reshape(held.shape)
            place += count

    # --- runs --------------------------------------------------------------------------------------------------------

    def _run_batch(self, chunks: Sequence[Chunk], *, invariant: bool) -> Floats:
        """One token each for rows side by side; logits [chunks, 1, vocabulary]."""
        first, count = self._row(chunks[0].slot), len(chunks)
        filled = count + (invariant and count % _ROWS == 1)
        batch = self._batch(first, filled)
        for place, chunk in enumerate(chunks):
            batch.tokens[place, 0] = chunk.tokens[0]
            batch.lengths[place] = chunk.start
        for place in range(count, filled):
            # What the row holds stays: the token is written after it. A row that is full would have no room.
            batch.lengths[place] = min(self._held[first + place], self.context_tokens - 1)
        batch.copies[...] = 1 + invariant
        batch.total[...] = batch.lengths.max() + 1
        # The states of a row that fills the batch up would go on by its token.
        moved = [row for row in range(first + count, first + filled) if self._states and row in self._rows]
        states = [self._states.copy(row) for row in moved]
        self._run(batch.binding)
        for row, state in zip(moved, states, strict=True):
            self._states.put(row, state)
        for chunk in chunks:
            self._held[self._row(chunk.slot)] = chunk.start + 1
        return batch.logits[:count]

    def _batch(self, first: int, count: int) -> _Batch:
        key = (first, count)
        if key not in self._batches:
            self._batches[key] = _Batch(self, first, count)
        return self._batches[key]

    def _run_chunk(self, chunk: Chunk, *, invariant: bool) -> Floats:
        """Any number of tokens for one row; logits [wanted, vocabulary]."""
        count = len(chunk.tokens)
        tokens = list(chunk.tokens)
        # A prompt's result must not depend on how it was cut, so a single row left over gets company: a token after the
        # last, which no token before it sees and whose keys and values are overwritten by what really follows.
        if count % _ROWS == 1 and self._states:
            # In a state it would stay. So a single row always runs alone, and prompts are cut at even places.
            if count > 1:
                return self._run_in_two(chunk, invariant=invariant)
        elif count % _ROWS == 1 and chunk.start + count < self.context_tokens:
            tokens.append(0)
        row = self._row(chunk.slot)
        binding = self._bindings.get(row)
        if binding is None:
            binding = self._bindings[row] = self._bind(row, 1)
        end, last = chunk.start + len(tokens), chunk.start + count
        # Layers that look at the keys of others cannot look for nothing.
        wanted = max(chunk.wanted, 1 if WANTED_LENGTHS in self._inputs else 0)
        logits = np.empty((1, wanted, self.vocab_size), np.float32)
        values = {
            "input_ids": np.array([tokens], np.int64),
            LENGTHS: np.array([end - 1], np.int32),
            TOTAL: np.array(end, np.int32),
            WANTED: np.arange(count - wanted, count, dtype=np.int64),
            WANTED_LENGTHS: np.array([last - 1], np.int32),
            WANTED_TOTAL: np.array(last, np.int32),
            COPIES: np.array([1 + invariant], np.int64),
        }
        for name in self._inputs & set(values):
            binding.bind_cpu_input(name, values[name])
        binding.bind_ortvalue_output("logits", _value(logits))
        self._run(binding)
        self._held[row] = last
        found: Floats = logits[0, wanted - chunk.wanted :]
        return found

    def _run_in_two(self, chunk: Chunk, *, invariant: bool) -> Floats:
        """The last token of a chunk after all others."""
        before, last = chunk.tokens[:-1], chunk.tokens[-1:]
        halves = [
            replace(chunk, tokens=before, wanted=max(0, chunk.wanted - 1)),
            replace(chunk, tokens=last, start=chunk.start + len(before), wanted=min(1, chunk.wanted)),
        ]
        return np.concatenate([self._run_chunk(half, invariant=invariant) for half in halves])

    def _run(self, binding: Any) -> None:
        with _as_engine_failed(self.folder):
            self._session.run_with_iobinding(binding)

    def _bind(self, first: int, count: int) -> Any:
        """Keys, values and states of `count` rows, as input and output at once."""
        binding = self._session.io_binding()
        for (past, present), buffer in zip(self._kept.names, [*self._buffers, *self._states.buffers], strict=True):
            value = _value(buffer[first : first + count])
            binding.bind_ortvalue_input(past, value)
            binding.bind_ortvalue_output(present, value)
        return binding

    def _check_inputs(self) -> None:
        pasts = {past for past, _ in self._kept.names}
        for value in self._session.get_inputs():
            if value.name not in {"input_ids", LENGTHS, TOTAL, WANTED, WANTED_LENGTHS, WANTED_TOTAL, COPIES, *pasts}:
                raise NotBatchable(f"its graph wants {value.name}, which is not known here")
            if value.name in pasts and value.type != "tensor(float)":
                raise NotBatchable(f"its graph keeps {value.name} as {value.type}")

    def _check_sizes(self) -> None:
        """What the package says of the graph holds, as far as the graph says it too."""
        first = self._kept.caches[0]
        stated = {"num_key_value_heads": first.heads, "head_size": first.size, "vocab_size": self.vocab_size}
        past = next(value for value in self._session.get_inputs() if value.name == first.past)
        logits = next(value for value in self._session.get_outputs() if value.name == "logits")
        found = dict(zip(stated, (past.shape[1], past.shape[3], logits.shape[-1]), strict=True))
        for name, size in stated.items():
            if isinstance(found[name], int) and found[name] != size:
                raise EngineFailed(
                    f"genai_config.json says {name} {size}, and the graph has {found[name]}",
                    where=str(self.folder),
                    hint=DAMAGED.hint,
                )

    def _check_open(self) -> None:
        if self._session is None:
            raise EngineFailed("the engine is closed", where=str(self.folder))


class _Batch:
    """One token each for some rows side by side, bound once: a step fills the arrays and runs."""

    def __init__(self, decoder: OnnxDecoder, first: int, count: int) -> None:
        self.tokens = np.zeros((count, 1), np.int64)
        self.lengths = np.zeros(count, np.int32)
        self.total = np.zeros((), np.int32)
        self.copies = np.ones(1, np.int64)
        self.logits = decoder._logits[first : first + count]
        self._wanted = np.zeros(1, np.int64)
        self.binding = decoder._bind(first, count)
        arrays: dict[str, npt.NDArray[Any]] = {
            "input_ids": self.tokens,
            LENGTHS: self.lengths,
            TOTAL: self.total,
            WANTED: self._wanted,
            WANTED_LENGTHS: self.lengths,
            WANTED_TOTAL: self.total,
            COPIES: self.copies,
        }
        # Bound values share their arrays' memory and do not keep it alive: this object does.
        for name in decoder._inputs & set(arrays):
            self.binding.bind_ortvalue_input(name, _value(arrays[name]))
        self.binding.bind_ortvalue_output("logits", _value(self.logits))


def _untouched(shape: tuple[int, ...]) -> Floats:
    """Zeros whose pages are taken when they are first written.

    numpy asks Linux for huge pages: to clear those of a row in every layer halts all answers for a tenth of a second
    when its first token is written, and takes the memory of tokens that may never come.
    """
    size = math.prod(shape) * np.dtype(np.float32).itemsize
    zeros: Floats = np.frombuffer(memory.zero_pages(size), np.float32)
    return zeros.reshape(shape)


def _goes_on(chunk: Chunk) -> bool:
    """An answer's next token, which shares a batch with others'."""
    return len(chunk.tokens) == 1 and chunk.wanted == 1 and not chunk.reading


def _value(array: npt.NDArray[Any]) -> Any:
    import onnxruntime

    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


def _open(path: Path, model: bytes, threads: int) -> Any:
    telemetry.switch_off()
    import onnxruntime

    if hasattr(onnxruntime, "disable_telemetry_events"):
        onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _LOG_NOTHING_BELOW_FATAL
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    with _as_engine_failed(path.parent):
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@contextmanager
def _as_engine_failed(folder: Path) -> Iterator[None]:
    try:
        yield
    except EngineFailed:
        raise
    except Exception as error:  # the library raises a class of its own for each status
        # What says something stands at the end, after where in the library it happened.
        line = (str(error).splitlines() or [type(error).__name__])[0][-_CAUSE_CHARACTERS:]
        raise EngineFailed(f"ONNX Runtime failed: {line}", where=str(folder), hint=DAMAGED.hint) from error
