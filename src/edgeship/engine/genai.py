"""onnxruntime-genai as an engine: any folder that it can run, with or without a manifest of ours."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeship import machine
from edgeship.engine.api import Message, Prompt, Sampling, Token, check_first, check_sampling, check_tokens
from edgeship.engine.chat import answer_tokens
from edgeship.engine.tokens import VERIFY_HINT, TextCodec, read_json
from edgeship.errors import DependencyMissing, EngineFailed

# A prompt is read in pieces: it can be cancelled, and a graph with logits for every token needs less memory.
CHUNK_TOKENS = 512
_CAUSE_CHARACTERS = 300
_SEEDS = 2**31
_LOG_NOTHING_BELOW_FATAL = 4
_ORT_PREAMBLE = re.compile(r".*\[ONNXRuntimeError\] : \d+ : \w+ : ")


class GenaiEngine:
    """Runs a package through onnxruntime-genai on this machine's CPU.

    threads: None uses every core granted here, whatever the package's maker had.
    Raises EngineFailed, DependencyMissing.
    """

    name = "genai"

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        self.folder = folder
        self.threads = machine.cores_to_use(threads)
        config = _read_config(folder)
        self.context_tokens = int(config["model"]["context_length"])
        self.vocab_size = int(config["model"]["vocab_size"])
        self.defaults = _defaults(config.get("search", {}))
        self._end_ids = _end_ids(config["model"])
        self._codec = TextCodec(folder)
        self._genai = _library()
        self._model: Any = self._load()
        self._tokenizer: Any = None

    def chat(self, messages: Sequence[Message]) -> Prompt:
        """The prompt of a conversation; see Engine.chat."""
        return self._codec.chat(messages)

    def encode(self, text: str) -> Prompt:
        """The tokens of a text, with the special tokens that the tokenizer puts around every text."""
        return self._codec.encode(text)

    def stream(self, prompt: Prompt, sampling: Sampling, cancel: threading.Event | None = None) -> Iterator[Token]:
        """The answer, token by token; see Engine.stream."""
        settings = sampling.over(self.defaults)
        check_tokens(prompt.tokens, limit=self.context_tokens - 1, vocab_size=self.vocab_size)
        check_sampling(settings)
        self._open_model()
        room = self.context_tokens - len(prompt.tokens)
        limit = min(settings.max_tokens or room, room)
        options = _search_options(settings, len(prompt.tokens) + limit, self.vocab_size)
        return answer_tokens(
            self._ids(prompt.tokens, options, cancel),
            self._codec.stream(),
            limit=limit,
            end_ids=() if settings.ignore_eos else self._end_ids,
            stop=settings.stop,
            cancel=cancel,
        )

    def score(self, tokens: Sequence[int], first: int = 0) -> npt.NDArray[np.float32]:
        """Logits after each token; see Engine.score. A graph that keeps only the last is fed singly from `first` on."""
        check_tokens(tokens, limit=self.context_tokens, vocab_size=self.vocab_size)
        check_first(first, tokens)
        rows: list[npt.NDArray[np.float32]] = []
        with _failing_as_ours(self.folder):
            # Two tokens tell which kind of graph this is.
            trial = self._generator({"max_length": len(tokens)})
            _append(trial, tokens[:2])
            keeps_all = trial.get_output("logits").shape[1] == len(tokens[:2])
            generator = self._generator({"max_length": len(tokens)})
            for start, end in _pieces(len(tokens), len(tokens) if keeps_all else first + 1):
                _append(generator, tokens[start:end])
                if end > first:
                    rows.append(np.array(generator.get_output("logits")[0], np.float32))
        return np.concatenate(rows)[first - len(tokens) :]

    def genai_tokens(self, messages: Sequence[Message]) -> list[int]:
        """The prompt's ids as the library's own tokenizer and template make them, to compare with `chat`."""
        with _failing_as_ours(self.folder):
            text = self._own_tokenizer().apply_chat_template(
                json.dumps([dict(message) for message in messages]), add_generation_prompt=True
            )
        return self.encode_with_genai(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special ones included."""
        return self._codec.decode(tokens, special=True)

    def encode_with_genai(self, text: str) -> list[int]:
        """A text's ids as onnxruntime-genai's own tokenizer makes them."""
        with _failing_as_ours(self.folder):
            return [int(token) for token in self._own_tokenizer().encode(text)]

    def close(self) -> None:
        """Frees the model; any later use raises EngineFailed."""
        self._model = self._tokenizer = None

    def _load(self) -> Any:
        session = {"intra_op_num_threads": self.threads, "log_severity_level": _LOG_NOTHING_BELOW_FATAL}
        with _failing_as_ours(self.folder):
            config = self._genai.Config(str(self.folder))
            config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
            return self._genai.Model(config)

    def _own_tokenizer(self) -> Any:
        if self._tokenizer is None:
            self._tokenizer = self._genai.Tokenizer(self._open_model())
        return self._tokenizer

    def _open_model(self) -> Any:
        if self._model is None:
            raise EngineFailed("the engine is closed", where=str(self.folder))
        return self._model

    def _generator(self, options: dict[str, Any]) -> Any:
        params = self._genai.GeneratorParams(self._open_model())
        params.set_search_options(**options)
        return self._genai.Generator(self._open_model(), params)

    def _ids(
        self, tokens: Sequence[int], options: dict[str, Any], cancel: threading.Event | None
    ) -> Generator[int, None, None]:
        with _failing_as_ours(self.folder):
            generator = self._generator(options)
            for start in range(0, len(tokens), CHUNK_TOKENS):
                if cancel and cancel.is_set():
                    return
                _append(generator, tokens[start : start + CHUNK_TOKENS])
            while True:
                generator.generate_next_token()
                yield int(generator.get_next_tokens()[0])


