"""A language model that fits into a table, with a real tokenizer: what it finds likely can be worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeship.engine.continuous import ContinuousEngine
from edgeship.engine.decoders import Chunk, Floats
from edgeship.engine.grammar import Grammars
from edgeship.engine.opening import EngineOptions
from edgeship.engine.text import TextCodec
from tests.checkpoints import VOCAB
from tests.scripted import DEFAULTS, ScriptedDecoder

END = 2
TABLE: Floats = np.random.default_rng(0).normal(0.0, 2.0, (VOCAB, VOCAB)).astype(np.float32)
# Parts of characters, which rarely make any together, and what the tokenizer does not have.
for first, last in ((97, 190), (225, 258), (302, VOCAB)):
    TABLE[:, first : last + 1] -= 20.0
"""Logits of the next token, by the last one."""
LIKELY: Floats = np.log(np.exp(TABLE.astype(np.float64)) / np.exp(TABLE.astype(np.float64)).sum(1, keepdims=True))
"""Log-probabilities of the same."""


class BigramDecoder(ScriptedDecoder):
    """What comes next depends on the last token only."""

    vocab_size = VOCAB

    def _logits(self, chunk: Chunk) -> Floats:
        held = self._held[chunk.slot]
        held[chunk.start :] = chunk.tokens
        return TABLE[held[len(held) - chunk.wanted :]]


def open_bigram(folder: Path, context_tokens: int = 512) -> ContinuousEngine:
    """An engine with the tokenizer in a folder, as `checkpoints` makes them."""
    codec = TextCodec(folder, context_tokens)
    return ContinuousEngine(
        BigramDecoder({}, context_tokens=context_tokens),
        codec,
        Grammars(folder / "tokenizer.json", VOCAB, (END,), space_first=codec.drops_first_space),
        defaults=DEFAULTS,
        end_ids=(END,),
    )


ENGINE = "tests.bigram:open_package"
"""What `load` and IsolatedEngine take as the engine's name."""


def open_package(options: EngineOptions) -> ContinuousEngine:
    """The engine of a package that `tests.packages` made."""
    return open_bigram(options.folder)


def greedy(token: int, count: int) -> Sequence[int]:
    """The likeliest tokens after a token, up to the end of an answer."""
    made: list[int] = []
    while len(made) < count and END not in made:
        token = int(TABLE[token].argmax())
        made.append(token)
    return made
