"""The contract of an engine: a prompt and sampling settings go in, tokens come out one by one."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

Message = Mapping[str, str]
"""One turn of a conversation: {"role": "system" | "user" | "assistant", "content": text}."""

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True)
class Prompt:
    """What the model reads, as token ids."""

    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; a field that is None takes the package's own default.

    temperature: 0 always takes the likeliest token.
    max_tokens: new tokens at most; None means as many as the context holds.
    stop: texts that end the answer and are not part of it.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Token:
    """One step of an answer.

    text: what this step adds to the answer; may be empty while a character is incomplete.
    finish: set on the last step only, which may carry no id (cancelled, or a stop text).
    """

    id: int | None
    text: str
    finish: FinishReason | None = None


@dataclass(frozen=True)
class Usage:
    """What an answer cost. TTFT: time to first token; decode speed leaves the first token out."""

    prompt_tokens: int
    completion_tokens: int
    ttft_s: float
    e2e_s: float

    @property
    def decode_tokens_per_s(self) -> float | None:
        """Tokens a second after the first; None for answers of one token."""
        if self.completion_tokens < 2 or self.e2e_s <= self.ttft_s:
            return None
        return (self.completion_tokens - 1) / (self.e2e_s - self.ttft_s)


class Engine(Protocol):
    """Runs one package. Not thread-safe: one answer at a time."""

    name: str
    context_tokens: int
    vocab_size: int
    defaults: Sampling

    def chat(self, messages: Sequence[Message]) -> Prompt:
        """The prompt of a conversation that waits for an answer. Raises TemplateInvalid."""
        ...

    def encode(self, text: str) -> Prompt:
        """The tokens of a text as it is, with no template around it."""
        ...

    def stream(
        self, prompt: Prompt, sampling: Sampling, cancel: threading.Event | None = None
    ) -> Iterator[Token]:
        """The answer, token by token. Raises PromptInvalid before the first and EngineFailed."""
        ...

    def score(self, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        """Logits after each token of a text: float32 [len(tokens), vocab_size]; row i predicts token i + 1."""
        ...

    def close(self) -> None:
        """Frees the model."""
        ...
