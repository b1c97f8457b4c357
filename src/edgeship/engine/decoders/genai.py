"""onnxruntime-genai: any folder that it can run, on every execution provider. It makes logits; choosing is ours."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.engine.api import Message
from edgeship.engine.decoders import Chunk, Floats
from edgeship.errors import DependencyMissing, EngineFailed
from edgeship.package import DAMAGED
from edgeship.package.genai_config import GenaiConfig
from edgeship.system import telemetry

_CAUSE_CHARACTERS = 300
_LOG_NOTHING_BELOW_FATAL = 4
_ORT_PREAMBLE = re.compile(r".*\[ONNXRuntimeError\] : \d+ : \w+ : ")


class GenaiDecoder:
    """See Decoder. A generator for each slot; chunks are computed one after another.

    The package says which execution provider it wants; threads are the CPU's. Invariance cannot be promised, and keys
    and values cannot be read. The library's own continuous batching (CUDA only) is not used: it chooses tokens itself,
    by settings that lack most of ours.
    Raises EngineFailed, DependencyMissing.
    """

    name = "genai"
    keeps_prefixes = False
    goes_back = True
    """Until the library refuses it, as it does for models that keep states."""

    def __init__(self, config: GenaiConfig, *, threads: int, slots: int, context_tokens: int) -> None:
        self.folder, self.threads, self.slots, self.context_tokens = config.folder, threads, slots, context_tokens
        self.vocab_size = config.vocab_size
        self._library = _library()
        self._model: Any = _model(self._library, config, threads)
        self._generators: dict[int, Any] = {}
        self._held: dict[int, list[int]] = {}
        self._keeps_all: bool | None = None

    def step(self, chunks: Sequence[Chunk], *, invariant: bool = False) -> list[Floats]:  # noqa: ARG002 - see above
        """See Decoder.step."""
        with _as_engine_failed(self.folder):
            self._open_model()
            return [self._run(chunk) for chunk in chunks]

    def read(self, slot: int, start: int, end: int) -> Floats:
        """Not possible."""
        raise EngineFailed(f"onnxruntime-genai shows no keys and values ({slot}, {start}, {end})")

    def write(self, slot: int, start: int, entries: Floats) -> None:
        """Not possible."""
        raise EngineFailed(f"onnxruntime-genai takes no keys and values ({slot}, {start}, {entries.shape})")

    def read_state(self, slot: int) -> Floats:
        """Not possible."""
        raise EngineFailed(f"onnxruntime-genai shows no states ({slot})")

    def write_state(self, slot: int, state: Floats) -> None:
        """Not possible."""
        raise EngineFailed(f"onnxruntime-genai takes no states ({slot}, {state.shape})")

    def release(self, slot: int) -> None:
        """See Decoder.release."""
        self._generators.pop(slot, None)
        self._held.pop(slot, None)

    def settle(self) -> bool:
        """See Decoder.settle."""
        return False

    def close(self) -> None:
        """Frees the model."""
        self._generators.clear()
        self._model = None

    def _run(self, chunk: Chunk) -> Floats:
        generator = self._generator(chunk)
        silent = len(chunk.tokens) - chunk.wanted
        rows: list[Floats] = []
        for start, end in self._cuts(len(chunk.tokens), silent, chunk.wanted):
            generator.append_tokens(np.asarray(chunk.tokens[start:end], np.int32))
            self._held[chunk.slot] += chunk.tokens[start:end]
            if end > silent:
                logits = np.array(generator.get_output("logits")[0], np.float32)
                self._learn(len(logits), end - start)
                rows.append(logits[-(end - max(start, silent)) :])
        return np.concatenate(rows) if rows else np.empty((0, self.vocab_size), np.float32)

    def _cuts(self, count: int, silent: int, wanted: int) -> Iterator[tuple[int, int]]:
        """Where to cut a chunk: a graph that keeps the last logits only is fed singly where more are wanted."""
        if wanted <= 1 or self._keeps_all:
            return iter([(0, count)])
        # Before anything is known one token is fed with the next, so that the graph shows which kind it is.
        starts = [*([0] if silent else []), *range(silent, count)]
        return zip(starts, [*starts[1:], count], strict=True)

    def _learn(self, rows: int, tokens: int) -> None:
        if tokens > 1:
            self._keeps_all = rows == tokens

    def _generator(self, chunk: Chunk) -> Any:
        """The slot's generator, holding what the chunk follows."""
        found = self._generators.get(chunk.slot)
        held = self._held.setdefault(chunk.slot, [])
        if found is None or (len(held) > chunk.start == 0):
            found = self._begin(chunk.slot)
            held.clear()
        if chunk.start > len(held) or chunk.start + len(chunk.tokens) > self.context_tokens:
            raise EngineFailed(
                f"slot {chunk.slot} holds {len(held)} of {self.context_tokens} tokens, "
                f"and {len(chunk.tokens)} were to follow {chunk.start}"
            )
        if len(held) > chunk.start:
            found = self._rewound(chunk.slot, held[: chunk.start])
        del held[chunk.start :]
        return found

    def _begin(self, slot: int) -> Any:
        parameters = self._library.GeneratorParams(self._open_model())
        parameters.set_search_options(max_length=self.context_tokens)
        self._generators[slot] = self._library.Generator(self._model, parameters)
        return self._generators[slot]

    def _rewound(self, slot: int, tokens: list[int]) -> Any:
        """The slot's generator, holding these tokens of those that it held; read again where nothing is taken back."""
        if self.goes_back:
            try:
                self._generators[slot].rewind_to(len(tokens))
            except RuntimeError:  # whatever else was wrong shows when it reads again
                self.goes_back = False
            else:
                return self._generators[slot]
        found = self._begin(slot)
        found.append_tokens(np.asarray(tokens, np.int32))
        return found

    def _open_model(self) -> Any:
        if self._model is None:
            raise EngineFailed("the engine is closed", where=str(self.folder))
        return self._model


