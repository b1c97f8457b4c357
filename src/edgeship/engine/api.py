"""The contract of an engine: a prompt and sampling settings go in, tokens come out one by one."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from edgeship.errors import PromptInvalid

if TYPE_CHECKING:
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
    top_k: 0 leaves every token in.
    max_tokens: new tokens at most; the context may hold fewer.
    stop: texts that end the answer and are not part of it.
    ignore_eos: go on past the tokens that end an answer, up to max_tokens; for measuring speed.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False

    def over(self, defaults: Sampling) -> Sampling:
        """These settings, with `defaults` where a field is None."""
        unset = {field.name for field in fields(self) if getattr(self, field.name) is None}
        return replace(self, **{name: getattr(defaults, name) for name in unset})


@dataclass(frozen=True)
class Token:
    """One step of an answer.

    text: what this step adds to the answer; may be empty while a character is incomplete.
    finish: set on the last step only. Only a cancelled answer ends with a step without id; a token that ends
    the answer has its id and is counted, but leaves no text.
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

    def to_dict(self) -> dict[str, Any]:
        """The usage as `--json` prints it."""
        return asdict(self) | {"decode_tokens_per_s": self.decode_tokens_per_s}


class Engine(Protocol):
    """Runs one package. Not thread-safe: one answer at a time."""

    name: str
    context_tokens: int
    vocab_size: int
    defaults: Sampling

    def chat(self, messages: Sequence[Message]) -> Prompt:
        """The prompt of a conversation that waits for an answer.

        Raises TemplateMissing, TemplateInvalid, and PromptInvalid for a conversation without a message.
        """
        ...

    def encode(self, text: str) -> Prompt:
        """The tokens of a text as it is, with no template around it."""
        ...

    def stream(self, prompt: Prompt, sampling: Sampling, cancel: threading.Event | None = None) -> Iterator[Token]:
        """The answer, token by token; closing the iterator, or dropping it, frees what it holds.

        Raises PromptInvalid at once, and EngineFailed at any step.
        """
        ...

    def score(self, tokens: Sequence[int], first: int = 0) -> npt.NDArray[np.float32]:
        """Logits after each token of a text from number `first` on: float32 [len(tokens) - first, vocab_size].

        Row i predicts token first + i + 1. Raises PromptInvalid, EngineFailed.
        """
        ...

    def close(self) -> None:
        """Frees the model; any later use raises EngineFailed."""
        ...


def check_tokens(tokens: Sequence[int], *, limit: int, vocab_size: int) -> None:
    """Raises PromptInvalid for no tokens, more than `limit`, or ids that the model does not have."""
    if not tokens:
        raise PromptInvalid("the prompt is empty", hint="Give at least one token of text.")
    if len(tokens) > limit:
        raise PromptInvalid(
            f"the prompt has {len(tokens)} tokens and the model takes at most {limit}",
            hint="Shorten the prompt or the conversation.",
        )
    strangers = [token for token in tokens if not 0 <= token < vocab_size]
    if strangers:
        raise PromptInvalid(f"token id {strangers[0]} is outside the vocabulary of {vocab_size}")


def check_first(first: int, tokens: Sequence[int]) -> None:
    """Raises PromptInvalid where `first` is no place in the text."""
    if not 0 <= first < len(tokens):
        raise PromptInvalid(f"token {first} is not among {len(tokens)}")


def check_sampling(sampling: Sampling) -> None:
    """Raises PromptInvalid for a setting out of its range, with the value and the range."""
    faults = {
        "temperature": (_is_below(sampling.temperature, 0), "a number of at least 0"),
        "top_p": (
            sampling.top_p is not None and not 0 < sampling.top_p <= 1,
            "greater than 0 and at most 1",
        ),
        "top_k": (_is_below(sampling.top_k, 0), "at least 0"),
        "repetition_penalty": (
            _is_below(sampling.repetition_penalty, 0) or sampling.repetition_penalty == 0,
            "a number greater than 0",
        ),
        "max_tokens": (_is_below(sampling.max_tokens, 1), "at least 1"),
        "stop": ("" in sampling.stop, "without empty texts"),
    }
    for name, (wrong, rule) in faults.items():
        if wrong:
            raise PromptInvalid(f"{name} is {getattr(sampling, name)!r}; it must be {rule}")


def utf8(text: str) -> bytes:
    """A text's bytes. Raises PromptInvalid for halves of surrogate pairs, which are no text."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptInvalid(f"the text is not Unicode: {error}") from error


def _is_below(value: float | None, least: float) -> bool:
    return value is not None and not (math.isfinite(value) and value >= least)
