"""What a model does for the scheduler: tokens go into slots, logits come out. The engines differ in this alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Chunk:
    """Work for one slot in one step: `tokens` follow the `start` that the slot holds already.

    wanted: logits are given after each of the last so many tokens; 0 where none are needed.
    What the slot holds beyond `start` is forgotten. Afterwards it holds start + len(tokens).
    reading: part of a prompt, computed in the same way however the prompt is cut, at even places at least.
    """

    slot: int
    tokens: Sequence[int]
    start: int
    wanted: int
    reading: bool = False


class Decoder(Protocol):
    """Keys and values of `slots` sequences of up to `context_tokens`, and the model that reads and writes them.

    Used by one thread at a time. threads: cores that it computes with.
    keeps_prefixes: whether `read` and `write` work, and results do not depend on how a prompt is cut.
    goes_back: whether a chunk may start anywhere in what its slot holds. Where it may not, the model keeps states
    (`kept.py`), and a chunk starts at the slot's end, or at 0.
    """

    name: str
    vocab_size: int
    slots: int
    context_tokens: int
    threads: int
    keeps_prefixes: bool
    goes_back: bool

    def step(self, chunks: Sequence[Chunk], *, invariant: bool = False) -> list[Floats]:
        """Logits of each chunk, float32 [wanted, vocab_size], good until the next step.

        Chunks of one token that are not read are computed together, others one after another; a slot occurs once.
        invariant: a chunk's result does not depend, to the bit, on what else is computed with it.
        Raises EngineFailed; then the slots of these chunks hold nothing of use beyond their `start`.
        """
        ...

    def read(self, slot: int, start: int, end: int) -> Floats:
        """A copy of keys and values of tokens start to end, [heads of all layers, tokens, size]."""
        ...

    def write(self, slot: int, start: int, entries: Floats) -> None:
        """Puts what `read` gave into a slot, from token `start` on."""
        ...

    def read_state(self, slot: int) -> Floats:
        """A copy of the states after the last token that the slot holds, [all of them]; empty where it `goes_back`."""
        ...

    def write_state(self, slot: int, state: Floats) -> None:
        """Puts what `read_state` gave into a slot that was written until there."""
        ...

    def release(self, slot: int) -> None:
        """The slot is free: what it holds is not needed any more."""
        ...

    def settle(self) -> bool:
        """Spends some milliseconds on what makes later steps faster; False where nothing of it is left to do."""
        ...

    def close(self) -> None:
        """Frees the model."""
        ...