class GenaiTokenizer:
    """The library's own tokenizer and template, to hold ours against; the model itself is not needed.

    Raises EngineFailed, DependencyMissing.
    """

    def __init__(self, config: GenaiConfig) -> None:
        self._folder = config.folder
        library = _library()
        with _as_engine_failed(config.folder):
            self._tokenizer = library.Tokenizer(library.Config(str(config.folder)))

    def chat(self, messages: Sequence[Message]) -> list[int]:
        """The prompt's ids of a conversation that waits for an answer."""
        with _as_engine_failed(self._folder):
            text = self._tokenizer.apply_chat_template(
                json.dumps([dict(message) for message in messages]), add_generation_prompt=True
            )
        return self.encode(text)

    def encode(self, text: str) -> list[int]:
        """A text's ids."""
        with _as_engine_failed(self._folder):
            return [int(token) for token in self._tokenizer.encode(text)]


def _model(library: Any, config: GenaiConfig, threads: int) -> Any:
    session: Mapping[str, Any] = {"intra_op_num_threads": threads, "log_severity_level": _LOG_NOTHING_BELOW_FATAL}
    with _as_engine_failed(config.folder):
        made = library.Config(str(config.folder))
        made.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
        return library.Model(made)


@contextmanager
def _as_engine_failed(folder: Path) -> Iterator[None]:
    try:
        yield
    except EngineFailed:
        raise
    except Exception as error:  # the library raises RuntimeError, and whatever its bindings make of C++
        raise EngineFailed(_cause(error), where=str(folder), hint=DAMAGED.hint) from error


def _cause(error: Exception) -> str:
    """The part of a native error's first line that says something."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return f"onnxruntime-genai failed: {_ORT_PREAMBLE.sub('', line)[:_CAUSE_CHARACTERS]}"


def _library() -> Any:
    telemetry.switch_off()
    try:
        import onnxruntime_genai
    except ImportError as error:
        raise DependencyMissing(
            f"onnxruntime-genai cannot be imported: {error}",
            hint="pip install --force-reinstall onnxruntime-genai",
        ) from error
    if hasattr(onnxruntime_genai, "disable_telemetry_events"):
        onnxruntime_genai.disable_telemetry_events()
    return onnxruntime_genai