@contextmanager
def _failing_as_ours(folder: Path) -> Iterator[None]:
    try:
        yield
    except EngineFailed:
        raise
    except Exception as error:  # the library raises RuntimeError, and whatever its bindings make of C++
        raise EngineFailed(_cause(error), where=str(folder), hint=VERIFY_HINT) from error


def _cause(error: Exception) -> str:
    """The part of a native error's first line that says something."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return f"onnxruntime-genai failed: {_ORT_PREAMBLE.sub('', line)[:_CAUSE_CHARACTERS]}"


def _library() -> Any:
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


def _pieces(count: int, chunked: int) -> Iterator[tuple[int, int]]:
    """Where pieces of `count` tokens begin and end: chunks of the first `chunked`, then single tokens."""
    starts = [*range(0, chunked, CHUNK_TOKENS), *range(chunked, count)]
    return zip(starts, [*starts[1:], count], strict=True)


def _append(generator: Any, tokens: Sequence[int]) -> None:
    generator.append_tokens(np.asarray(tokens, np.int32))


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "genai_config.json"
    if not path.is_file():
        raise EngineFailed(
            "this is no package: genai_config.json is missing",
            where=str(folder),
            hint="See what is there with `edgeship cache ls`.",
        )
    config = read_json(path)
    model = config.get("model")
    for key in ("context_length", "vocab_size"):
        value = model.get(key) if isinstance(model, dict) else None
        if not isinstance(value, int) or value < 1:
            raise EngineFailed(f"genai_config.json has no usable model.{key}", where=str(path), hint=VERIFY_HINT)
    return config


def _end_ids(model: dict[str, Any]) -> frozenset[int]:
    ids = model.get("eos_token_id", [])
    return frozenset(ids if isinstance(ids, list) else [ids])


def _defaults(search: dict[str, Any]) -> Sampling:
    """The package's own settings. Its max_length becomes the longest answer: long prompts get one too."""
    return Sampling(
        temperature=search.get("temperature", 1.0) if search.get("do_sample") else 0.0,
        top_p=search.get("top_p") or 1.0,
        top_k=search.get("top_k") or 0,
        repetition_penalty=search.get("repetition_penalty", 1.0),
        max_tokens=search.get("max_length"),
    )


def _search_options(settings: Sampling, max_length: int, vocab_size: int) -> dict[str, Any]:
    """Checked and complete settings in the library's words. `max_length` counts the prompt."""
    options: dict[str, Any] = {
        "max_length": max_length,
        "do_sample": bool(settings.temperature),
        "repetition_penalty": settings.repetition_penalty,
    }
    if settings.ignore_eos:
        options["min_length"] = max_length
    if settings.temperature:
        options |= {
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "top_k": min(settings.top_k or 0, vocab_size),
        }
        if settings.seed is not None:
            options["random_seed"] = settings.seed % _SEEDS
    return options
